"""Checkpoints of hundreds of megabytes, made in about a second: one block of random weights over and over."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from tiny_checkpoint import config_of
from tiny_tokenizer import write_tokenizer

from aipc.config import ConfigFile
from aipc.graph.inventory import weights_used
from aipc.models import read_architecture

BLOCK_BYTES = 8 * 1024 * 1024


def write_large_checkpoint(directory: Path, *, tokenizer_tokens: int = 512, **changes: Any) -> Path:
    """A BF16 checkpoint; `changes` go into config.json."""
    directory.mkdir(parents=True)
    config = config_of("phi-3-mini-4k", max_position_embeddings=4096, sliding_window=2047, **changes)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_tokenizer(directory, tokenizer_tokens)
    architecture = read_architecture(ConfigFile.load(directory / "config.json"))
    shapes = {use.name: use.shape for use in weights_used(architecture.describe)}
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        block = _random_block()
        for _ in range(end // BLOCK_BYTES):
            file.write(block)
        file.write(block[: end % BLOCK_BYTES])
    return directory


def _random_block() -> bytes:
    values = np.random.default_rng(0).standard_normal(BLOCK_BYTES // 2, dtype=np.float32) / 50
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
