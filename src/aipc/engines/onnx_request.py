"""A generation request in ONNX Runtime GenAI's terms."""

from __future__ import annotations

from aipc.engines import Sampling

_LARGEST_SEED = 2**31 - 1


def search_options(
    sampling: Sampling, *, max_length: int, vocabulary_tokens: int, seed: int
) -> dict[str, int | float | bool]:
    """`set_search_options` of a `GeneratorParams`, with nothing left of the model's own defaults.

    `max_length` is in tokens, the prompt counted in; the KV cache is made as long as that. GenAI's seeds have 31 bits:
    of a larger one the low bits count.
    """
    options: dict[str, int | float | bool] = {
        "batch_size": 1,
        "do_sample": sampling.temperature > 0,
        "max_length": max_length,
        "min_length": 0,
        "no_repeat_ngram_size": 0,
        "num_beams": 1,
        "num_return_sequences": 1,
        "repetition_penalty": sampling.repetition_penalty,
    }
    if sampling.temperature > 0:
        options.update(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=min(sampling.top_k, vocabulary_tokens),
            random_seed=seed & _LARGEST_SEED,
        )
    return options
