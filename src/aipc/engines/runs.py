"""How a generation is split where a model's rotary factors change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One uninterrupted request: at most `max_tokens` tokens on one KV cache."""

    max_tokens: int
    seed: int


def runs(prompt_tokens: int, max_tokens: int, *, rope_switch_tokens: int | None, seed: int) -> Sequence[Run]:
    """How a generation is split so that one KV cache never mixes the short and the long factors of longrope.

    Token number k is computed by a forward pass whose total length is prompt_tokens + k − 1. While that is at most
    `rope_switch_tokens` the short factors hold; the first pass beyond it starts anew from all tokens so far, as
    transformers does: its `longrope_frequency_update` takes the long factors when seq_len > original length, and
    `Phi3ForCausalLM.prepare_inputs_for_generation` drops the cache there.

    The second run has a seed of its own, as one seed twice would repeat the same draws.
    """
    whole = Run(max_tokens, seed)
    if rope_switch_tokens is None or prompt_tokens > rope_switch_tokens:
        return (whole,)
    before = rope_switch_tokens - prompt_tokens + 1
    if max_tokens <= before:
        return (whole,)
    return (Run(before, seed), Run(max_tokens - before, seed + 1))
