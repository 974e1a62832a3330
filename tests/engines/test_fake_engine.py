from __future__ import annotations

import json
import time
from pathlib import Path
from typing import get_type_hints

import pytest

from aipc.engines import LoadOptions, Sampling, Session, fake
from aipc.errors import ContextLengthError, EngineError

TOKENS = [11, 12, 13, 14, 15]


def token_ids(session: Session, **sampling: object) -> list[int]:
    return [step.token_id for step in session.stream([1, 2], Sampling(**sampling))]


def test_it_answers_with_its_tokens_and_records_the_request() -> None:
    with fake.FakeSession(TOKENS) as session:
        assert token_ids(session, seed=7) == TOKENS
    (request,) = session.requests
    assert (request.prompt_ids, request.sampling.seed) == ((1, 2), 7)
    assert [step.token_id for step in request.steps] == TOKENS
    assert session.is_closed


def test_it_honours_max_tokens_and_stop_tokens() -> None:
    session = fake.FakeSession(TOKENS)
    assert token_ids(session, max_tokens=2) == [11, 12]
    assert token_ids(session, stop_token_ids=frozenset({13})) == [11, 12, 13]


def test_a_closed_stream_is_recorded_up_to_there() -> None:
    session = fake.FakeSession(TOKENS)
    stream = session.stream([1], Sampling())
    next(stream)
    with pytest.raises(EngineError, match="already generating"):
        next(session.stream([1], Sampling()))
    stream.close()
    assert len(session.requests[0].steps) == 1
    assert token_ids(session) == TOKENS


def test_it_fails_after_as_many_tokens_as_it_was_told() -> None:
    session = fake.FakeSession(TOKENS, fail_after=2)
    stream = session.stream([1], Sampling())
    assert [next(stream).token_id, next(stream).token_id] == [11, 12]
    with pytest.raises(EngineError, match="after 2 tokens"):
        next(stream)
    assert len(session.requests[0].steps) == 2


def test_tokens_come_at_the_speed_it_was_given() -> None:
    session = fake.FakeSession(TOKENS[:3], prefill_s=0.1, token_s=0.03)
    started = time.perf_counter()
    times = [step.time_s - started for step in session.stream([1], Sampling())]
    assert times[0] >= 0.1
    assert times[1] - times[0] >= 0.03
    assert times[2] < 1.0


def test_logprobs_are_there_when_asked_for() -> None:
    session = fake.FakeSession(TOKENS, logprob=-0.5)
    assert {step.logprob for step in session.stream([1], Sampling(logprobs=True))} == {-0.5}
    assert {step.logprob for step in session.stream([1], Sampling())} == {None}


def test_it_guards_the_context_as_a_real_engine_does(tmp_path: Path) -> None:
    (tmp_path / "fake_engine.json").write_text(json.dumps({"token_ids": TOKENS}), encoding="utf-8")
    with (
        fake.load(tmp_path, "npu", LoadOptions(context_tokens=8)) as session,
        pytest.raises(ContextLengthError, match="8 tokens"),
    ):
        session.stream([1] * 4, Sampling(max_tokens=5))


def test_it_loads_from_a_script(tmp_path: Path) -> None:
    script = {"token_ids": TOKENS, "token_s": 0.0, "fail_after": None}
    (tmp_path / "fake_engine.json").write_text(json.dumps(script), encoding="utf-8")
    with fake.load(tmp_path, "npu", LoadOptions()) as session:
        assert session.device == "NPU"
        assert token_ids(session) == TOKENS


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"token_ids": [1], "speed": 3}', '{"token_ids": 3}'])
def test_a_wrong_script_is_an_engine_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "fake_engine.json").write_text(text, encoding="utf-8")
    with pytest.raises(EngineError, match=r"fake_engine\.json"):
        fake.load(tmp_path, "CPU", LoadOptions())


def test_a_fake_session_has_all_that_the_protocol_asks_for() -> None:
    session = fake.FakeSession(TOKENS)
    for name in (*get_type_hints(Session), "stream", "warm_up", "close"):
        assert hasattr(session, name)
