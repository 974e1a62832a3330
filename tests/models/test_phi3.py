"""The family's published configs, by the keys that matter, against what is published about the models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from aipc.config import ConfigFile
from aipc.errors import ConfigError, UnsupportedModelError
from aipc.graph.inventory import weights_used
from aipc.models import known_model_types, read_architecture

MINI: dict[str, Any] = {
    "model_type": "phi3",
    "hidden_act": "silu",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
}
LONG = {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
MEDIUM = {
    **MINI,
    "hidden_size": 5120,
    "intermediate_size": 17920,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 10,
}
PHI_4 = {**MEDIUM, "vocab_size": 100352, "max_position_embeddings": 16384, "rope_theta": 250000, "sliding_window": None}
PHI_4_MINI = {
    **MINI,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "vocab_size": 200064,
    "max_position_embeddings": 131072,
    "partial_rotary_factor": 0.75,
    "rope_scaling": LONG,
    "sliding_window": 262144,
    "tie_word_embeddings": True,
}


def read(tmp_path: Path, values: dict[str, Any]) -> Any:
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return read_architecture(ConfigFile.load(tmp_path / "config.json"))


# total_size of the published model.safetensors.index.json, in BF16 weights of two bytes
@pytest.mark.parametrize(
    ("config", "published_bytes"),
    [(MINI, 7_642_159_104), (MEDIUM, 27_920_476_160), (PHI_4, 29_319_014_400), (PHI_4_MINI, 7_672_043_520)],
    ids=["phi-3-mini", "phi-3-medium", "phi-4", "phi-4-mini"],
)
def test_the_weights_are_as_many_as_published(tmp_path: Path, config: dict[str, Any], published_bytes: int) -> None:
    uses = weights_used(read(tmp_path, config).describe)
    assert 2 * sum(math.prod(use.shape) for use in uses) == published_bytes


def test_phi_3_mini_4k_has_a_window_and_no_switch(tmp_path: Path) -> None:
    phi3 = read(tmp_path, MINI)
    assert (phi3.context_tokens, phi3.sliding_window, phi3.rope_switch_tokens) == (4096, 2047, None)
    assert phi3.rope.inverse_frequencies[0] == 1.0
    assert len(phi3.rope.inverse_frequencies) == 48
    assert phi3.kv_elements_per_token == 2 * 32 * 3072


@pytest.mark.parametrize("kind", ["su", "longrope", "yarn"])
def test_128k_switches_to_the_long_factors_and_scales_cos_and_sin(tmp_path: Path, kind: str) -> None:
    phi3 = read(tmp_path, {**MINI, "max_position_embeddings": 131072, "rope_scaling": {**LONG, "type": kind}})
    assert phi3.rope_switch_tokens == 4096
    assert phi3.rope.scale == pytest.approx(1.1902380714)  # sqrt(1 + ln(32) / ln(4096))
    assert phi3.rope.long_inverse_frequencies[5] == pytest.approx(phi3.rope.inverse_frequencies[5] / 2)


def test_transformers_5_rope_parameters_read_as_the_old_keys_do(tmp_path: Path) -> None:
    old = read(tmp_path, PHI_4_MINI)
    new_keys = {
        **{key: value for key, value in PHI_4_MINI.items() if key not in ("rope_theta", "rope_scaling")},
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 4096,
            **{key: LONG[key] for key in ("short_factor", "long_factor")},
        },
    }
    assert read(tmp_path, new_keys) == old
    assert old.rope.rotated_size == 96
    assert old.head_dim == 128


def test_an_unknown_model_type_lists_the_known_ones(tmp_path: Path) -> None:
    assert known_model_types() == ["phi3"]
    with pytest.raises(UnsupportedModelError, match="one of phi3, found llama"):
        read(tmp_path, {**MINI, "model_type": "llama"})


@pytest.mark.parametrize("key", sorted(set(MINI) - {"hidden_act", "rms_norm_eps", "rope_theta", "rope_scaling"}))
def test_a_missing_key_is_named_unless_it_has_a_default(tmp_path: Path, key: str) -> None:
    values = {name: value for name, value in MINI.items() if name != key}
    if key in ("num_key_value_heads", "sliding_window", "tie_word_embeddings", "original_max_position_embeddings"):
        assert read(tmp_path, values) is not None
    else:
        with pytest.raises(ConfigError, match=rf"config\.json: {key}.*no such key"):
            read(tmp_path, values)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
        ({"hidden_size": 3073}, "hidden_size"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"sliding_window": 0}, "sliding_window"),
        ({"rms_norm_eps": 1e300}, "rms_norm_eps"),
        ({"rms_norm_eps": 1e-300}, "rms_norm_eps"),
        ({"rope_theta": 1e-300}, "rope_theta"),
        ({"rope_theta": 1e300}, "rope_theta"),
        ({"sliding_window": "2047"}, "sliding_window"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.345}, "partial_rotary_factor"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, r"rope_scaling\.type"),
        ({"rope_scaling": {**LONG, "short_factor": [1.0] * 47}}, r"rope_scaling\.short_factor"),
        ({"rope_scaling": {**LONG, "long_factor": [0.0] * 48}}, r"rope_scaling\.long_factor"),
        ({"rope_scaling": [1]}, "rope_scaling"),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"config\.json: {named}: expected"):
        read(tmp_path, {**MINI, **changes})
