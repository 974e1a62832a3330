"""The ONNX back end against NumPy on the very weights that it stored, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoint
from networks import reference

from aipc.conversion import write_model
from aipc.errors import RecipeError, UnsupportedModelError, UsageError
from aipc.quant.recipe import Recipe
from aipc.store import Origin
from aipc.targets import target_of

pytest.importorskip("onnxruntime", reason='onnxruntime is missing: pip install ".[onnx]"')
onnx = pytest.importorskip("onnx", reason='onnx is missing: pip install ".[onnx]"')

from onnx_network import OnnxNetwork  # noqa: E402

CPU_RECIPES = [
    Recipe("fp32"),
    Recipe("int8"),
    Recipe("int8", 32, symmetric=True),
    Recipe("int4", 32),
    Recipe("int4", 128),
    Recipe("int4", 64, symmetric=False),
    Recipe("int4", 32, ratio=0.5),
    Recipe("int4", 32, symmetric=False, all_layers=True),
]
# FP16 throughout: what it rounds adds up to this on logits of about 5.
HALF_TOLERANCE = 0.06
# Partial rotary over heads large enough for ONNX Runtime, whose kernel wants the turned part in multiples of 16.
LARGER_HEADS: dict[str, dict[str, Any]] = {
    "phi-4-mini": {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_scaling": tiny_checkpoint._longrope("longrope", 24),
    }
}


def checkpoint_of(shape: str, directory: Path, **changes: Any) -> Path:
    return tiny_checkpoint.write_checkpoint(directory / shape, shape, **LARGER_HEADS.get(shape, {}), **changes)


def converted(checkpoint: Path, out: Path, recipe: Recipe, device: str = "cpu") -> Path:
    origin = Origin(checkpoint.name, str(checkpoint))
    return write_model(checkpoint, origin, out, recipe, target=target_of("onnx", device)).path


def prompt(tokens: int) -> list[int]:
    return np.random.default_rng(tokens).integers(3, 500, tokens).tolist()


def differences(checkpoint: Path, out: Path, recipe: Recipe, device: str, *, tokens: int) -> list[float]:
    """Largest differences of the logits: after a prompt, at each of 20 tokens that follow, and after it all at once."""
    network = OnnxNetwork(converted(checkpoint, out, recipe, device))
    expected = reference(checkpoint, recipe, target_of("onnx", device))
    ids = prompt(tokens + 20)
    found = [np.abs(network.last_logits(ids[:tokens]) - expected.logits(ids[:tokens])[-1]).max()]
    found += [np.abs(network.last_logits([i]) - expected.logits([i])[-1]).max() for i in ids[tokens:]]
    network.reset(), expected.reset()
    return [*found, np.abs(network.last_logits(ids) - expected.logits(ids)[-1]).max()]


@pytest.mark.parametrize("recipe", CPU_RECIPES, ids=lambda recipe: recipe.label)
def test_every_recipe_gives_the_logits_of_numpy_on_the_dequantised_weights(recipe: Recipe, tmp_path: Path) -> None:
    checkpoint = checkpoint_of("phi-3-medium", tmp_path)
    assert max(differences(checkpoint, tmp_path / "out", recipe, "cpu", tokens=30)) <= 1e-4


@pytest.mark.parametrize("shape", tiny_checkpoint.SHAPES)
def test_every_shape_agrees_past_its_window_and_in_one_pass_past_its_original_length(
    shape: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(shape, tmp_path)
    # 40 + 20 stays below LongRoPE's original length, where the cache would have to be computed anew.
    assert max(differences(checkpoint, tmp_path / "out", Recipe("fp32"), "cpu", tokens=40)) <= 1e-4
    network, expected = OnnxNetwork(tmp_path / "out"), reference(checkpoint, Recipe("fp32"), target_of("onnx"))
    long = prompt(100)
    assert np.abs(network.last_logits(long) - expected.logits(long)[-1]).max() <= 1e-4


@pytest.mark.parametrize("device", ["directml", "cuda"])
@pytest.mark.parametrize("recipe", [Recipe("fp16"), Recipe("int8", 32), Recipe("int4", 32)], ids=lambda r: r.label)
@pytest.mark.parametrize("shape", ["phi-4", "phi-3-mini-128k", "phi-4-mini"])
def test_graphs_for_other_devices_agree_within_fp16_on_the_cpu(
    shape: str, recipe: Recipe, device: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(shape, tmp_path)
    assert max(differences(checkpoint, tmp_path / "out", recipe, device, tokens=20)) <= HALF_TOLERANCE
    network, expected = OnnxNetwork(tmp_path / "out"), reference(checkpoint, recipe, target_of("onnx", device))
    long = prompt(100)
    assert np.abs(network.last_logits(long) - expected.logits(long)[-1]).max() <= HALF_TOLERANCE


def test_directml_has_no_operator_that_would_leave_the_device(tmp_path: Path) -> None:
    checkpoint = checkpoint_of("phi-3-mini-128k", tmp_path, sliding_window=50)
    out = converted(checkpoint, tmp_path / "out", Recipe("int4", 32), "directml")
    model = onnx.load(out / "model.onnx", load_external_data=False)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"If", "GatherBlockQuantized"}
    attention = next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")
    attributes = {attribute.name: attribute for attribute in attention.attribute}
    assert attributes["do_rotary"].i == 0
    assert "local_window_size" not in attributes
    types = {value.type.tensor_type.elem_type for value in [*model.graph.input, *model.graph.output]}
    assert types == {onnx.TensorProto.INT64, onnx.TensorProto.FLOAT16}
    assert max(opset.version for opset in model.opset_import) <= 21
    config = json.loads((out / "genai_config.json").read_text(encoding="utf-8"))["model"]
    assert config["decoder"]["session_options"]["provider_options"] == [{"dml": {"enable_graph_capture": "1"}}]
    assert config["context_length"] == 50  # its attention has no window, so no more tokens than one can be right


def test_a_tied_embedding_is_stored_once(tmp_path: Path) -> None:
    tied, apart = (
        checkpoint_of("phi-4", tmp_path / name, tie_word_embeddings=tie) for name, tie in (("t", True), ("a", False))
    )
    sizes = [
        (converted(one, tmp_path / f"out-{one.parent.name}", Recipe("int8")) / "model.onnx.data").stat().st_size
        for one in (tied, apart)
    ]
    assert sizes[1] - sizes[0] >= 512 * 128


@pytest.mark.parametrize(
    ("recipe", "device", "advice"),
    [
        (Recipe("fp16"), "cpu", "--weights fp32"),
        (Recipe("fp32"), "directml", "--weights fp16"),
        (Recipe("fp32"), "cuda", "--weights fp16"),
        (Recipe("int4", -1), "cpu", "--group-size 128"),
        (Recipe("int8", -1), "cuda", "--group-size 128"),
    ],
)
def test_a_pair_that_a_provider_does_not_take_is_refused_with_the_nearest(
    recipe: Recipe, device: str, advice: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of("phi-4", tmp_path)
    with pytest.raises(RecipeError, match=advice):
        converted(checkpoint, tmp_path / "out", recipe, device)
    assert not (tmp_path / "out").exists()


def test_the_manifest_names_the_group_size_that_was_filled_in(tmp_path: Path) -> None:
    out = converted(checkpoint_of("phi-4", tmp_path), tmp_path / "out", Recipe("int8"))
    assert json.loads((out / "aipc.json").read_text(encoding="utf-8"))["recipe"]["group_size"] == 128


def test_heads_that_the_attention_kernel_refuses_are_refused_before_any_work(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint.write_checkpoint(tmp_path / "c", "phi-4-mini")  # 24 of 32 elements are turned
    with pytest.raises(UnsupportedModelError, match="multiple of 8"):
        converted(checkpoint, tmp_path / "out", Recipe("int4", 32))


def test_unknown_formats_and_devices_are_named() -> None:
    with pytest.raises(UsageError, match="openvino, onnx"):
        target_of("gguf")
    with pytest.raises(UsageError, match="cpu, directml, cuda"):
        target_of("onnx", "npu")
    with pytest.raises(UsageError, match="no device"):
        target_of("openvino", "cpu")
