"""What the NPU, the GPU and the CPU take of OpenVINO IRs: aipc's own and optimum-intel's, whole and damaged."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import unpack_ir
from tiny_checkpoint import SHAPES, write_checkpoint

from aipc.check import Finding, Report, check
from aipc.conversion import convert, write_model
from aipc.errors import AipcError, IntegrityError, StoreError
from aipc.quant.recipe import Recipe
from aipc.store import origin_of, resolve

LAYER_WEIGHTS = {
    f"model.layers.{layer}.{name}.weight"
    for layer in (0, 1)
    for name in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
}


def failing(report: Report, rule: str) -> Finding:
    """The one failure of a rule."""
    found = [finding for finding in report.failures if finding.rule == rule]
    assert len(found) == 1, report.findings
    return found[0]


def written(checkpoint: Path, out: Path, recipe: Recipe) -> Path:
    return write_model(checkpoint, origin_of(resolve(checkpoint)), out, recipe).path


def edit_xml(model_dir: Path, old: str, new: str) -> Path:
    file = model_dir / "openvino_model.xml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    return model_dir


@pytest.fixture(scope="session")
def wide_checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 256 and 512 weights, so that groups of 128 are not whole rows."""
    directory = tmp_path_factory.mktemp("checkpoints") / "wide"
    return write_checkpoint(directory, hidden_size=256, intermediate_size=512)


@pytest.fixture
def int4_dir(tmp_path: Path, wide_checkpoint_dir: Path) -> Path:
    return written(wide_checkpoint_dir, tmp_path / "int4", Recipe("int4"))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("int4"),
        Recipe("int4", -1),
        Recipe("int4", all_layers=True),
        Recipe("int8", symmetric=True),
        Recipe("fp16"),
    ],
    ids=lambda recipe: recipe.label,
)
@pytest.mark.parametrize("device", ["npu", "gpu", "cpu"])
def test_recipes_for_the_npu_pass_everywhere(
    recipe: Recipe, device: str, tmp_path: Path, wide_checkpoint_dir: Path
) -> None:
    report = check(written(wide_checkpoint_dir, tmp_path / "out", recipe), device)
    assert report.passes, report.failures
    assert report.kind == "openvino"


def test_asymmetric_int4_fails_on_the_npu_and_names_every_weight(tmp_path: Path, wide_checkpoint_dir: Path) -> None:
    model = written(wide_checkpoint_dir, tmp_path / "asym", Recipe("int4", symmetric=False))
    finding = failing(check(model, "npu"), "npu/symmetric")
    assert set(finding.where) == LAYER_WEIGHTS
    assert finding.found == "u4 g128 with zero points"
    assert check(model, "cpu").passes
    assert check(model, "gpu").passes


def test_groups_of_32_fail_on_the_npu_and_groups_of_64_are_noted(tmp_path: Path, wide_checkpoint_dir: Path) -> None:
    small = check(written(wide_checkpoint_dir, tmp_path / "g32", Recipe("int4", 32)), "npu")
    assert set(failing(small, "npu/group-size").where) == LAYER_WEIGHTS
    assert failing(small, "npu/group-size").found == "i4 g32"
    middle = check(written(wide_checkpoint_dir, tmp_path / "g64", Recipe("int4", 64)), "npu")
    assert middle.passes
    assert "npu/group-size" in {note.rule for note in middle.notes}


def test_a_mixture_of_int4_and_int8_fails_on_the_npu_at_the_int8_weights(
    tmp_path: Path, wide_checkpoint_dir: Path
) -> None:
    finding = failing(
        check(written(wide_checkpoint_dir, tmp_path / "mix", Recipe("int4", ratio=0.5)), "npu"), "npu/ratio"
    )
    assert set(finding.where) < LAYER_WEIGHTS
    assert finding.found == "u8 per row with zero points"


def test_the_command_that_a_failure_names_makes_a_model_that_passes(tmp_path: Path, wide_checkpoint_dir: Path) -> None:
    model = written(wide_checkpoint_dir, tmp_path / "asym", Recipe("int4", symmetric=False))
    remedy = failing(check(model, "npu"), "npu/symmetric").remedy
    assert remedy == f"aipc convert {wide_checkpoint_dir} OUT --weights int4 --group-size 128"
    assert check(convert(wide_checkpoint_dir, tmp_path / "out", weights="int4", group_size=128).path, "npu").passes


