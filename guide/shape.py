"""The sizes of the guide's network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The sizes of a network; all that INT4 groups run over are multiples of 128."""

    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    initializer_range: float = 0.02

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def parameters(self) -> int:
        """Weights in all: the embedding, which is the head too, the layers and the last norm."""
        hidden, inner = self.hidden_size, self.intermediate_size
        layer = 4 * hidden * hidden + 3 * hidden * inner + 2 * hidden
        return self.vocab_size * hidden + self.num_hidden_layers * layer + hidden
