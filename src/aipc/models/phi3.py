"""Phi-3, Phi-3.5 and Phi-4: a Llama-like decoder with fused qkv and gate-up projections and no biases.

One file for Phi-3-mini 4k (sliding window) and 128k (LongRoPE), Phi-3.5-mini, Phi-3-medium (grouped-query attention),
Phi-4 and Phi-4-mini (partial rotary, tied embeddings): the config tells them apart. Names are the checkpoint's.
Source: the Phi-3 technical report (arXiv 2404.14219) and the published config.json files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from aipc.config import ConfigFile
from aipc.errors import ConfigError
from aipc.graph import Graph, Heads, Rope, Weight

V = TypeVar("V")
LARGEST_HEAD_SIZE = 4096  # published ones have 64 to 128; the frequencies of a head are computed in Python


@dataclass(frozen=True)
class Phi3:
    """The fields of config.json that the network needs, under their own names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    sliding_window: int | None
    tie_word_embeddings: bool
    rope: Rope

    @property
    def context_tokens(self) -> int:
        return self.max_position_embeddings

    @property
    def vocabulary_size(self) -> int:
        return self.vocab_size

    @property
    def attention_sizes(self) -> Heads:
        return Heads(self.num_attention_heads, self.num_key_value_heads, self.head_dim)

    @property
    def kv_elements_per_token(self) -> int:
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim

    @property
    def rope_switch_tokens(self) -> int | None:
        return self.rope.original_tokens if self.rope.long_inverse_frequencies else None

    def describe(self, graph: Graph[V]) -> None:
        """The network, as calls on `graph`."""
        embedding = Weight("model.embed_tokens.weight", (self.vocab_size, self.hidden_size))
        hidden = graph.embedding(embedding)
        for layer in range(self.num_hidden_layers):
            hidden = self._attention(graph, hidden, layer)
            hidden = self._mlp(graph, hidden, layer)
        hidden = self._norm(graph, hidden, "model.norm.weight")
        head = embedding if self.tie_word_embeddings else Weight("lm_head.weight", embedding.shape)
        graph.logits(hidden, head)

    def _norm(self, graph: Graph[V], hidden: V, name: str) -> V:
        return graph.rms_norm(hidden, Weight(name, (self.hidden_size,)), epsilon=self.rms_norm_eps)

    def _attention(self, graph: Graph[V], hidden: V, layer: int) -> V:
        path = f"model.layers.{layer}"
        query_size = self.num_attention_heads * self.head_dim
        key_size = self.num_key_value_heads * self.head_dim
        qkv_proj = Weight(f"{path}.self_attn.qkv_proj.weight", (query_size + 2 * key_size, self.hidden_size))
        o_proj = Weight(f"{path}.self_attn.o_proj.weight", (self.hidden_size, query_size))

        qkv = graph.linear(self._norm(graph, hidden, f"{path}.input_layernorm.weight"), qkv_proj)
        query, key, value = graph.split(qkv, (query_size, key_size, key_size))
        query = graph.heads(query, count=self.num_attention_heads, size=self.head_dim)
        key = graph.heads(key, count=self.num_key_value_heads, size=self.head_dim)
        value = graph.heads(value, count=self.num_key_value_heads, size=self.head_dim)
        attended = graph.attention(
            graph.rope(query, self.rope),
            graph.rope(key, self.rope),
            value,
            layer=layer,
            heads=self.attention_sizes,
            window=self.sliding_window,
        )
        return graph.add(hidden, graph.linear(attended, o_proj))

    def _mlp(self, graph: Graph[V], hidden: V, layer: int) -> V:
        path = f"model.layers.{layer}"
        gate_up_proj = Weight(f"{path}.mlp.gate_up_proj.weight", (2 * self.intermediate_size, self.hidden_size))
        down_proj = Weight(f"{path}.mlp.down_proj.weight", (self.hidden_size, self.intermediate_size))

        gate_up = graph.linear(self._norm(graph, hidden, f"{path}.post_attention_layernorm.weight"), gate_up_proj)
        gate, up = graph.split(gate_up, (self.intermediate_size, self.intermediate_size))
        return graph.add(hidden, graph.linear(graph.silu_gate(gate, up), down_proj))