def test_the_command_has_one_scale_a_row_where_128_divides_no_row(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", hidden_size=96, intermediate_size=192)
    model = written(checkpoint, tmp_path / "g32", Recipe("int4", 32))
    remedy = failing(check(model, "npu"), "npu/group-size").remedy
    assert remedy is not None
    assert remedy.endswith("--group-size -1")
    assert check(written(checkpoint, tmp_path / "row", Recipe("int4", -1)), "npu").passes


@pytest.mark.parametrize("shape", SHAPES)
def test_every_architecture_passes_on_the_npu(shape: str, tmp_path: Path) -> None:
    model = written(write_checkpoint(tmp_path / "checkpoint", shape), tmp_path / "out", Recipe("int4"))
    assert check(model, "npu").passes


def test_the_npu_is_told_of_its_static_lengths_and_of_memory(int4_dir: Path) -> None:
    notes = {note.rule: note.found for note in check(int4_dir, "npu").notes}
    assert "1024" in notes["npu/static-lengths"]
    # 2 layers · (keys, values) · 4 heads · 64 · 2 bytes · 1152 tokens = 2.25 MiB
    assert "2 MiB for that context" in notes["npu/memory"]


def test_other_names_of_the_cache_fail_on_the_npu_alone(int4_dir: Path) -> None:
    edit_xml(int4_dir, "past_key_values.1.keypresent.1.key", "cache.1.key")
    assert {finding.where for finding in check(int4_dir, "npu").failures if finding.rule == "npu/kv-names"} == {
        ("cache.1.key",),
        ("layer 1",),
    }
    assert check(int4_dir, "cpu").passes


def test_a_cache_that_beams_do_not_reorder_fails_on_the_npu(int4_dir: Path) -> None:
    edit_xml(int4_dir, '"beam_idx"', '"beams"')
    report = check(int4_dir, "npu")
    assert len(failing(report, "npu/beam-gather").where) == 4
    assert failing(report, "openvino/inputs").where == ("beam_idx",)


def test_scales_that_are_too_few_fail_on_the_npu(int4_dir: Path) -> None:
    edit_xml(int4_dir, 'shape="256, 4, 1"', 'shape="256, 1, 1"')
    finding = failing(check(int4_dir, "npu"), "npu/scales")
    assert set(finding.where) == {f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1)}
    assert (finding.expected, finding.found) == ("a scale for each of 1,024 groups", "256")


def test_weights_in_an_unknown_pattern_do_not_pass_on_the_npu(int4_dir: Path) -> None:
    edit_xml(int4_dir, 'type="Multiply"', 'type="Divide"')
    unread = [finding for finding in check(int4_dir, "npu").failures if finding.rule == "npu/unread"]
    places = {place for finding in unread for place in finding.where}
    assert places >= LAYER_WEIGHTS | {"openvino_model.xml", "lm_head.weight", "lm_head.weight/zero_point"}


def test_a_model_without_state_fails(int4_dir: Path) -> None:
    edit_xml(int4_dir, '"ReadValue"', '"Identity"')
    assert failing(check(int4_dir, "cpu"), "openvino/state").found == "a model without state"


def test_an_fp16_weight_without_its_mark_is_noted(tmp_path: Path, wide_checkpoint_dir: Path) -> None:
    model = written(wide_checkpoint_dir, tmp_path / "fp16", Recipe("fp16"))
    edit_xml(model, '<rt_info><attribute name="decompression" version="0"/></rt_info>', "")
    report = check(model, "cpu")
    assert report.passes
    assert "openvino/decompression" in {note.rule for note in report.notes}


def test_optimums_symmetric_export_passes_and_its_default_fails_on_the_npu(tmp_path: Path) -> None:
    assert check(unpack_ir("optimum-int4-sym", tmp_path), "npu").passes
    asymmetric = unpack_ir("optimum-int4-asym", tmp_path)
    finding = failing(check(asymmetric, "npu"), "npu/symmetric")
    assert len(finding.where) == 4
    assert finding.found == "u4 g64 with zero points"
    assert finding.remedy == "aipc convert SOURCE OUT --weights int4 --group-size 128"
    assert check(asymmetric, "cpu").passes


