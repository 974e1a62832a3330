"""What DirectML, CUDA and the CPU take of ONNX Runtime GenAI directories: the official builder's and hand-made ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason='reading ONNX models needs the onnx package: pip install "aipc[onnx]"')

from decoder_graph import node_of, write_decoder
from recorded import unpack
from tiny_checkpoint import write_checkpoint

from aipc.check import Finding, Report, check
from aipc.check.kernels import kernel_table
from aipc.conversion import convert
from aipc.errors import AipcError, ConfigError, IntegrityError, StoreError

MADE_FOR = {
    "builder-cpu-int4": "cpu",
    "builder-cpu-fp32": "cpu",
    "builder-dml-int4": "directml",
    "builder-dml-fp16": "directml",
    "builder-cuda-int4": "cuda",
    "builder-cuda-fp16": "cuda",
}

Change = Callable[[Any], None]


def rules_broken(report: Report) -> set[str]:
    return {finding.rule for finding in report.failures}


def failing(report: Report, rule: str) -> Finding:
    """The one failure of a rule."""
    found = [finding for finding in report.failures if finding.rule == rule]
    assert len(found) == 1, report.findings
    return found[0]


@pytest.mark.parametrize("name", MADE_FOR)
@pytest.mark.parametrize("device", ["cpu", "directml", "cuda"])
def test_the_official_builders_models_pass_where_they_were_made_for_and_nowhere_else(
    name: str, device: str, tmp_path: Path
) -> None:
    report = check(unpack(name, tmp_path), device)
    assert report.passes == (MADE_FOR[name] == device), report.findings
    assert f"made for {MADE_FOR[name]}" in report.summary
    if not report.passes:
        assert (
            failing(report, "genai/provider").remedy
            == f"aipc convert SOURCE OUT --to onnx --device {device} --weights int4"
        )


@pytest.mark.parametrize("name", ["builder-cpu-int4", "builder-cpu-fp32"])
def test_what_passes_for_the_cpu_loads_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    directory = unpack(name, tmp_path)
    assert check(directory, "cpu").passes
    onnxruntime.InferenceSession(str(directory / "model.onnx"), providers=["CPUExecutionProvider"])


def test_the_hand_made_decoder_loads_in_onnx_runtime(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    directory = write_decoder(tmp_path / "decoder")
    onnxruntime.InferenceSession(str(directory / "model.onnx"), providers=["CPUExecutionProvider"])


def test_a_cpu_model_fails_on_directml_for_each_reason_by_name(tmp_path: Path) -> None:
    report = check(unpack("builder-cpu-int4", tmp_path), "directml")
    assert rules_broken(report) == {"genai/provider", "directml/half-precision", "directml/attention"}
    assert "logits" in failing(report, "directml/half-precision").where
    attention = [finding for finding in report.failures if finding.rule == "directml/attention"]
    assert {finding.where for finding in attention} == {("/model/layers.0/attn/GroupQueryAttention",)}
    assert {finding.expected for finding in attention} == {
        "do_rotary 0, with RotaryEmbedding before it",
        "no cos_cache and sin_cache",
        "query, key and value as three inputs",
    }


def test_fp32_fails_on_cuda_at_its_attention(tmp_path: Path) -> None:
    report = check(unpack("builder-cpu-int4", tmp_path), "cuda")
    assert failing(report, "cuda/operator").where == ("/model/layers.0/attn/GroupQueryAttention",)


def test_a_window_in_the_config_alone_is_noted(tmp_path: Path) -> None:
    notes = check(unpack("builder-cpu-int4", tmp_path), "cpu").notes
    assert {note.rule for note in notes} == {"genai/window", "files/tokenizer"}


@pytest.mark.parametrize("device", ["npu", "gpu"])
def test_an_onnx_directory_is_none_for_intels_npu_and_gpu(device: str, tmp_path: Path) -> None:
    finding = failing(check(unpack("builder-dml-int4", tmp_path), device), "format")
    assert finding.found == "an ONNX Runtime GenAI directory made for directml"
    assert finding.remedy == "aipc convert SOURCE OUT --weights int4 --group-size 128"


def test_the_hand_made_decoder_passes_on_directml(tmp_path: Path) -> None:
    report = check(write_decoder(tmp_path / "decoder"), "directml")
    assert report.passes, report.findings
    assert not {note.rule for note in report.notes} - {"directml/one-prefill", "files/tokenizer"}


def set_attribute(operator: str, **attributes: Any) -> Change:
    def change(model: Any) -> None:
        from onnx import helper

        node = node_of(model, operator)
        for name, value in attributes.items():
            kept = [attribute for attribute in node.attribute if attribute.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def set_input(operator: str, index: int, name: str) -> Change:
    def change(model: Any) -> None:
        node = node_of(model, operator)
        node.input.extend([""] * (index + 1 - len(node.input)))
        node.input[index] = name

    return change


def branch(model: Any) -> None:
    """An If around nothing much, whose result nobody reads."""
    from onnx import TensorProto, helper

    out = [helper.make_tensor_value_info("chosen", TensorProto.FLOAT16, None)]
    body = helper.make_graph([helper.make_node("Identity", ["cos"], ["chosen"], name="inside")], "branch", [], out)
    condition = helper.make_node(
        "Constant", [], ["long"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True]), name="constant"
    )
    choice = helper.make_node("If", ["long"], ["cache"], name="choose_cache", then_branch=body, else_branch=body)
    model.graph.node.insert(0, choice)
    model.graph.node.insert(0, condition)


def quantised_embedding(model: Any) -> None:
    node = node_of(model, "Gather")
    node.op_type, node.domain = "GatherBlockQuantized", "com.microsoft"


@pytest.mark.parametrize(
    ("change", "rule", "where"),
    [
        (set_attribute("GroupQueryAttention", do_rotary=1), "directml/attention", "attended"),
        (set_attribute("GroupQueryAttention", local_window_size=47), "directml/attention", "attended"),
        (set_attribute("GroupQueryAttention", softcap=30.0), "directml/attention", "attended"),
        (set_input("GroupQueryAttention", 1, ""), "directml/attention", "attended"),
        (set_input("GroupQueryAttention", 10, "cos"), "directml/attention", "attended"),
        (branch, "directml/branches", "choose_cache"),
        (quantised_embedding, "directml/operator", "embedded"),
        (set_attribute("MatMulNBits", bits=2), "matmulnbits/bits", "q_proj.weight"),
        (set_attribute("MatMulNBits", block_size=24), "matmulnbits/block-size", "q_proj.weight"),
        (set_input("MatMulNBits", 5, "q_proj.scales"), "directml/matmulnbits", "q_proj.weight"),
        (set_input("MatMulNBits", 3, "q_proj.scales"), "directml/matmulnbits", "q_proj.weight"),
    ],
)
def test_each_rule_of_directml_fails_at_its_node(change: Change, rule: str, where: str, tmp_path: Path) -> None:
    report = check(write_decoder(tmp_path / "decoder", change_graph=change), "directml")
    assert where in failing(report, rule).where


def test_a_quantised_weight_of_another_shape_than_it_says_fails_by_name(tmp_path: Path) -> None:
    change = set_attribute("MatMulNBits", block_size=64)
    report = check(write_decoder(tmp_path / "decoder", change_graph=change), "directml")
    places = {place for finding in report.failures if finding.rule == "matmulnbits/shape" for place in finding.where}
    assert places == {"q_proj.scales"}  # the codes have as many bytes in blocks of 64


def test_newer_definitions_of_operators_fail_on_directml(tmp_path: Path) -> None:
    report = check(write_decoder(tmp_path / "decoder", opset=23), "directml")
    broken = [finding for finding in report.failures if finding.rule == "directml/operator"]
    assert {"Cast of opset 23", "Shape of opset 23"} == {finding.found for finding in broken}
    assert check(write_decoder(tmp_path / "older", opset=22), "directml").passes


def test_branches_are_allowed_on_cuda_unless_its_graph_is_captured(tmp_path: Path) -> None:
    def options(captured: str) -> Change:
        def change(config: Any) -> None:
            entry = {"cuda": {"enable_cuda_graph": captured}}
            config["model"]["decoder"]["session_options"]["provider_options"] = [entry]

        return change

    off = write_decoder(tmp_path / "off", change_graph=branch, change_config=options("0"))
    assert check(off, "cuda").passes
    on = write_decoder(tmp_path / "on", change_graph=branch, change_config=options("1"))
    assert failing(check(on, "cuda"), "cuda/graph").where == ("choose_cache",)


def in_decoder(**values: Any) -> Change:
    return lambda config: config["model"]["decoder"].update(values)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (in_decoder(num_hidden_layers=2), "genai/layers"),
        (in_decoder(num_key_value_heads=1), "genai/cache"),
        (in_decoder(head_size=16), "genai/cache"),
        (in_decoder(num_attention_heads=4), "genai/heads"),
        (lambda config: config["model"].update(vocab_size=100), "genai/vocabulary"),
        (lambda config: config["model"]["decoder"]["inputs"].update(position_ids="positions"), "genai/names"),
        (lambda config: config["model"]["decoder"]["inputs"].update(input_ids="ids"), "genai/names"),
        (lambda config: config["search"].update(chunk_size=64), "directml/chunks"),
        (
            lambda config: config["model"]["decoder"]["session_options"].update(provider_options=[{"webgpu": {}}]),
            "genai/provider",
        ),
    ],
)
def test_a_config_that_contradicts_the_graph_fails(change: Change, rule: str, tmp_path: Path) -> None:
    report = check(write_decoder(tmp_path / "decoder", change_config=change), "directml")
    assert rule in rules_broken(report), report.findings


def test_names_that_the_config_leaves_out_are_genais_own(tmp_path: Path) -> None:
    directory = write_decoder(tmp_path / "decoder", change_config=in_decoder(inputs={}, outputs={}))
    assert check(directory, "directml").passes


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("model"),
        lambda config: config["model"].pop("vocab_size"),
        in_decoder(num_hidden_layers="many"),
        in_decoder(session_options={"provider_options": ["dml"]}),
    ],
)
def test_a_config_without_what_is_needed_names_the_key(change: Change, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"genai_config\.json"):
        check(write_decoder(tmp_path / "decoder", change_config=change), "directml")


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a\\b.onnx", ""])
def test_a_graph_outside_the_directory_is_never_opened(name: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="not safe to open"):
        check(write_decoder(tmp_path / "decoder", change_config=in_decoder(filename=name)), "cpu")


def relocate(location: str) -> Change:
    """Not by onnx, which would write there."""

    def change(directory: Path) -> None:
        import onnx

        model = onnx.load(str(directory / "model.onnx"), load_external_data=False)
        for weight in model.graph.initializer:
            for entry in weight.external_data:
                if entry.key == "location":
                    entry.value = location
        (directory / "model.onnx").write_bytes(model.SerializeToString())

    return change


@pytest.mark.parametrize(
    "location", ["../model.onnx.data", "/etc/passwd", "C:\\data", "\\\\host\\share", "a/../../b", "", "a\x1b[2J"]
)
def test_weights_outside_the_directory_fail_by_name_and_are_not_looked_for(location: str, tmp_path: Path) -> None:
    directory = write_decoder(tmp_path / "decoder")
    relocate(location)(directory)
    (tmp_path / "model.onnx.data").touch()
    finding = next(f for f in check(directory, "directml").failures if f.rule == "files/external-data")
    assert "q_proj.weight" in finding.where
    assert finding.expected == "a file in the model's directory"


def test_a_missing_or_short_file_of_weights_fails(tmp_path: Path) -> None:
    directory = write_decoder(tmp_path / "decoder")
    data = directory / "model.onnx.data"
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)
    short = [finding for finding in check(directory, "directml").failures if finding.rule == "files/external-data"]
    assert short
    assert "embed" not in {place for finding in short for place in finding.where}  # the first lies in what is left
    data.unlink()
    assert failing(check(directory, "directml"), "files/external-data").where == ("model.onnx.data",)


def test_weights_are_not_read(tmp_path: Path) -> None:
    """The file of weights may be a terabyte, as far as this is concerned."""
    directory = write_decoder(tmp_path / "decoder")
    with (directory / "model.onnx.data").open("r+b") as file:
        file.truncate(2**40)
    assert check(directory, "directml").passes


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"<html>404</html>", b"\x08\x0a"])
def test_what_is_no_onnx_model_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    directory = write_decoder(tmp_path / "decoder")
    (directory / "model.onnx").write_bytes(content)
    with pytest.raises(IntegrityError, match="an ONNX model"):
        check(directory, "cpu")


def test_a_name_that_is_not_utf8_is_shown_with_escapes(tmp_path: Path) -> None:
    directory = write_decoder(tmp_path / "decoder")
    graph = (directory / "model.onnx").read_bytes()
    (directory / "model.onnx").write_bytes(graph.replace(b"q_proj.weight", b"q_proj.\xff\xfeight"))
    missing_data = (directory / "model.onnx.data").rename(tmp_path / "elsewhere")
    assert missing_data.exists()
    assert not check(directory, "directml").passes


def test_a_graph_with_its_weights_inside_is_refused_when_it_is_large(tmp_path: Path) -> None:
    directory = write_decoder(tmp_path / "decoder")
    with (directory / "model.onnx").open("r+b") as file:
        file.truncate(2**31)
    with pytest.raises(StoreError, match="weights inside"):
        check(directory, "cpu")


def test_an_operator_that_no_table_knows_is_noted(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        from onnx import helper

        model.graph.node.append(helper.make_node("Teleport", ["cos"], ["gone"], name="beam_up", domain="org.example"))

    notes = check(write_decoder(tmp_path / "decoder", change_graph=change), "directml").notes
    assert ("beam_up",) in {note.where for note in notes if note.rule == "directml/operator"}


@pytest.mark.parametrize("provider", ["cpu", "cuda", "directml"])
def test_every_table_of_kernels_names_its_source_and_has_the_decoders_operators(provider: str) -> None:
    table = kernel_table(provider)
    assert "onnxruntime" in table.source
    assert {"MatMul", "com.microsoft.MatMulNBits", "com.microsoft.GroupQueryAttention"} <= set(table.kernels)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**9), junk=st.binary(min_size=1, max_size=12))
def test_a_damaged_graph_never_ends_in_a_traceback(position: int, junk: bytes, tmp_path: Path) -> None:
    directory = tmp_path / "builder-dml-int4"
    if not directory.exists():
        unpack("builder-dml-int4", tmp_path)
        (tmp_path / "whole.onnx").write_bytes((directory / "model.onnx").read_bytes())
    graph = bytearray((tmp_path / "whole.onnx").read_bytes())
    position %= len(graph)
    graph[position : position + len(junk)] = junk
    (directory / "model.onnx").write_bytes(graph)
    with suppress(AipcError):
        check(directory, "directml")


@pytest.mark.parametrize(
    ("hidden_size", "recipe"),
    [(128, "--weights int4"), (192, "--weights int4 --group-size 64"), (160, "--weights int4 --group-size 32")],
)
def test_the_command_that_helps_has_groups_that_divide_the_columns(
    hidden_size: int, recipe: str, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(
        tmp_path / "c", "phi-4", hidden_size=hidden_size, num_attention_heads=hidden_size // 32, intermediate_size=256
    )
    out = tmp_path / "out"
    convert(checkpoint, out, to="onnx", weights="int8")
    remedy = failing(check(out, "directml"), "genai/provider").remedy
    assert remedy is not None and remedy.endswith(f"--device directml {recipe}")
    flags = recipe.split()
    group_size = int(flags[-1]) if "--group-size" in flags else None
    convert(checkpoint, tmp_path / "again", to="onnx", device="directml", weights="int4", group_size=group_size)
    assert check(tmp_path / "again", "directml").passes
