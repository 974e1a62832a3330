"""A generation request in openvino-genai's terms."""

from __future__ import annotations

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
