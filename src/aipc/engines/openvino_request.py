"""A generation request in openvino-genai's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aipc.engines import Sampling


def generation_config(genai: Any, sampling: Sampling, *, max_tokens: int, seed: int) -> Any:
    """An `openvino_genai.GenerationConfig` that holds `sampling` and nothing of the model's own defaults."""
    config = genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.repetition_penalty = sampling.repetition_penalty
    config.logprobs = 1 if sampling.logprobs else 0
    config.do_sample = sampling.temperature > 0
    if config.do_sample:
        _set_sampling(config, sampling, seed=seed)
    _set_stop_tokens(config, sampling.stop_token_ids)
    return config


def _set_sampling(config: Any, sampling: Sampling, *, seed: int) -> None:
    config.temperature = sampling.temperature
    config.top_p = sampling.top_p
    if sampling.top_k > 0:  # genai's default is "all of them", and its validation refuses 0
        config.top_k = sampling.top_k
    config.rng_seed = seed


def _set_stop_tokens(config: Any, stop_token_ids: frozenset[int]) -> None:
    # An unset eos_token_id would be filled in from the model's generation_config.json.
    config.ignore_eos = not stop_token_ids
    if stop_token_ids:
        config.eos_token_id = min(stop_token_ids)
        config.stop_token_ids = set(stop_token_ids)


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
