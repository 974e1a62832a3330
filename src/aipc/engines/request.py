"""The checks that every engine makes before it starts on a request, so that nothing fails in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from aipc.engines import Capabilities, Sampling
from aipc.errors import ContextLengthError, EmptyPromptError, UsageError

# Engines divide logits by these as float32: by 1e-45 they become infinities, and the tokens noise.
SMALLEST_FLOAT, LARGEST_FLOAT = 1e-6, 1e6
LARGEST_TOP_K = 2**31 - 1


def checked_request(prompt_ids: Sequence[int], sampling: Sampling, capabilities: Capabilities) -> list[int]:
    """`prompt_ids` as a list, when the session can carry the request out to its last token.

    Raises `EmptyPromptError`, `ContextLengthError`, or `UsageError` for an id outside the vocabulary, a sampling value
    of another type or out of its range, or log-probabilities where the device has none. A temperature above 0 and
    below 1e-6 is refused, as float32 cannot sample with it; 0 is greedy.
    """
    prompt = [int(token_id) for token_id in prompt_ids]
    if not prompt:
        raise EmptyPromptError("the prompt has no token", try_next="give a text to answer")
    check_sampling(sampling)
    if sampling.logprobs and not capabilities.logprobs:
        raise UsageError("this device gives no log-probabilities", try_next="--device cpu")
    _check_lengths(len(prompt), sampling.max_tokens, capabilities)
    _check_vocabulary(prompt, capabilities.vocabulary_tokens)
    return prompt


def _check_lengths(prompt_tokens: int, max_tokens: int, capabilities: Capabilities) -> None:
    longest, longer = capabilities.longest_prompt_tokens, ", or, within the model's context, a larger MIN_RESPONSE_LEN"
    if longest is not None and prompt_tokens > longest:
        raise ContextLengthError(
            "the prompt is too long for this device",
            expected=f"at most {longest} tokens",
            found=prompt_tokens,
            try_next=f"a shorter prompt, or --ov-config MAX_PROMPT_LEN={prompt_tokens}",
        )
    if prompt_tokens + max_tokens > capabilities.context_tokens:
        raise ContextLengthError(
            "prompt and answer do not fit the context",
            expected=f"at most {capabilities.context_tokens} tokens",
            found=f"{prompt_tokens} + {max_tokens}",
            try_next=f"a shorter prompt, or a smaller --max-tokens{'' if longest is None else longer}",
        )


def _check_vocabulary(prompt: list[int], vocabulary_tokens: int | None) -> None:
    end = vocabulary_tokens if vocabulary_tokens is not None else max(prompt) + 1
    outside = next((token_id for token_id in prompt if not 0 <= token_id < end), None)
    if outside is not None:
        raise UsageError("a token id is outside the vocabulary", expected=f"0 to {end - 1}", found=outside)


def check_sampling(sampling: Sampling) -> None:
    """What no device takes, whatever the prompt. Raises `UsageError`."""
    floats = f"from {SMALLEST_FLOAT:g} to {LARGEST_FLOAT:g}"
    ranges = (
        ("max_tokens", _is_count(sampling.max_tokens, least=1), "a whole number, 1 or more"),
        ("temperature", sampling.temperature == 0 or _is_float(sampling.temperature), f"0 (greedy), or {floats}"),
        ("top_p", _is_number(sampling.top_p) and 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        ("top_k", _is_count(sampling.top_k, most=LARGEST_TOP_K), f"a whole number, 0 (off) to {LARGEST_TOP_K}"),
        ("repetition_penalty", _is_float(sampling.repetition_penalty), f"{floats} (1 is off)"),
        (
            "seed",
            sampling.seed is None or _is_count(sampling.seed, most=2**63 - 1),
            "a whole number from 0 to 2^63 − 1",
        ),
    )
    for name, is_fine, expected in ranges:
        if not is_fine:
            raise UsageError(name, expected=expected, found=repr(getattr(sampling, name)))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_float(value: object) -> bool:
    return _is_number(value) and SMALLEST_FLOAT <= value <= LARGEST_FLOAT


def _is_count(value: object, *, least: int = 0, most: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
