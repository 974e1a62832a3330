"""What --dry-run promises, compared with what the conversion then writes."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from recipes import RECIPES, converted
from tiny_checkpoint import random_weights, write_checkpoint, write_weights

from aipc.checkpoint import Checkpoint
from aipc.conversion import convert, plan_conversion
from aipc.graph.inventory import Role
from aipc.plan import make_plan, relative_squared_error
from aipc.quant.int4 import Int4
from aipc.quant.int8 import Int8
from aipc.quant.recipe import Recipe

DOWN = "model.layers.{}.mlp.down_proj.weight"


def written_sizes(model_dir: Path) -> dict[str, int]:
    """Bytes of each weight's constants in the IR: codes, scale and zero point together."""
    sizes: dict[str, int] = {}
    for layer in ElementTree.parse(model_dir / "openvino_model.xml").getroot().findall("layers/layer"):
        name = layer.attrib["name"]
        if layer.get("type") == "Const" and ".weight" in name:
            weight = name.removesuffix("/scale").removesuffix("/zero_point")
            sizes[weight] = sizes.get(weight, 0) + int(layer.find("data").get("size"))
    return sizes


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_the_planned_sizes_are_those_of_the_written_constants(
    tiny_checkpoint_dir: Path, tmp_path: Path, recipe: Recipe
) -> None:
    plan = plan_conversion(tiny_checkpoint_dir, recipe)
    out = converted(tiny_checkpoint_dir, tmp_path / "out", recipe)
    assert {planned.use.name: planned.size_bytes for planned in plan.weights} == written_sizes(out)
    small_constants = (out / "openvino_model.bin").stat().st_size - plan.weights_bytes
    assert 0 < small_constants < 16_384  # they and the padding do not grow with the weights


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_bits_per_weight_count_scales_and_zero_points(tiny_checkpoint_dir: Path, recipe: Recipe) -> None:
    plan = plan_conversion(tiny_checkpoint_dir, recipe)
    for planned in plan.weights:
        elements = math.prod(planned.use.shape)
        assert planned.bits_per_weight * elements == pytest.approx(8 * planned.size_bytes, abs=8), planned.use.name
    assert plan.bits_per_weight * plan.parameters == pytest.approx(8 * plan.weights_bytes)


def test_a_plan_prints_what_it_holds(tiny_checkpoint_dir: Path) -> None:
    plan = plan_conversion(tiny_checkpoint_dir, Recipe("int4", 32))
    document = plan.as_json()
    assert document["weights_bytes"] == sum(weight["size_bytes"] for weight in document["weights"])
    assert document["parameters"] == sum(math.prod(weight["shape"]) for weight in document["weights"])
    with Checkpoint(tiny_checkpoint_dir) as checkpoint:
        assert [weight["name"] for weight in document["weights"]] == list(checkpoint.weights)


def test_a_token_reads_all_weights_but_an_embedding_that_is_not_the_head(tmp_path: Path) -> None:
    untied = plan_conversion(write_checkpoint(tmp_path / "untied", "phi-4"), Recipe("int8"))
    (embedding,) = (planned for planned in untied.weights if planned.use.roles == {Role.EMBEDDING})
    assert untied.weight_bytes_per_token == untied.weights_bytes - embedding.size_bytes

    tied = plan_conversion(write_checkpoint(tmp_path / "tied", "phi-4-mini"), Recipe("int8"))
    assert tied.weight_bytes_per_token == tied.weights_bytes
    assert [planned.use.roles for planned in tied.weights if Role.HEAD in planned.use.roles] == [
        {Role.EMBEDDING, Role.HEAD}
    ]


