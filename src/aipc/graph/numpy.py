"""A back end that computes, in float32 with numpy: the reference every other result is compared with.

It is plain rather than fast, and holds one sequence. Values are arrays without a batch: (tokens, features), or
(heads, tokens, size) between `heads` and `attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aipc.floats import Float32
from aipc.graph import Graph, Heads, Rope, Weight

WeightReader = Callable[[Weight], Float32]


class _Describes(Protocol):
    @property
    def rope_switch_tokens(self) -> int | None: ...

    def describe(self, graph: Graph[Float32]) -> None: ...


@dataclass
class KvCache:
    """Keys and values of the tokens so far, by layer: (KV heads, tokens, size)."""

    keys: dict[int, Float32] = field(default_factory=dict)
    values: dict[int, Float32] = field(default_factory=dict)

    def append(self, layer: int, key: Float32, value: Float32) -> tuple[Float32, Float32]:
        if layer in self.keys:
            key = np.concatenate([self.keys[layer], key], axis=1)
            value = np.concatenate([self.values[layer], value], axis=1)
        self.keys[layer], self.values[layer] = key, value
        return key, value


class NumpyModel:
    """A network that is run token by token or prompt by prompt, with a KV cache.

    `read_weight` gives a weight as float32 in its own shape; it is called each time the weight is needed, so the
    caller decides what is kept in memory.
    """

    def __init__(self, architecture: _Describes, read_weight: WeightReader) -> None:
        self._architecture = architecture
        self._read_weight = read_weight
        self.reset()

    def reset(self) -> None:
        """Forget the sequence."""
        self._cache = KvCache()
        self._token_ids: list[int] = []

    def logits(self, token_ids: Sequence[int]) -> Float32:
        """Append tokens to the sequence; gives the logits after each of them, (new tokens, vocabulary).

        When a LongRoPE sequence grows past its original length, every cached key was turned by the other
        frequencies: the whole sequence is then computed again, as transformers does.
        """
        switch = self._architecture.rope_switch_tokens
        past, total = len(self._token_ids), len(self._token_ids) + len(token_ids)
        self._token_ids.extend(token_ids)
        if switch is not None and 0 < past <= switch < total:
            self._cache = KvCache()
            return self._run(self._token_ids, first_position=0)[past:]
        return self._run(token_ids, first_position=past)

    def _run(self, token_ids: Sequence[int], *, first_position: int) -> Float32:
        graph = NumpyGraph(self._read_weight, self._cache, token_ids, first_position)
        self._architecture.describe(graph)
        return graph.output


class NumpyGraph:
    """The `Graph` protocol, computed at once. After `describe`, `output` holds the logits (tokens, vocabulary)."""

    output: Float32

    def __init__(
        self, read_weight: WeightReader, cache: KvCache, token_ids: Sequence[int], first_position: int
    ) -> None:
        self._read_weight = read_weight
        self._cache = cache
        self._token_ids = np.asarray(token_ids, np.int64)
        self._positions = np.arange(first_position, first_position + len(self._token_ids))

    def embedding(self, weight: Weight) -> Float32:
        return self._read_weight(weight)[self._token_ids]

    def linear(self, x: Float32, weight: Weight) -> Float32:
        return x @ self._read_weight(weight).T

    def rms_norm(self, x: Float32, weight: Weight, *, epsilon: float) -> Float32:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + np.float32(epsilon)) * self._read_weight(weight)

    def split(self, x: Float32, sizes: Sequence[int]) -> list[Float32]:
        return np.split(x, np.cumsum(sizes)[:-1], axis=-1)

    def heads(self, x: Float32, *, count: int, size: int) -> Float32:
        return x.reshape(-1, count, size).swapaxes(0, 1)  # (tokens, count · size) → (count, tokens, size)

    def rope(self, x: Float32, rope: Rope) -> Float32:
        angles = np.outer(self._positions.astype(np.float32), self._frequencies(rope))
        angles = np.concatenate([angles, angles], axis=-1)  # (tokens, rotated size)
        turned, rest = x[..., : rope.rotated_size], x[..., rope.rotated_size :]
        first, second = np.split(turned, 2, axis=-1)
        quarter_turn = np.concatenate([-second, first], axis=-1)
        embedded = (turned * np.cos(angles) + quarter_turn * np.sin(angles)) * np.float32(rope.scale)
        return np.concatenate([embedded, rest], axis=-1)

    def _frequencies(self, rope: Rope) -> Float32:
        is_long = rope.long_inverse_frequencies is not None and len(self._positions) > 0
        if is_long and self._positions[-1] + 1 > rope.original_tokens:
            return np.array(rope.long_inverse_frequencies, np.float32)
        return np.array(rope.inverse_frequencies, np.float32)

    def attention(
        self, query: Float32, key: Float32, value: Float32, *, layer: int, heads: Heads, window: int | None
    ) -> Float32:
        keys, values = self._cache.append(layer, key, value)
        group = heads.query // heads.key_value
        keys, values = np.repeat(keys, group, axis=0), np.repeat(values, group, axis=0)
        scores = query @ keys.swapaxes(1, 2) * np.float32(heads.size**-0.5)  # (heads, tokens, all tokens)
        scores = np.where(self._seen(keys.shape[1], window), scores, np.float32(-np.inf))
        attended = _softmax(scores) @ values
        return attended.swapaxes(0, 1).reshape(len(self._positions), -1)

    def _seen(self, all_tokens: int, window: int | None) -> NDArray[np.bool_]:
        queries, keys = self._positions[:, None], np.arange(all_tokens)[None, :]
        seen: NDArray[np.bool_] = keys <= queries
        return seen if window is None else seen & (keys > queries - window)

    def silu_gate(self, gate: Float32, up: Float32) -> Float32:
        # exp of −|gate| cannot overflow
        small = np.exp(-np.abs(gate))
        sigmoid = np.where(gate >= 0, 1, small) / (1 + small)
        return gate * sigmoid * up

    def add(self, a: Float32, b: Float32) -> Float32:
        return a + b

    def logits(self, x: Float32, weight: Weight) -> None:
        self.output = x @ self._read_weight(weight).T


def _softmax(scores: Float32) -> Float32:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    total: Float32 = weights / weights.sum(axis=-1, keepdims=True)
    return total
