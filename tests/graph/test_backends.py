"""The two back ends of one architecture against each other, for every shape of the family and every recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from networks import EXACT, OpenVinoModel, random_ids, reference
from openvino._offline_transformations import paged_attention_transformation
from tiny_checkpoint import SHAPES, config_of, write_checkpoint

from aipc.conversion import convert
from aipc.quant.recipe import Recipe

RECIPES = [
    Recipe("fp16"),
    Recipe("int8"),
    Recipe("int8", symmetric=True),
    *(Recipe("int4", size, symmetric=symmetric) for size in (32, 64, 128, -1) for symmetric in (True, False)),
    Recipe("int4", 32, ratio=0.5),
    Recipe("int4", 64, symmetric=False, all_layers=True),
]


def converted(checkpoint: Path, out: Path, recipe: Recipe) -> Path:
    return convert(
        checkpoint,
        out,
        weights=recipe.weights,
        group_size=recipe.group_size,
        ratio=recipe.ratio,
        symmetric=recipe.symmetric,
        all_layers=recipe.all_layers,
    ).path


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_openvino_gives_the_logits_of_numpy_on_the_dequantised_weights(
    tiny_checkpoint_dir: Path, tmp_path: Path, recipe: Recipe
) -> None:
    ids = random_ids(60)
    ours = reference(tiny_checkpoint_dir, recipe).logits(ids)
    theirs = OpenVinoModel(converted(tiny_checkpoint_dir, tmp_path / "out", recipe)).logits(ids)
    assert np.abs(ours - theirs).max() <= 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_the_family_agrees_past_window_and_original_length(shape: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    numpy_model = reference(checkpoint, Recipe("fp16"))
    openvino_model = OpenVinoModel(converted(checkpoint, tmp_path / "out", Recipe("fp16")))
    ids = random_ids(150, seed=1)
    assert np.abs(numpy_model.logits(ids) - openvino_model.logits(ids)).max() <= 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_cached_decode_equals_a_full_forward(shape: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    ids = random_ids(100, seed=2)
    model = reference(checkpoint, Recipe("fp16"))
    last_of_each_length = []
    cached = [model.logits(ids[:60])[-1]]
    cached += [model.logits([token])[-1] for token in ids[60:]]
    for length in range(60, 101):
        model.reset()
        last_of_each_length.append(model.logits(ids[:length])[-1])
    assert np.abs(np.array(cached) - np.array(last_of_each_length)).max() <= 1e-4


@pytest.mark.parametrize("shape", ["phi-3-mini-4k", "phi-3-medium", "phi-4"])
def test_openvino_decodes_with_its_state_as_in_one_pass(shape: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    model = OpenVinoModel(converted(checkpoint, tmp_path / "out", Recipe("int8")))
    ids = random_ids(100, seed=3)
    whole = model.logits(ids)
    model.reset()
    pieces = [model.logits(ids[:40]), model.logits(ids[40:70])] + [model.logits([token]) for token in ids[70:]]
    assert np.abs(np.concatenate(pieces) - whole).max() <= 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_paged_attention_sees_the_configs_sliding_window(shape: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    out = converted(checkpoint, tmp_path / "out", Recipe("int8"))
    model = ov.Core().read_model(out / "openvino_model.xml")
    paged_attention_transformation(model)
    attentions = [node for node in model.get_ops() if node.get_type_name() == "PagedAttentionExtension"]
    assert len(attentions) == config_of(shape)["num_hidden_layers"]
    for attention in attentions:
        window = attention.input_value(10)
        folded = ov.Core().compile_model(ov.Model([window], []), "CPU")
        assert int(folded([])[0]) == (config_of(shape)["sliding_window"] or 0)


def test_left_padding_changes_nothing_for_the_tokens_that_are_there(tiny_model_dir: Path) -> None:
    core = ov.Core()
    ids = random_ids(20, seed=4)
    alone = OpenVinoModel(tiny_model_dir).logits(ids)[-1]
    request = core.compile_model(
        core.read_model(tiny_model_dir / "openvino_model.xml"), "CPU", EXACT
    ).create_infer_request()
    padded = request.infer(
        {
            "input_ids": np.array([[0] * 5 + ids, random_ids(25, seed=5)], np.int64),
            "attention_mask": np.array([[0] * 5 + [1] * 20, [1] * 25], np.int64),
            "position_ids": np.array([[1] * 5 + list(range(20)), list(range(25))], np.int64),
            "beam_idx": np.arange(2, dtype=np.int32),
        }
    )["logits"]
    assert np.abs(padded[0, -1] - alone).max() <= 1e-4
