"""Rotary embeddings of an ONNX model: tables of cos and sin, which ONNX Runtime's operators look positions up in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from aipc.errors import UnsupportedModelError
from aipc.floats import Float32
from aipc.graph import Rope
from aipc.graph.onnx.nodes import GraphWriter, subgraph
from aipc.graph.onnx.provider import Provider

_LARGEST_BYTES = 1024**3  # of one table; that of the longest published context has 25 MB


@dataclass(frozen=True)
class _Rows:
    """`tokens` rows of a table by one set of frequencies."""

    frequencies: tuple[float, ...]
    tokens: int

    def angles(self, start: int, stop: int) -> Float32:
        """(rows, rotated size / 2), in radians."""
        positions = np.arange(start, stop, dtype=np.float32)
        return np.outer(positions, np.array(self.frequencies, np.float32))


def cos_and_sin(
    writer: GraphWriter, rope: Rope, context_tokens: int, provider: Provider, total_tokens: str
) -> tuple[str, str]:
    """The names of the tables that hold for this sequence.

    LongRoPE has two: the second holds for all positions as soon as the sequence is longer than the original length.
    A provider that branches chooses between them; for the others the second follows the first in one table, and
    `shifted_positions` looks positions up there.
    """
    if rope.long_inverse_frequencies is None:
        return _tables(writer, [_Rows(rope.inverse_frequencies, context_tokens)], rope, provider, "")
    short = _Rows(rope.inverse_frequencies, min(rope.original_tokens, context_tokens))
    long = _Rows(rope.long_inverse_frequencies, context_tokens)
    if not provider.branches:
        return _tables(writer, [short, long], rope, provider, "")
    original = writer.constant(np.array(rope.original_tokens, np.int32), "rope/original_tokens")
    is_long = writer.node("Greater", [total_tokens, original], name="rope/is_long")
    chosen = ("cos_cache", "sin_cache")
    branches = []
    for kind, rows in (("long", long), ("short", short)):
        cos, sin = _tables(writer, [rows], rope, provider, f"_{kind}")
        pairs = [(cos, f"cos_of_{kind}"), (sin, f"sin_of_{kind}")]
        branches.append(subgraph(kind, pairs, provider.kind, (rows.tokens, len(rows.frequencies))))
    writer.named_node("If", [is_long], chosen, name="rope/If", then_branch=branches[0], else_branch=branches[1])
    return chosen


def shifted_positions(writer: GraphWriter, rope: Rope, position_ids: str) -> str:
    """Positions in the joint table: those of a sequence longer than the original length begin behind the first."""
    if rope.long_inverse_frequencies is None:
        return position_ids
    original = writer.constant(np.array(rope.original_tokens, np.int64), "rope/original_tokens")
    last = writer.node("ReduceMax", [position_ids], name="rope/last_position", keepdims=0)
    is_long = writer.node("GreaterOrEqual", [last, original], name="rope/is_long")
    is_long = writer.node("Cast", [is_long], name="rope/is_long_int64", to=TensorProto.INT64)
    shift = writer.node("Mul", [is_long, original], name="rope/shift")
    return writer.node("Add", [position_ids, shift], name="rope/positions")


def _tables(
    writer: GraphWriter, parts: Sequence[_Rows], rope: Rope, provider: Provider, suffix: str
) -> tuple[str, str]:
    """cos and sin of all parts' rows, one part below the other."""
    tokens, pairs = sum(part.tokens for part in parts), len(rope.inverse_frequencies)
    if 4 * tokens * pairs > _LARGEST_BYTES:
        raise UnsupportedModelError(
            f"a context of {tokens:,} tokens",
            expected=f"tables of positions of at most {_LARGEST_BYTES:,} bytes",
            found=f"{4 * tokens * pairs:,}",
            try_next="--to openvino, which needs no tables",
        )
    element = np.float16 if provider.half else np.float32

    def rows_of(function: np.ufunc) -> Callable[[int, int], NDArray[Any]]:
        def rows(start: int, stop: int) -> NDArray[Any]:
            found, first = [], 0
            for part in parts:
                begin, end = max(start - first, 0), min(stop - first, part.tokens)
                if begin < end:
                    found.append(function(part.angles(begin, end)) * np.float32(rope.scale))
                first += part.tokens
            return np.concatenate(found).astype(element, copy=False)

        return rows

    shape = (tokens, pairs)
    cos = writer.table(rows_of(np.cos), shape, provider.kind, f"cos_cache{suffix}")
    return cos, writer.table(rows_of(np.sin), shape, provider.kind, f"sin_cache{suffix}")
