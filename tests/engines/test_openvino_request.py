from __future__ import annotations

from threading import Event

import openvino_genai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipc.engines import Sampling
from aipc.engines.openvino_request import generation_config
from aipc.engines.openvino_tokens import TokenThread
from aipc.engines.runs import runs
from aipc.openvino_import import first_useful_line

COUNTS = st.integers(min_value=1, max_value=300)


@given(prompt_tokens=COUNTS, max_tokens=COUNTS, switch=COUNTS)
def test_no_run_computes_tokens_on_both_sides_of_the_switch(prompt_tokens: int, max_tokens: int, switch: int) -> None:
    length = prompt_tokens
    for run in runs(prompt_tokens, max_tokens, rope_switch_tokens=switch, seed=0):
        first_total, last_total = length, length + run.max_tokens - 1  # of the forward passes
        assert (first_total > switch) == (last_total > switch)
        length += run.max_tokens
    assert length == prompt_tokens + max_tokens


@given(prompt_tokens=COUNTS, max_tokens=COUNTS)
def test_a_model_without_longrope_runs_in_one_go(prompt_tokens: int, max_tokens: int) -> None:
    assert len(runs(prompt_tokens, max_tokens, rope_switch_tokens=None, seed=0)) == 1


def test_the_second_run_draws_other_numbers() -> None:
    first, second = runs(10, 20, rope_switch_tokens=16, seed=5)
    assert first.seed != second.seed


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.7, top_p=0.9, top_k=40, repetition_penalty=1.1),
        Sampling(temperature=1.0, stop_token_ids=frozenset({2, 507}), logprobs=True),
    ],
)
def test_genai_accepts_every_request(sampling: Sampling) -> None:
    config = generation_config(openvino_genai, sampling, max_tokens=7, seed=2**63 - 1)
    config.validate()
    assert config.max_new_tokens == 7
    assert config.stop_token_ids == set(sampling.stop_token_ids)


def test_a_cancelled_thread_stops_at_its_next_token() -> None:
    answers = []
    first_read = Event()

    def generate(streamer: openvino_genai.StreamerBase) -> None:
        answers.append(streamer.write(1))
        first_read.wait(5)
        answers.append(streamer.write([2, 3]))

    released = []
    thread = TokenThread(openvino_genai, generate, release=lambda: released.append(True))
    thread.start()
    steps = iter(thread)
    assert next(steps).token_id == 1
    thread.cancel()
    first_read.set()
    thread.close()
    assert answers == [openvino_genai.StreamingStatus.RUNNING, openvino_genai.StreamingStatus.CANCEL]
    assert released == [True]


def test_an_error_of_the_engine_reaches_the_reader_after_the_tokens() -> None:
    def generate(streamer: openvino_genai.StreamerBase) -> None:
        streamer.write(1)
        raise RuntimeError("the device was unplugged")

    thread = TokenThread(openvino_genai, generate, release=lambda: None)
    thread.start()
    steps = iter(thread)
    assert next(steps).token_id == 1
    with pytest.raises(RuntimeError, match="unplugged"):
        next(steps)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "Exception from src/inference/src/cpp/core.cpp:117:\nException from src/plugins/config.cpp:505:\n"
            "NotFound: Unsupported property FOO by CPU plugin.\n\n\n",
            "NotFound: Unsupported property FOO by CPU plugin.",
        ),
        (
            "Check 'prompt_len > 0' failed at /src/cpp/src/sequence_group.hpp:483:\nPrompt length cannot be 0\n",
            "Prompt length cannot be 0",
        ),
        (
            "Exception from src/core.cpp:264:\nFailed to parse 'X' option : Exception from src/npuw.hpp:147:\n"
            "Value 'FAST' is not a valid X option\n\n",
            "Value 'FAST' is not a valid X option",
        ),
        (
            "Exception from src/core.cpp:117:\nCheck 'itMain != _impl.end()' failed at src/config.cpp:161:\n"
            "[ NOT_FOUND ] Option 'NPUW_X' is not supported for current configuration\n\n",
            "Option 'NPUW_X' is not supported for current configuration",
        ),
        ("Exception from src/core.cpp:1:\n", "Exception from src/core.cpp:1:"),
        ("", "RuntimeError"),
    ],
)
def test_the_first_useful_line_is_what_went_wrong(text: str, line: str) -> None:
    assert first_useful_line(RuntimeError(text)) == line