def read(config: ConfigFile) -> Phi3:
    """Read and check config.json. Raises `ConfigError` naming the key, what was expected and what was found."""
    heads = config.count("num_attention_heads")
    hidden_size = config.count("hidden_size")
    kv_heads = config.count("num_key_value_heads", default=heads)
    config.require(heads % kv_heads == 0, "num_key_value_heads", f"a divisor of num_attention_heads {heads}")
    config.require(hidden_size % heads == 0, "hidden_size", f"a multiple of num_attention_heads {heads}")
    config.require(config.text("hidden_act", default="silu") == "silu", "hidden_act", "silu")
    config.require(not config.flag("attention_bias", default=False), "attention_bias", "false")
    head_size = config.count("head_dim", default=hidden_size // heads)
    size_key = "head_dim" if config.has("head_dim") else "hidden_size"
    config.require(head_size <= LARGEST_HEAD_SIZE, size_key, f"heads of at most {LARGEST_HEAD_SIZE}, not {head_size}")
    return Phi3(
        hidden_size=hidden_size,
        intermediate_size=config.count("intermediate_size"),
        num_hidden_layers=config.count("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_size,
        vocab_size=config.count("vocab_size"),
        max_position_embeddings=config.count("max_position_embeddings"),
        rms_norm_eps=_epsilon(config),
        sliding_window=config.optional_count("sliding_window"),
        tie_word_embeddings=config.flag("tie_word_embeddings", default=False),
        rope=_read_rope(config, head_size),
    )


def _epsilon(config: ConfigFile) -> float:
    epsilon = config.number("rms_norm_eps", default=1e-5)
    config.require(1e-12 <= epsilon <= 1, "rms_norm_eps", "a number from 1e-12 to 1")
    return epsilon


def _read_rope(config: ConfigFile, head_size: int) -> Rope:
    """RoPE as transformers 4 writes it (rope_theta, rope_scaling) and as transformers 5 does (rope_parameters)."""
    scaling = config.section("rope_parameters") or config.section("rope_scaling")
    source = scaling if scaling is not None else config
    theta_source = source if source.has("rope_theta") else config
    theta = theta_source.number("rope_theta", default=10000.0)
    theta_source.require(1 < theta <= 1e12, "rope_theta", "a number above 1 and at most 1e12")
    partial = (source if source.has("partial_rotary_factor") else config).number("partial_rotary_factor", default=1.0)
    config.require(0 < partial <= 1, "partial_rotary_factor", "a number above 0 and at most 1")
    rotated = int(head_size * partial)
    even_share = rotated > 0 and rotated % 2 == 0
    config.require(even_share, "partial_rotary_factor", f"an even share of the head size {head_size}")
    frequencies = tuple(theta ** -(i / rotated) for i in range(0, rotated, 2))
    kind = _rope_kind(scaling)
    if scaling is None or kind == "default":
        return Rope(head_size, frequencies)
    if kind not in ("longrope", "su", "yarn"):  # all three names stand for LongRoPE in this family
        raise ConfigError(
            f"{scaling.path}: {scaling.key('type')}",
            expected="default, longrope or su",
            found=kind,
            try_next="a checkpoint with one of these, such as microsoft/Phi-3.5-mini-instruct",
        )
    return _longrope(config, scaling, Rope(head_size, frequencies))


def _rope_kind(scaling: ConfigFile | None) -> str:
    if scaling is None:
        return "default"
    return scaling.text("rope_type", default=scaling.text("type", default="default"))


def _longrope(config: ConfigFile, scaling: ConfigFile, rope: Rope) -> Rope:
    source = scaling if scaling.has("original_max_position_embeddings") else config
    original = source.count("original_max_position_embeddings")
    source.require(original > 1, "original_max_position_embeddings", "more than one token")
    factor = scaling.number("factor", default=config.count("max_position_embeddings") / original)
    scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return replace(
        rope,
        inverse_frequencies=_divided(rope, scaling, "short_factor"),
        long_inverse_frequencies=_divided(rope, scaling, "long_factor"),
        original_tokens=original,
        scale=scaling.number("attention_factor", default=scale),
    )


def _divided(rope: Rope, scaling: ConfigFile, key: str) -> tuple[float, ...]:
    frequencies = rope.inverse_frequencies
    factors = scaling.numbers(key, length=len(frequencies))
    return tuple(frequency / factor for frequency, factor in zip(frequencies, factors, strict=True))
