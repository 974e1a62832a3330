"""Rotary embeddings of an OpenVINO IR: cos and sin of the positions, and the turn that the plugins fuse to one RoPE."""

from __future__ import annotations

import numpy as np

from aipc.graph import Rope
from aipc.graph.openvino.ir import Port
from aipc.graph.openvino.operations import TO_END, Operations

_HEAD_AXIS = 3


def cos_and_sin(operations: Operations, rope: Rope, position_ids: Port) -> tuple[Port, Port]:
    """(batch, 1, tokens, rotated size) each."""
    positions = operations.convert(operations.unsqueeze(position_ids, 1), "f32")  # (batch, 1, tokens)
    angles = operations.matmul(_frequencies(operations, rope, position_ids), positions, transpose_b=False)
    angles = operations.transpose(angles, [0, 2, 1])  # (batch, tokens, rotated size / 2)
    angles = operations.concat([angles, angles], axis=-1)
    cos, sin = operations.unary("Cos", angles), operations.unary("Sin", angles)
    if rope.scale != 1.0:
        scale = operations.number(rope.scale)
        cos, sin = operations.binary("Multiply", cos, scale), operations.binary("Multiply", sin, scale)
    return operations.unsqueeze(cos, 1), operations.unsqueeze(sin, 1)


def _frequencies(operations: Operations, rope: Rope, position_ids: Port) -> Port:
    """(1, rotated size / 2, 1). LongRoPE: the long set as soon as any position is past the original length."""
    short = _column(operations, rope.inverse_frequencies)
    if rope.long_inverse_frequencies is None:
        return short
    last = operations.writer.node(
        "ReduceMax", "opset1", [position_ids, operations.vector([0, 1])], {"keep_dims": "false"}, output="i64"
    )
    sequence_tokens = operations.binary("Add", last, operations.scalar(1))
    is_long = operations.compare("Greater", sequence_tokens, operations.scalar(rope.original_tokens))
    return operations.select(is_long, _column(operations, rope.long_inverse_frequencies), short)


def _column(operations: Operations, frequencies: tuple[float, ...]) -> Port:
    return operations.writer.constant(np.array(frequencies, np.float32).reshape(1, -1, 1))


def rotate(operations: Operations, x: Port, rope: Rope, *, cos: Port, sin: Port) -> Port:
    """`x` (batch, heads, tokens, head size) turned: x · cos + (−second half, first half) · sin."""
    half, rotated = rope.rotated_size // 2, rope.rotated_size
    turned = operations.slice_last(x, 0, rotated, axis=_HEAD_AXIS) if rotated < rope.head_size else x
    first = operations.slice_last(turned, 0, half, axis=_HEAD_AXIS)
    second = operations.slice_last(turned, half, TO_END, axis=_HEAD_AXIS)
    negated = operations.binary("Multiply", second, operations.scalar(-1, "float32"))
    quarter_turn = operations.concat([negated, first], axis=-1)
    embedded = operations.binary(
        "Add", operations.binary("Multiply", turned, cos), operations.binary("Multiply", quarter_turn, sin)
    )
    if rotated == rope.head_size:
        return embedded
    return operations.concat([embedded, operations.slice_last(x, rotated, TO_END, axis=_HEAD_AXIS)], axis=-1)
