"""Values of config.json that no model has: refused at once, without a crash and without filling the memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_checkpoint import config_of

from aipc.config import ConfigFile
from aipc.errors import ConfigError
from aipc.models import Architecture, read_architecture

pytestmark = pytest.mark.timeout(20)


def read(tmp_path: Path, shape: str = "phi-3-mini-4k", **changes: object) -> Architecture:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_of(shape, **changes)), encoding="utf-8")
    return read_architecture(ConfigFile.load(path))


@pytest.mark.parametrize("value", [2**31, 10**40, 10**400])
@pytest.mark.parametrize(
    "key",
    [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
        "sliding_window",
    ],
)
def test_an_absurd_count_is_refused_at_once(tmp_path: Path, key: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"config\.json: {key}.*at most"):
        read(tmp_path, **{key: value})


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"hidden_size": 2**30, "num_attention_heads": 1, "num_key_value_heads": 1}, "hidden_size"),
        ({"head_dim": 2**30}, "head_dim"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps"),
        ({"rope_theta": 1e400}, "rope_theta"),
        ({"partial_rotary_factor": 0.001}, "partial_rotary_factor"),
    ],
)
def test_an_absurd_value_is_named(tmp_path: Path, changes: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"config\.json: {key}"):
        read(tmp_path, **changes)


@pytest.mark.parametrize("value", [1, 10**400])
def test_an_original_length_that_is_none_is_named(tmp_path: Path, value: int) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: original_max_position_embeddings"):
        read(tmp_path, "phi-3.5-mini", original_max_position_embeddings=value)


def test_a_rope_factor_beyond_a_float_is_named(tmp_path: Path) -> None:
    scaling = {"type": "longrope", "short_factor": [1.0] * 16, "long_factor": [1.0] * 15 + [10**400]}
    with pytest.raises(ConfigError, match=r"rope_scaling\.long_factor"):
        read(tmp_path, "phi-3.5-mini", rope_scaling=scaling)