def test_the_manifest_has_the_planned_bytes_per_token(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    conversion = convert(tiny_checkpoint_dir, tmp_path / "out", weights="int8")
    planned = plan_conversion(tiny_checkpoint_dir, Recipe("int8"))
    assert conversion.manifest.weight_bytes_per_token == planned.weight_bytes_per_token


@pytest.mark.parametrize("outlier_layer", [0, 1])
def test_the_weight_with_outliers_is_the_one_that_becomes_int8(tmp_path: Path, outlier_layer: int) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    weights = random_weights(checkpoint)
    # One value in each group of 32 that is 20 times larger takes the codes away from the others.
    weights[DOWN.format(outlier_layer)][:, ::32] *= 20
    write_weights(checkpoint, weights)
    plan = plan_conversion(checkpoint, Recipe("int4", 32, ratio=0.95))
    linear = {planned.use.name: planned for planned in plan.weights if planned.use.is_linear}
    assert [name for name, planned in linear.items() if isinstance(planned.scheme, Int8)] == [
        DOWN.format(outlier_layer)
    ]


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_ratio_takes_the_least_errors_and_keeps_within_its_share(tmp_path: Path, ratio: float) -> None:
    checkpoint_dir = write_checkpoint(tmp_path / "checkpoint", num_hidden_layers=4)
    weights = random_weights(checkpoint_dir)
    for step, name in enumerate(sorted(name for name in weights if "_proj" in name)):
        weights[name][:, ::32] *= 1 + step
    write_weights(checkpoint_dir, weights)
    recipe = Recipe("int4", 32, ratio=ratio)
    with Checkpoint(checkpoint_dir) as checkpoint:
        linear = [planned for planned in make_plan(checkpoint, recipe).weights if planned.use.is_linear]
        errors = {id(p): relative_squared_error(checkpoint, p.use, Int4(32)) for p in linear}
    int4 = [planned for planned in linear if isinstance(planned.scheme, Int4)]
    int8 = [planned for planned in linear if isinstance(planned.scheme, Int8)]
    assert int4 and int8
    assert max(errors[id(p)] for p in int4) <= min(errors[id(p)] for p in int8)
    share = sum(math.prod(p.use.shape) for p in int4) / sum(math.prod(p.use.shape) for p in linear)
    assert share <= ratio


@pytest.mark.parametrize("scheme", [Int4(32), Int4(128, symmetric=False), Int8()], ids=lambda scheme: scheme.label)
def test_the_measured_error_is_that_of_the_whole_weight(tiny_checkpoint_dir: Path, scheme: Int4 | Int8) -> None:
    with Checkpoint(tiny_checkpoint_dir) as checkpoint:
        use = next(p.use for p in make_plan(checkpoint, Recipe("int8")).weights if p.use.is_linear)
        rows = checkpoint.rows(use.weight)
        values = rows.float32().astype(np.float64)
        difference = scheme.dequantize(scheme.quantize(rows)) - values
        expected = (difference**2).sum() / (values**2).sum()
        assert relative_squared_error(checkpoint, use, scheme) == pytest.approx(expected, rel=1e-5)


def test_a_sample_of_a_large_weight_is_close_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_dir = write_checkpoint(tmp_path / "checkpoint", intermediate_size=8192)
    with Checkpoint(checkpoint_dir) as checkpoint:
        use = next(
            p.use for p in make_plan(checkpoint, Recipe("int8")).weights if p.use.name.endswith("gate_up_proj.weight")
        )
        whole = relative_squared_error(checkpoint, use, Int4(32))
        monkeypatch.setattr("aipc.plan._SAMPLE_ELEMENTS", 262_144)
        assert relative_squared_error(checkpoint, use, Int4(32)) == pytest.approx(whole, rel=0.01)
        assert relative_squared_error(checkpoint, use, Int4(32)) != whole


def test_a_weight_of_zeros_has_no_error(tmp_path: Path) -> None:
    checkpoint_dir = write_checkpoint(tmp_path / "checkpoint")
    weights = random_weights(checkpoint_dir)
    weights[DOWN.format(0)][:] = 0
    write_weights(checkpoint_dir, weights)
    with Checkpoint(checkpoint_dir) as checkpoint:
        use = next(p.use for p in make_plan(checkpoint, Recipe("int8")).weights if p.use.name == DOWN.format(0))
        assert relative_squared_error(checkpoint, use, Int4(32)) == 0


def test_planning_writes_nothing(tiny_checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(entry.name for entry in tiny_checkpoint_dir.iterdir())
    plan_conversion(tiny_checkpoint_dir, Recipe("int4", 32, ratio=0.5))
    assert sorted(entry.name for entry in tiny_checkpoint_dir.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_the_planned_peak_depends_on_threads_and_vocabulary_and_not_on_the_weights(tmp_path: Path) -> None:
    small = plan_conversion(write_checkpoint(tmp_path / "small"), Recipe("int8"))
    deep = plan_conversion(write_checkpoint(tmp_path / "deep", num_hidden_layers=12), Recipe("int4", 32))
    assert small.peak_memory_bytes == deep.peak_memory_bytes
    wordy = plan_conversion(write_checkpoint(tmp_path / "wordy", vocab_size=4096), Recipe("int8"))
    assert wordy.peak_memory_bytes > small.peak_memory_bytes
