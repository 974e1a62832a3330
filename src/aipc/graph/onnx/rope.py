"""Rotary embeddings of an ONNX model: tables of cos and sin, which ONNX Runtime's operators look positions up in."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from aipc.floats import Float32
from aipc.graph import Rope
from aipc.graph.onnx.nodes import GraphWriter, subgraph
from aipc.graph.onnx.provider import Provider


def tables(rope: Rope, context_tokens: int, *, long: bool) -> tuple[Float32, Float32]:
    """cos and sin of every position, (tokens, rotated size / 2) each."""
    frequencies = rope.long_inverse_frequencies if long else rope.inverse_frequencies
    angles = np.outer(np.arange(context_tokens, dtype=np.float32), np.array(frequencies, np.float32))
    scale = np.float32(rope.scale)
    cos, sin = np.cos(angles), np.sin(angles, out=angles)
    np.multiply(cos, scale, out=cos)
    np.multiply(sin, scale, out=sin)
    return cos, sin


def cos_and_sin(
    writer: GraphWriter, rope: Rope, context_tokens: int, provider: Provider, total_tokens: str
) -> tuple[str, str]:
    """The names of the tables that hold for this sequence.

    LongRoPE has two: the second holds for all positions as soon as the sequence is longer than the original length.
    A provider that branches chooses between them; for the others the second follows the first in one table, and
    `shifted_positions` looks positions up there.
    """
    if rope.long_inverse_frequencies is None:
        return _constants(writer, tables(rope, context_tokens, long=False), provider, "")
    short = tables(rope, min(rope.original_tokens, context_tokens), long=False)
    long = tables(rope, context_tokens, long=True)
    if not provider.branches:
        both = (np.concatenate([short[0], long[0]]), np.concatenate([short[1], long[1]]))
        return _constants(writer, both, provider, "")
    original = writer.constant(np.array(rope.original_tokens, np.int32), "rope/original_tokens")
    is_long = writer.node("Greater", [total_tokens, original], name="rope/is_long")
    cos_long, sin_long = _constants(writer, long, provider, "_long")
    cos_short, sin_short = _constants(writer, short, provider, "_short")
    kind = TensorProto.FLOAT16 if provider.half else TensorProto.FLOAT
    chosen = ("cos_cache", "sin_cache")
    writer.named_node(
        "If",
        [is_long],
        chosen,
        name="rope/If",
        then_branch=subgraph("long", [(cos_long, "cos_of_long"), (sin_long, "sin_of_long")], kind, long[0].shape),
        else_branch=subgraph("short", [(cos_short, "cos_of_short"), (sin_short, "sin_of_short")], kind, short[0].shape),
    )
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


def _constants(
    writer: GraphWriter, cos_sin: tuple[Float32, Float32], provider: Provider, suffix: str
) -> tuple[str, str]:
    kind = np.float16 if provider.half else np.float32
    cos, sin = cos_sin
    return (
        writer.constant(cos.astype(kind, copy=False), f"cos_cache{suffix}"),
        writer.constant(sin.astype(kind, copy=False), f"sin_cache{suffix}"),
    )
