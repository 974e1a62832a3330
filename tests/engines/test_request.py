from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipc.engines import Capabilities, Sampling
from aipc.engines.request import checked_request
from aipc.errors import ContextLengthError, EmptyPromptError, UsageError

ANYTHING = Capabilities(context_tokens=100, vocabulary_tokens=50)


@given(prompt=st.lists(st.integers(0, 49), min_size=1, max_size=120), max_tokens=st.integers(1, 120))
def test_a_request_passes_when_and_only_when_it_fits_the_context(prompt: list[int], max_tokens: int) -> None:
    sampling = Sampling(max_tokens=max_tokens)
    if len(prompt) + max_tokens <= 100:
        assert checked_request(prompt, sampling, ANYTHING) == prompt
    else:
        with pytest.raises(ContextLengthError):
            checked_request(prompt, sampling, ANYTHING)


def test_an_empty_prompt_has_its_own_error() -> None:
    with pytest.raises(EmptyPromptError):
        checked_request([], Sampling(), ANYTHING)


@pytest.mark.parametrize("token_id", [-1, 50])
def test_a_token_outside_the_vocabulary_is_refused(token_id: int) -> None:
    with pytest.raises(UsageError, match=f"expected 0 to 49, found {token_id}"):
        checked_request([1, token_id], Sampling(max_tokens=1), ANYTHING)


def test_a_negative_token_is_refused_without_a_known_vocabulary() -> None:
    with pytest.raises(UsageError):
        checked_request([-1], Sampling(max_tokens=1), Capabilities(context_tokens=100))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
        {"seed": -1},
        {"seed": 0.5},
        {"top_k": 10**20},
        {"top_k": 1.5},
        {"max_tokens": "5"},
        {"max_tokens": True},
        {"temperature": "1"},
        {"temperature": None},
        {"temperature": 1e-7},  # its float32 quotients overflow
        {"temperature": 10**400},
        {"top_p": "1"},
        {"repetition_penalty": None},
    ],
)
def test_a_sampling_value_out_of_range_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))}: expected .*, found "):
        checked_request([1], Sampling(**{"max_tokens": 1, **wrong}), ANYTHING)


def test_a_device_without_logprobs_says_so() -> None:
    silent = Capabilities(context_tokens=100, logprobs=False)
    with pytest.raises(UsageError, match="log-probabilities"):
        checked_request([1], Sampling(max_tokens=1, logprobs=True), silent)
