"""The checks that every engine makes before it starts on a request, so that nothing fails in the middle."""

from __future__ import annotations

from collections.abc import Sequence

from aipc.engines import Capabilities, Sampling
from aipc.errors import ContextLengthError, EmptyPromptError, UsageError


def checked_request(prompt_ids: Sequence[int], sampling: Sampling, capabilities: Capabilities) -> list[int]:
    """`prompt_ids` as a list, when the session can carry the request out to its last token.

    Raises `EmptyPromptError`, `ContextLengthError`, or `UsageError` for an id outside the vocabulary, a sampling value
    out of its range, or log-probabilities where the device has none.
    """
    prompt = [int(token_id) for token_id in prompt_ids]
    if not prompt:
        raise EmptyPromptError("the prompt has no token", try_next="give a text to answer")
    _check_sampling(sampling, capabilities)
    _check_lengths(len(prompt), sampling.max_tokens, capabilities)
    _check_vocabulary(prompt, capabilities.vocabulary_tokens)
    return prompt


def _check_lengths(prompt_tokens: int, max_tokens: int, capabilities: Capabilities) -> None:
    longest = capabilities.longest_prompt_tokens
    if longest is not None and prompt_tokens > longest:
        raise ContextLengthError(
            "the prompt is too long for this device",
            expected=f"at most {longest} tokens",
            found=prompt_tokens,
            try_next="a shorter prompt, or a longer MAX_PROMPT_LEN",
        )
    if prompt_tokens + max_tokens > capabilities.context_tokens:
        raise ContextLengthError(
            "prompt and answer do not fit the context",
            expected=f"at most {capabilities.context_tokens} tokens",
            found=f"{prompt_tokens} + {max_tokens}",
            try_next="a shorter prompt, or fewer max_tokens",
        )


def _check_vocabulary(prompt: list[int], vocabulary_tokens: int | None) -> None:
    end = vocabulary_tokens if vocabulary_tokens is not None else max(prompt) + 1
    outside = next((token_id for token_id in prompt if not 0 <= token_id < end), None)
    if outside is not None:
        raise UsageError("a token id is outside the vocabulary", expected=f"0 to {end - 1}", found=outside)


def _check_sampling(sampling: Sampling, capabilities: Capabilities) -> None:
    ranges = (
        ("max_tokens", sampling.max_tokens, sampling.max_tokens >= 1, "1 or more"),
        ("temperature", sampling.temperature, 0 <= sampling.temperature < float("inf"), "0 (greedy) or more"),
        ("top_p", sampling.top_p, 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        ("top_k", sampling.top_k, sampling.top_k >= 0, "0 (off) or more"),
        (
            "repetition_penalty",
            sampling.repetition_penalty,
            0 < sampling.repetition_penalty < float("inf"),
            "above 0 (1 is off)",
        ),
        ("seed", sampling.seed, sampling.seed is None or 0 <= sampling.seed < 2**63, "0 to 2^63 − 1"),
    )
    for name, value, is_fine, expected in ranges:
        if not is_fine:
            raise UsageError(name, expected=expected, found=value)
    if sampling.logprobs and not capabilities.logprobs:
        raise UsageError("this device gives no log-probabilities", try_next="--device cpu")
