"""Tiny random checkpoints in the shapes of the Phi-3 family: real configs, real files, seeded weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tiny_tokenizer import write_tokenizer

from aipc.config import ConfigFile
from aipc.graph.inventory import weights_used
from aipc.models import read_architecture

_BASE: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "hidden_act": "silu",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "original_max_position_embeddings": 256,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 507,
    "pad_token_id": 507,
    "torch_dtype": "float16",
}


def _longrope(kind: str, pairs: int) -> dict[str, Any]:
    return {
        "type": kind,
        "short_factor": [1.0 + 0.02 * i for i in range(pairs)],
        "long_factor": [1.0 + 0.4 * i for i in range(pairs)],
    }


SHAPES: dict[str, dict[str, Any]] = {
    "phi-3-mini-4k": {"sliding_window": 47},
    "phi-3-mini-128k": {"original_max_position_embeddings": 64, "rope_scaling": _longrope("su", 16)},
    "phi-3.5-mini": {
        "original_max_position_embeddings": 64,
        "rope_scaling": _longrope("longrope", 16),
        "sliding_window": 300,
    },
    "phi-3-medium": {"num_attention_heads": 8, "num_key_value_heads": 2, "sliding_window": 63},
    "phi-4": {"num_key_value_heads": 1, "rope_theta": 250000.0},
    "phi-4-mini": {
        "num_key_value_heads": 2,
        "original_max_position_embeddings": 64,
        "partial_rotary_factor": 0.75,
        "rope_scaling": _longrope("longrope", 12),
        "tie_word_embeddings": True,
    },
}


def config_of(shape: str, **changes: Any) -> dict[str, Any]:
    return {**_BASE, **SHAPES[shape], **changes}


def write_checkpoint(
    directory: Path,
    shape: str = "phi-3-mini-4k",
    *,
    dtype: str = "F16",
    shards: int = 1,
    seed: int = 0,
    tokenizer: bool = True,
    **changes: Any,
) -> Path:
    """Write a checkpoint of random weights; `changes` go into config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    config = config_of(shape, **changes)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if tokenizer:
        write_tokenizer(directory, config["vocab_size"])
    write_weights(directory, random_weights(directory, seed), dtype=dtype, shards=shards)
    return directory


def random_weights(directory: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights for the config in `directory`, spread so that the next token is no near-tie."""
    random = np.random.default_rng(seed)
    architecture = read_architecture(ConfigFile.load(directory / "config.json"))
    weights = {}
    for use in weights_used(architecture.describe):
        values = random.standard_normal(use.shape, dtype=np.float32)
        weights[use.name] = 1 + values / 10 if use.is_norm else values * np.float32(1.5 / use.shape[-1] ** 0.5)
    return weights


def write_weights(directory: Path, weights: dict[str, np.ndarray], *, dtype: str = "F16", shards: int = 1) -> None:
    names = list(weights)
    if shards == 1:
        _write_file(directory / "model.safetensors", weights, dtype)
        return
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        chosen = names[shard::shards]
        _write_file(directory / file, {name: weights[name] for name in chosen}, dtype)
        weight_map.update(dict.fromkeys(chosen, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _write_file(file: Path, weights: dict[str, np.ndarray], dtype: str) -> None:
    """The safetensors format by hand: the library has no numpy way to BF16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, end = [], 0
    for name, values in weights.items():
        data = _stored(values, dtype)
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [end, end + len(data)]}
        parts.append(data)
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def _stored(values: np.ndarray, dtype: str) -> bytes:
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.astype({"F16": np.float16, "F32": np.float32}[dtype]).tobytes()


if __name__ == "__main__":
    print(write_checkpoint(Path(sys.argv[1]), *sys.argv[2:3]))
