"""What transformers is handed for a KV cache, where the real one stays inside the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from aipc.npu.network import Indices


class StateCache:
    """Stands for the tokens that the model's state holds.

    A model has one state, so only the cache that its last step returned can go on; `rows` are the rows of the state
    that the next step goes on from, in that order, as beam search wants them.
    """

    # Read by versions of transformers, which then leave it alone.
    is_compileable = False
    is_croppable = False
    is_linear = (False,)

    def __init__(self, tokens: int, rows: Indices, *, has_long_factors: bool) -> None:
        self.tokens = tokens
        self.rows = rows
        self.has_long_factors = has_long_factors  # LongRoPE's, in the keys of the state

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of every row, padding included."""
        return self.tokens

    def reorder_cache(self, beam_idx: Any) -> None:
        """Go on from the rows `beam_idx`, an int64 tensor (batch,)."""
        self.rows = self.rows[beam_idx.cpu().numpy()]


def first_rows(batch: int) -> Indices:
    """The rows of an empty state."""
    return np.arange(batch, dtype=np.int32)
