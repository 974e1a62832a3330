"""The attention mask of an OpenVINO IR, to the letter as transformers' masks are traced.

The paged-attention transformation recognises a sliding window by this exact chain. Without either of the two "And
true" or without the Broadcast it sets the window to 0, and the text is wrong with no error.
"""

from __future__ import annotations

import numpy as np

from aipc.graph.openvino.ir import Port
from aipc.graph.openvino.operations import Operations

_MASKED = -65504.0  # the lowest FP16 value; −∞ would give NaN in rows that see nothing


def causal_mask(
    operations: Operations, *, past: Port, new: Port, batch: Port, attention_mask: Port, window: int | None
) -> Port:
    """A float32 mask (batch, 1, new tokens, all tokens): 0 where a query sees a key.

    `past`, `new` and `batch` are scalars: tokens in the cache, new tokens, sequences. `attention_mask`
    (batch, all tokens) is 0 at padding.
    """
    total = operations.binary("Add", past, new)
    key_positions = operations.arange(operations.scalar(0, "int32"), total)
    for axis in (0, 1, 2):
        key_positions = operations.unsqueeze(key_positions, axis)  # (1, 1, 1, all)
    query_positions = operations.binary("Add", operations.arange(operations.scalar(0, "int32"), new), past)
    for axis in (0, 1, 3):
        query_positions = operations.unsqueeze(query_positions, axis)  # (1, 1, new, 1)
    seen = _seen(operations, key_positions, query_positions, window)
    padding = operations.convert(attention_mask, "boolean")
    padding = operations.unsqueeze(operations.unsqueeze(padding, 1), 1)  # (batch, 1, 1, all)
    seen = operations.both(seen, padding)
    shape = operations.concat(
        [
            operations.as_vector(batch),
            operations.vector([1]),
            operations.as_vector(new),
            operations.as_vector(total),
        ],
        axis=0,
    )
    seen = operations.broadcast(seen, shape, mode="bidirectional")
    return operations.select(seen, operations.scalar(0, "float32"), operations.scalar(_MASKED, "float32"))


def _seen(operations: Operations, key_positions: Port, query_positions: Port, window: int | None) -> Port:
    always = operations.writer.constant(np.array(True))
    is_past = operations.compare("LessEqual", key_positions, query_positions)
    if window is None:
        return operations.both(always, is_past)
    minus_window = operations.writer.constant(np.full((1, 1, 1, 1), -window, np.int64))
    oldest = operations.binary("Add", query_positions, minus_window)
    in_window = operations.both(always, operations.compare("Greater", key_positions, oldest))
    return operations.both(always, operations.both(in_window, is_past))