def test_a_missing_or_short_file_of_weights_fails(int4_dir: Path) -> None:
    weights = int4_dir / "openvino_model.bin"
    size = weights.stat().st_size
    with weights.open("r+b") as file:
        file.truncate(size - 1)
    assert failing(check(int4_dir, "cpu"), "files/weights").found == f"{size - 1:,} bytes"
    weights.unlink()
    assert failing(check(int4_dir, "cpu"), "files/weights").found == "no such file"


def test_a_constant_whose_size_contradicts_its_shape_fails_by_name(int4_dir: Path) -> None:
    edit_xml(int4_dir, 'shape="512, 256"', 'shape="512, 254"')
    assert set(failing(check(int4_dir, "cpu"), "files/constant").where) == {
        "model.embed_tokens.weight",
        "lm_head.weight",
    }


BOMB = '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {name} "{f"&{previous};" * 10}">' for previous, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "document",
    [
        f'<?xml version="1.0"?>{BOMB}]><net version="11"><layers>&i;</layers></net>',
        '<!DOCTYPE net SYSTEM "file:///etc/passwd"><net version="11"/>',
        "<html><body>404</body></html>",
        '<net version="11"><layers><layer id="0" name="x" type="Const">',
        '<net version="3"><layers/></net>',
        '<net version="11"><layers></layers></net>',
        '<net version="11"><layers><layer id="0" name="x" type="A"/></layers>'
        '<edges><edge from-layer="0" from-port="0" to-layer="9" to-port="0"/></edges></net>',
        '<net version="11"><layers><layer id="0" name="x" type="Const"><data element_type="f32" shape="2" offset="-1" '
        'size="8"/></layer></layers></net>',
        "\x00\x01",
        "",
    ],
    ids=[
        "entity bomb",
        "external entity",
        "html",
        "truncated",
        "version",
        "empty",
        "edge",
        "offset",
        "binary",
        "nothing",
    ],
)
def test_what_is_no_ir_is_refused_in_one_line(document: str, int4_dir: Path) -> None:
    (int4_dir / "openvino_model.xml").write_text(document, encoding="utf-8")
    with pytest.raises(IntegrityError) as caught:
        check(int4_dir, "npu")
    assert "openvino_model.xml" in caught.value.what


def test_an_ir_that_is_too_large_is_refused_unread(int4_dir: Path) -> None:
    with (int4_dir / "openvino_model.xml").open("r+b") as file:
        file.truncate(2**40)  # a sparse file
    with pytest.raises(StoreError, match="at most"):
        check(int4_dir, "npu")


def test_edges_in_a_circle_end(int4_dir: Path) -> None:
    (int4_dir / "openvino_model.xml").write_text(
        '<net version="11"><layers><layer id="0" name="a" type="Convert"/><layer id="1" name="b" type="MatMul"/>'
        '</layers><edges><edge from-layer="0" from-port="0" to-layer="0" to-port="0"/>'
        '<edge from-layer="0" from-port="0" to-layer="1" to-port="1"/></edges></net>',
        encoding="utf-8",
    )
    assert not check(int4_dir, "npu").passes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**9), junk=st.binary(min_size=1, max_size=12))
def test_a_damaged_ir_never_ends_in_a_traceback(position: int, junk: bytes, tmp_path: Path) -> None:
    if not (tmp_path / "optimum-int4-sym").exists():
        unpack_ir("optimum-int4-sym", tmp_path)
        (tmp_path / "whole.xml").write_bytes((tmp_path / "optimum-int4-sym" / "openvino_model.xml").read_bytes())
    text = bytearray((tmp_path / "whole.xml").read_bytes())
    position %= len(text)
    text[position : position + len(junk)] = junk
    (tmp_path / "optimum-int4-sym" / "openvino_model.xml").write_bytes(text)
    with suppress(AipcError):
        check(tmp_path / "optimum-int4-sym", "npu")
