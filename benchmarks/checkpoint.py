"""Make a Hugging Face checkpoint with Phi-3-mini-4k's shapes and made-up weights.

    python benchmarks/checkpoint.py --layers 4 OUT

The weights are Gaussian with a few large channels, as trained ones are, because a quantiser's speed and a
runtime's can depend on values. Every weight is a function of the seed and its name alone, so the layers of
`--layers 4` are the first of `--layers 32`. Weights go to the disk in blocks of rows: under 200 MB of memory.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from vocabulary import write_tokenizer

HIDDEN_SIZE = 3072
INTERMEDIATE_SIZE = 8192
HEADS = 32
VOCABULARY_SIZE = 32064
SHARD_BYTES = 2_000_000_000
BLOCK_ELEMENTS = 1 << 20
OUTLIER_CHANNELS = 24  # of the 3072 or 8192 input channels
DTYPES = {"bfloat16": "BF16", "float16": "F16"}


@dataclass(frozen=True)
class Weight:
    """A tensor to be made; `std` is None for a norm's scale, which lies around 1."""

    name: str
    shape: tuple[int, ...]
    std: float | None

    @property
    def size_bytes(self) -> int:
        return 2 * math.prod(self.shape)


def make_checkpoint(folder: Path, *, layers: int, dtype: str = "bfloat16", seed: int = 0) -> None:
    """Write a checkpoint of `layers` decoder layers; `folder` appears only when it is whole.

    `dtype` is "bfloat16" or "float16". Raises `FileExistsError` when `folder` is there already.
    """
    if folder.exists():
        raise FileExistsError(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write_tokenizer(unfinished, seed=seed)
        _write_weights(unfinished, weights_of(layers), dtype=dtype, seed=seed)
        _write_json(unfinished / "config.json", config_of(layers, dtype=dtype))
        _write_json(unfinished / "generation_config.json", GENERATION_CONFIG)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


GENERATION_CONFIG = {"bos_token_id": 1, "eos_token_id": [32000, 32001, 32007], "pad_token_id": 32000}


def config_of(layers: int, *, dtype: str) -> dict:
    """Return a config.json as transformers 4 wrote it on the hub, with no `auto_map`."""
    return {
        "_name_or_path": "Phi-3-mini-4k-instruct",
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "embd_pdrop": 0.0,
        "eos_token_id": 32000,
        "hidden_act": "silu",
        "hidden_size": HIDDEN_SIZE,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE_SIZE,
        "max_position_embeddings": 4096,
        "model_type": "phi3",
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": HEADS,
        "original_max_position_embeddings": 4096,
        "pad_token_id": 32000,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": 2047,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "transformers_version": "4.40.2",
        "use_cache": True,
        "vocab_size": VOCABULARY_SIZE,
    }


def weights_of(layers: int) -> list[Weight]:
    """List the tensors in the order in which a published checkpoint stores them."""
    weights = [Weight("model.embed_tokens.weight", (VOCABULARY_SIZE, HIDDEN_SIZE), 0.03)]
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        weights += [
            Weight(f"{prefix}.input_layernorm.weight", (HIDDEN_SIZE,), None),
            Weight(f"{prefix}.mlp.down_proj.weight", (HIDDEN_SIZE, INTERMEDIATE_SIZE), 0.02),
            Weight(f"{prefix}.mlp.gate_up_proj.weight", (2 * INTERMEDIATE_SIZE, HIDDEN_SIZE), 0.03),
            Weight(f"{prefix}.post_attention_layernorm.weight", (HIDDEN_SIZE,), None),
            Weight(f"{prefix}.self_attn.o_proj.weight", (HIDDEN_SIZE, HIDDEN_SIZE), 0.02),
            Weight(f"{prefix}.self_attn.qkv_proj.weight", (3 * HIDDEN_SIZE, HIDDEN_SIZE), 0.04),
        ]
    weights.append(Weight("model.norm.weight", (HIDDEN_SIZE,), None))
    weights.append(Weight("lm_head.weight", (VOCABULARY_SIZE, HIDDEN_SIZE), 0.03))
    return weights


def _write_weights(folder: Path, weights: list[Weight], *, dtype: str, seed: int) -> None:
    """Write one model.safetensors, or shards of at most 2 GB and their index."""
    shards = _shards(weights)
    if len(shards) == 1:
        _write_shard(folder / "model.safetensors", weights, dtype=dtype, seed=seed)
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(folder / name, shard, dtype=dtype, seed=seed)
        weight_map |= {weight.name: name for weight in shard}
    total = sum(weight.size_bytes for weight in weights)
    _write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )


def _shards(weights: list[Weight]) -> list[list[Weight]]:
    shards: list[list[Weight]] = [[]]
    for weight in weights:
        if shards[-1] and sum(each.size_bytes for each in shards[-1]) + weight.size_bytes > SHARD_BYTES:
            shards.append([])
        shards[-1].append(weight)
    return shards


def _write_shard(path: Path, weights: list[Weight], *, dtype: str, seed: int) -> None:
    """Write one file: the header's length (u64), the header (JSON, padded to 8 bytes), the tensors.

    The format: https://huggingface.co/docs/safetensors/index#format
    """
    with path.open("wb") as file:
        header = _header(weights, dtype=dtype)
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for weight in weights:
            _write_tensor(file, weight, dtype=dtype, seed=seed)


def _header(weights: list[Weight], *, dtype: str) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for weight in weights:
        end = offset + weight.size_bytes
        entries[weight.name] = {"dtype": DTYPES[dtype], "shape": weight.shape, "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


def _write_tensor(file: BinaryIO, weight: Weight, *, dtype: str, seed: int) -> None:
    for block in _blocks(weight, seed=seed):
        stored = block.astype(np.float16) if dtype == "float16" else _bfloat16(block)
        stored.astype(stored.dtype.newbyteorder("<"), copy=False).tofile(file)


def _blocks(weight: Weight, *, seed: int) -> Iterator[np.ndarray]:
    """Yield the tensor as float32 in blocks of whole rows."""
    generator = np.random.Generator(np.random.SFC64([seed, zlib.crc32(weight.name.encode())]))
    if weight.std is None:
        yield 1 + 0.1 * generator.standard_normal(weight.shape, dtype=np.float32)
        return
    rows, columns = weight.shape
    scale = np.full(columns, weight.std, dtype=np.float32)
    scale[generator.choice(columns, OUTLIER_CHANNELS, replace=False)] *= 5
    step = BLOCK_ELEMENTS // columns
    for start in range(0, rows, step):
        block = generator.standard_normal((min(step, rows - start), columns), dtype=np.float32)
        block *= scale
        yield block


def _bfloat16(values: np.ndarray) -> np.ndarray:
    """Round float32 to the nearest bfloat16, ties to even, as uint16."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a checkpoint with Phi-3-mini-4k's shapes.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=4, help="decoder layers; Phi-3-mini has 32 (default: 4)")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    make_checkpoint(arguments.out, layers=arguments.layers, dtype=arguments.dtype, seed=arguments.seed)
    print(f"wrote {arguments.out} in {time.perf_counter() - start:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
