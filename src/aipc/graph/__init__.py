"""The `Graph` protocol: the dozen operations an architecture is described with.

An architecture file (`aipc.models.phi3`) calls these once per operation of the network. A back end gives them a
meaning: `aipc.graph.numpy` computes, `aipc.graph.openvino` writes an OpenVINO IR, `aipc.graph.inventory` notes which
weights are used. `V` is whatever a back end passes from one operation to the next.

Shapes below are of the whole network's tensors: batch first, then tokens; back ends may drop the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from aipc.weight import Weight as Weight

V = TypeVar("V")


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding by halves ("rotate half"), RoFormer (arXiv 2104.09864) as Llama lays it out.

    Of each head's `head_size` elements the first `2 * len(inverse_frequencies)` are turned, the rest pass. LongRoPE
    (arXiv 2402.13753) has a second set of frequencies that holds for every position as soon as the sequence is longer
    than `original_tokens`; cos and sin are multiplied by `scale`.
    """

    head_size: int
    inverse_frequencies: tuple[float, ...]
    long_inverse_frequencies: tuple[float, ...] | None = None
    original_tokens: int = 0
    scale: float = 1.0

    @property
    def rotated_size(self) -> int:
        return 2 * len(self.inverse_frequencies)


@dataclass(frozen=True)
class Heads:
    """The heads of an attention: `query` is a multiple of `key_value` (grouped-query attention, arXiv 2305.13245)."""

    query: int
    key_value: int
    size: int


class Graph(Protocol[V]):
    """What an architecture may ask of a back end."""

    def embedding(self, weight: Weight) -> V:
        """Rows of `weight` (vocabulary, hidden) for the input ids: (batch, tokens, hidden)."""

    def linear(self, x: V, weight: Weight) -> V:
        """`x` (…, inputs) times the transpose of `weight` (outputs, inputs): (…, outputs)."""

    def rms_norm(self, x: V, weight: Weight, *, epsilon: float) -> V:
        """`x / sqrt(mean(x², last axis) + epsilon) * weight` (arXiv 1910.07467)."""

    def split(self, x: V, sizes: Sequence[int]) -> list[V]:
        """Cut the last axis into pieces of these sizes."""

    def heads(self, x: V, *, count: int, size: int) -> V:
        """(batch, tokens, count · size) to (batch, count, tokens, size)."""

    def rope(self, x: V, rope: Rope) -> V:
        """Turn `x` (batch, heads, tokens, head size) by the positions of its tokens."""

    def attention(self, query: V, key: V, value: V, *, layer: int, heads: Heads, window: int | None) -> V:
        """Causal scaled dot-product attention over this layer's KV cache and the new `key` and `value`.

        `query` (batch, query heads, tokens, size), `key` and `value` (batch, KV heads, tokens, size); scores are
        divided by sqrt(size). With `window` W, position i sees j with i − W < j ≤ i.
        Gives (batch, tokens, query heads · size).
        """

    def silu_gate(self, gate: V, up: V) -> V:
        """`gate * sigmoid(gate) * up`, the middle of SwiGLU (arXiv 2002.05202)."""

    def add(self, a: V, b: V) -> V:
        """The sum of two tensors of one shape."""

    def logits(self, x: V, weight: Weight) -> None:
        """The network's output: `x` times the transpose of `weight` (vocabulary, hidden)."""
