"""Checkpoints that lie, by accident or on purpose: each is refused with the thing named, and nothing is left."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoint import SHAPES, config_of, random_weights, write_checkpoint, write_weights

from aipc.checkpoint import INDEX_NAME, SINGLE_NAME, Checkpoint
from aipc.conversion import convert, plan_conversion
from aipc.errors import (
    AipcError,
    CheckpointError,
    ConfigError,
    RecipeError,
    StoreError,
    UnsupportedModelError,
    WeightError,
)
from aipc.graph import data_file
from aipc.quant.recipe import Recipe

QKV = "model.layers.0.self_attn.qkv_proj.weight"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


def refused(checkpoint: Path, error: type[AipcError], match: str, **recipe: Any) -> None:
    """Both the plan and the conversion raise, and the conversion leaves nothing but its lock."""
    out = checkpoint.parent / "out"
    with pytest.raises(error, match=match):
        convert(checkpoint, out, **recipe)
    assert {entry.name for entry in checkpoint.parent.iterdir()} - {".out.lock"} == {checkpoint.name}


def change_config(checkpoint: Path, **changes: Any) -> None:
    path = checkpoint / "config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}), encoding="utf-8")


def change_weights(checkpoint: Path, dtype: str = "F32", **weights: np.ndarray | None) -> None:
    """Replace weights (None takes one away); keywords have dots as `__`."""
    changed = random_weights(checkpoint) | {name.replace("__", "."): value for name, value in weights.items()}
    write_weights(checkpoint, {name: value for name, value in changed.items() if value is not None}, dtype=dtype)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("recipe", [{"weights": "fp16"}, {"weights": "int8"}, {"group_size": 32, "ratio": 0.5}])
def test_a_value_that_is_not_finite_names_its_weight(checkpoint: Path, value: float, recipe: dict[str, Any]) -> None:
    weights = random_weights(checkpoint)
    weights[QKV][77, 5] = value
    write_weights(checkpoint, weights)
    refused(checkpoint, WeightError, rf"model\.safetensors: weight {QKV}.*finite values.*NaN or infinity", **recipe)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"])
def test_a_nan_is_named_in_every_kind_of_weight(checkpoint: Path, name: str) -> None:
    weights = random_weights(checkpoint)
    weights[name].flat[-1] = np.nan
    write_weights(checkpoint, weights)
    refused(checkpoint, WeightError, name, weights="int8")


def test_a_value_beyond_fp16_is_refused_in_fp16_and_kept_in_int8(checkpoint: Path) -> None:
    weights = random_weights(checkpoint)
    weights[QKV][3, 3] = 1e6
    write_weights(checkpoint, weights, dtype="F32")
    refused(checkpoint, WeightError, QKV, weights="fp16")
    convert(checkpoint, checkpoint.parent / "out", weights="int8")


@pytest.mark.parametrize("scheme", [{"weights": "int8"}, {"weights": "int4", "group_size": 32}])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("largest", [3e7, 1e20, 3.4e38])
def test_a_value_whose_scale_is_beyond_fp16_names_its_weight(
    checkpoint: Path, scheme: dict[str, Any], symmetric: bool, largest: float
) -> None:
    weights = random_weights(checkpoint)
    weights[QKV][3, 3] = largest
    write_weights(checkpoint, weights, dtype="F32")
    refused(checkpoint, WeightError, QKV, symmetric=symmetric, **scheme)


def test_a_missing_weight_is_named(checkpoint: Path) -> None:
    change_weights(checkpoint, **{QKV: None})
    refused(checkpoint, WeightError, rf"{QKV}.*no such weight")


def test_a_wrong_shape_is_named(checkpoint: Path) -> None:
    change_weights(checkpoint, **{QKV: np.ones((128, 384), np.float32)})
    refused(checkpoint, WeightError, rf"{QKV}.*\[384, 128\].*\[128, 384\]")


def test_a_vocabulary_of_another_size_names_the_embedding(checkpoint: Path) -> None:
    change_config(checkpoint, vocab_size=600)
    refused(checkpoint, WeightError, r"model\.embed_tokens\.weight.*\[600, 128\].*\[512, 128\]")


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.float64])
def test_a_wrong_dtype_is_named(checkpoint: Path, dtype: type) -> None:
    from safetensors.numpy import save_file

    weights = {name: value.astype(np.float16) for name, value in random_weights(checkpoint).items()}
    save_file(weights | {QKV: np.zeros((384, 128), dtype)}, checkpoint / SINGLE_NAME)
    refused(checkpoint, WeightError, rf"{QKV}.*F32, F16 or BF16.*[IF]\d")


def test_an_unknown_model_type_lists_the_known_ones(checkpoint: Path) -> None:
    change_config(checkpoint, model_type="llama")
    refused(checkpoint, UnsupportedModelError, r"model_type.*one of .*phi3.*llama")


@pytest.mark.parametrize(
    "key", ["model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]
)
def test_a_missing_key_is_named(checkpoint: Path, key: str) -> None:
    change_config(checkpoint, **{key: ...})
    refused(checkpoint, ConfigError, rf"config\.json: {key}.*no such key")


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "sliding_window", "max_position_embeddings"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True])
def test_a_count_that_is_none_is_named(checkpoint: Path, key: str, value: object) -> None:
    change_config(checkpoint, **{key: value})
    refused(checkpoint, ConfigError, rf"config\.json: {key}.*whole number above 0")


@pytest.mark.timeout(20)
def test_a_billion_layers_are_refused_at_once(checkpoint: Path) -> None:
    change_config(checkpoint, num_hidden_layers=10**9)
    refused(checkpoint, ConfigError, r"num_hidden_layers.*number of weights.*1000000000")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"num_attention_heads": 12, "num_key_value_heads": 12}, "hidden_size"),
        ({"num_attention_heads": 256}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_key_value_heads": 8}, "num_key_value_heads"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"partial_rotary_factor": 0.1}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.type"),
        ({"rope_scaling": "longrope"}, "rope_scaling"),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 64}, "rope_scaling.short_factor"),
    ],
)
def test_values_that_do_not_fit_together_are_named(checkpoint: Path, changes: dict[str, Any], key: str) -> None:
    change_config(checkpoint, **changes)
    refused(checkpoint, ConfigError, rf"config\.json: {key}")


@pytest.mark.parametrize("key", ["short_factor", "long_factor"])
@pytest.mark.parametrize("factors", [[], [1.0] * 15, [1.0] * 17, [0.0] * 16, ["1"] * 16, [1e400] * 16, None])
def test_wrong_rope_factors_are_named(tmp_path: Path, key: str, factors: object) -> None:
    scaling = SHAPES["phi-3.5-mini"]["rope_scaling"] | {key: factors}
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "phi-3.5-mini", tokenizer=True)
    change_config(checkpoint, rope_scaling=scaling)
    refused(checkpoint, ConfigError, rf"config\.json: rope_scaling\.{key}")


def test_a_group_size_that_does_not_divide_names_weight_and_remedy(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", intermediate_size=160)
    refused(checkpoint, RecipeError, r"down_proj.*160 columns\ntry: --group-size 32", group_size=64)
    assert convert(checkpoint, tmp_path / "out", group_size=32).path.is_dir()


def test_odd_sizes_are_refused_by_int4_and_taken_by_int8(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", intermediate_size=75)
    refused(checkpoint, RecipeError, r"down_proj.*75 columns", group_size=-1)
    assert convert(checkpoint, tmp_path / "out", weights="int8").path.is_dir()


def writes_without_end(*arguments: Any) -> None:
    """In the place of `write_data`: blocks come until somebody objects."""
    *_, advance = arguments
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        advance(0)
        time.sleep(0.01)
    pytest.fail("all of the weights were written")


def test_a_missing_tokenizer_ends_the_writing_of_the_weights(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkpoint / "tokenizer.json").unlink()
    monkeypatch.setattr("aipc.conversion.write_data", writes_without_end)
    refused(checkpoint, CheckpointError, r"tokenizer\.json is missing")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": {}}', '{"model": {}, "added_tokens": [{}]}'])
def test_a_broken_tokenizer_ends_the_writing_of_the_weights(
    checkpoint: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint / "tokenizer.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr("aipc.conversion.write_data", writes_without_end)
    refused(checkpoint, CheckpointError, r"tokenizer\.json")


@pytest.mark.parametrize("key", ["eos_token", "chat_template", "model_max_length"])
def test_a_broken_config_of_the_tokenizer_ends_the_writing_of_the_weights(
    checkpoint: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = checkpoint / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), key: [5]}), encoding="utf-8")
    monkeypatch.setattr("aipc.conversion.write_data", writes_without_end)
    refused(checkpoint, ConfigError, rf"tokenizer_config\.json: {key}")


@pytest.mark.parametrize("cut_bytes", [1, 1000, 200_000])
def test_a_file_that_is_truncated_after_it_was_opened_is_an_error(checkpoint: Path, cut_bytes: int) -> None:
    """As long as it happens between two windows; a window that is mapped meanwhile ends the process."""
    file = checkpoint / SINGLE_NAME
    with Checkpoint(checkpoint) as opened:
        os.truncate(file, file.stat().st_size - cut_bytes)
        last = max(opened.weights.values(), key=lambda weight: weight.offset)
        weight = next(use.weight for use in plan_uses(checkpoint) if use.name == last.name)
        with pytest.raises(WeightError, match=rf"{SINGLE_NAME}: cannot be mapped"):
            opened.rows(weight)


def plan_uses(checkpoint: Path):
    from aipc.config import ConfigFile
    from aipc.graph.inventory import weights_used
    from aipc.models import read_architecture

    return weights_used(read_architecture(ConfigFile.load(checkpoint / "config.json")).describe)


def test_a_file_that_shrinks_during_the_conversion_leaves_nothing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pack = data_file.quantize_rows
    calls = 0

    def truncate_and_pack(*values: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.truncate(checkpoint / SINGLE_NAME, 4096)
        return real_pack(*values, **options)

    monkeypatch.setattr("aipc.plan.os.cpu_count", lambda: 1)  # no other thread has a window open
    monkeypatch.setattr(data_file, "quantize_rows", truncate_and_pack)
    refused(checkpoint, WeightError, "cannot be mapped")


@pytest.mark.parametrize("position", [0, 5, 8, 20, 60])
def test_a_flipped_bit_in_the_header_is_never_a_silent_success(checkpoint: Path, position: int) -> None:
    file = checkpoint / SINGLE_NAME
    data = bytearray(file.read_bytes())
    data[position] ^= 0x40
    file.write_bytes(data)
    refused(checkpoint, WeightError, "safetensors|no such weight")


def test_a_flipped_bit_in_a_weight_cannot_be_noticed_as_checkpoints_carry_no_hash(checkpoint: Path) -> None:
    whole = convert(checkpoint, checkpoint.parent / "whole").manifest.files["openvino_model.bin"]
    file = checkpoint / SINGLE_NAME
    data = bytearray(file.read_bytes())
    data[-999] ^= 0x10  # in the exponent of a weight
    file.write_bytes(data)
    assert convert(checkpoint, checkpoint.parent / "flipped").manifest.files["openvino_model.bin"] != whole


def test_an_index_that_names_a_missing_shard_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shards=2)
    assert (checkpoint / INDEX_NAME).is_file()
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    refused(checkpoint, WeightError, r"model-00002-of-00002\.safetensors: no such file")


def test_a_plan_is_refused_for_the_same_reasons(checkpoint: Path) -> None:
    change_config(checkpoint, num_hidden_layers=config_of("phi-3-mini-4k")["num_hidden_layers"] + 1)
    with pytest.raises(WeightError, match=r"model\.layers\.2.*no such weight"):
        plan_conversion(checkpoint, Recipe("int8"))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("config.json", StoreError),
        (SINGLE_NAME, WeightError),
        ("tokenizer_config.json", CheckpointError),
        ("chat_template.jinja", CheckpointError),
    ],
)
def test_a_file_that_the_system_does_not_let_one_read_is_not_called_broken(
    checkpoint: Path, name: str, error: type[AipcError]
) -> None:
    (checkpoint / name).unlink(missing_ok=True)
    (checkpoint / name).mkdir()  # a file without read permission is one to all but root
    refused(
        checkpoint, error, rf"(?s){name}.*(Is a directory|Permission denied)\ntry: check the disk and its permissions"
    )
