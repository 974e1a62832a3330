"""One answer: its text, its end, and what it cost."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_model import Make, encoded, fake_models, library, requests, write_fake_model
from hypothesis import given
from hypothesis import strategies as st

import aipc
from aipc.answer import Answer
from aipc.chat import Chat
from aipc.engines import fake
from aipc.errors import EngineError, UsageError
from aipc.model import Model
from aipc.ready import ReadyModel, read_facts

MIXED = "Grüße 你好 👩‍👩‍👧 and 😀!"


@pytest.fixture(autouse=True)
def _known_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring it takes a third of a second."""
    monkeypatch.setattr("aipc.answer.measured_bandwidth", lambda _: 20e9)


@pytest.fixture
def fake_model(tmp_path: Path) -> Iterator[Make]:
    with fake_models(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def tiny_model(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIPC_HOME", str(tmp_path_factory.mktemp("home")))
        with aipc.load(tiny_model_dir) as model:
            yield model


@pytest.fixture(scope="module")
def any_ready(tmp_path_factory: pytest.TempPathFactory) -> ReadyModel:
    return read_facts("fake", write_fake_model(tmp_path_factory.mktemp("any")))


def test_joined_steps_are_the_text_the_engine_was_given(fake_model: Make) -> None:
    answer = fake_model(MIXED).stream("Hi")
    steps = list(answer)
    assert "".join(step.text for step in steps) == answer.text == MIXED
    assert answer.token_ids == [step.token_id for step in steps]
    assert answer.finish_reason == "stop"


@given(text=st.text(alphabet="ab 😀👩‍👧你é", min_size=1, max_size=12), data=st.data())
def test_no_step_shows_half_a_character_and_nothing_is_lost(any_ready: ReadyModel, text: str, data: Any) -> None:
    ids = encoded(any_ready.path, text)
    kept = ids[: data.draw(st.integers(1, len(ids)))]
    session = fake.FakeSession(ids)
    answer = Model(any_ready, Chat.load(any_ready.path), session, load_s=0.0).stream("Hi", max_tokens=len(kept))
    steps = list(answer)
    assert not any("\ufffd" in step.text for step in steps[:-1])
    assert "".join(step.text for step in steps) == answer.text
    expected = library(any_ready.path).decode(kept)
    if "\ufffd" not in expected:
        assert answer.text == expected


def test_a_real_models_answer_is_its_tokens_decoded(tiny_model: Model, tiny_model_dir: Path) -> None:
    answer = tiny_model.generate("Hi", max_tokens=40, temperature=1.0, seed=5)
    ids = [index for index in answer.token_ids if index not in tiny_model.chat.tokenizer.stop_token_ids]
    assert answer.text == tiny_model.chat.tokenizer.decode(ids)
    assert len(answer.steps) <= 40


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("stop", ["END", ["never", "END"]])
def test_a_stop_text_and_what_follows_is_never_shown(fake_model: Make, stop: str | list[str], ends: bool) -> None:
    answer = fake_model("one two END three", ends=ends).stream("Hi", stop=stop)
    steps = list(answer)
    assert "".join(step.text for step in steps) == answer.text == "one two "
    assert answer.finish_reason == "stop"
    assert all("E" not in step.text for step in steps)


def test_generation_ends_at_the_stop_text(fake_model: Make) -> None:
    model = fake_model("one END " + "two " * 50)
    model.generate("Hi", stop="END")
    assert len(requests(model)[0].steps) == len(encoded(model.ready.path, "one END"))


@pytest.mark.parametrize(
    ("options", "script", "reason"),
    [
        ({}, {"ends": True}, "stop"),
        ({"max_tokens": "all"}, {"ends": False}, "length"),
        ({}, {"ends": False}, "stop"),  # the engine just ends
    ],
)
def test_held_back_text_is_shown_at_the_end(
    fake_model: Make, options: dict[str, Any], script: dict[str, Any], reason: str
) -> None:
    text = "to be or not to b"
    model = fake_model(text, **script)
    if options:
        options = {"max_tokens": len(encoded(model.ready.path, text))}
    answer = model.stream("Hi", stop="to be!", **options)
    assert "".join(step.text for step in answer) == answer.text == text
    assert answer.finish_reason == reason


def test_text_after_the_last_token_adds_no_token(fake_model: Make) -> None:
    model = fake_model("to b", ends=False)
    answer = model.stream("Hi", stop="to be")
    steps = list(answer)
    assert answer.token_ids == encoded(model.ready.path, "to b")
    assert steps[-1].token_id == answer.token_ids[-1]
    assert answer.statistics().generated_tokens == len(answer.token_ids)


def test_half_a_character_at_the_end_is_shown_as_the_replacement_character(fake_model: Make, tmp_path: Path) -> None:
    write_fake_model(tmp_path / "any")
    ids = encoded(tmp_path / "any", "a😀")[:-1]
    model = fake_model(ids)
    assert model.generate("Hi").text == "a\ufffd"


def test_a_stop_token_has_no_text(fake_model: Make) -> None:
    model = fake_model("Hello")
    for index in sorted(model.chat.tokenizer.stop_token_ids):
        answer = fake_model([*encoded(model.ready.path, "Yes"), index], ends=False).generate("Hi")
        assert (answer.text, answer.finish_reason, answer.token_ids[-1]) == ("Yes", "stop", index)


def test_max_tokens_ends_with_length_unless_the_turn_ends_there(fake_model: Make) -> None:
    model = fake_model("one two three")
    count = len(encoded(model.ready.path, "one two three"))
    assert model.generate("Hi", max_tokens=count).finish_reason == "length"
    assert model.generate("Hi", max_tokens=count + 1).finish_reason == "stop"
    assert len(model.generate("Hi", max_tokens=2).token_ids) == 2


def test_closing_stops_within_one_token_and_the_next_answer_is_whole(fake_model: Make) -> None:
    model = fake_model("one two three four")
    with model.stream("Hi") as answer:
        next(answer)
        next(answer)
    assert answer.finish_reason == "cancelled"
    assert len(requests(model)[0].steps) <= 3
    assert list(answer) == []
    assert answer.finish_reason == "cancelled"
    assert model.generate("Hi").text == "one two three four"


def test_closing_before_the_first_step_is_a_cancellation(fake_model: Make) -> None:
    answer = fake_model("one").stream("Hi")
    answer.close()
    assert list(answer) == []
    assert (answer.finish_reason, answer.text) == ("cancelled", "")


def test_closing_an_ended_answer_changes_nothing(fake_model: Make) -> None:
    answer = fake_model("one").generate("Hi")
    answer.close()
    assert (answer.finish_reason, answer.text) == ("stop", "one")


def test_another_thread_can_stop_an_answer(fake_model: Make) -> None:
    model = fake_model("one two three four five six", token_s=0.3)
    answer = model.stream("Hi")
    reader = threading.Thread(target=lambda: list(answer))
    next(answer)
    reader.start()
    threading.Event().wait(0.05)
    answer.close()
    reader.join(5)
    assert not reader.is_alive()
    assert answer.finish_reason == "cancelled"
    assert len(answer.steps) == 1  # the token that was on its way is not shown


@pytest.fixture
def _no_cyclic_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_cyclic_collector")
def test_breaking_out_of_a_stream_frees_the_engine_at_once(fake_model: Make) -> None:
    model = fake_model("one two three four")
    for _ in model.stream("Hi"):
        break
    assert len(requests(model)[0].steps) == 1
    assert model.generate("Hi").text == "one two three four"


def test_a_new_answer_closes_the_one_before_it(fake_model: Make) -> None:
    model = fake_model("one two three four")
    former = model.stream("Hi")
    next(former)
    assert model.generate("Hi").text == "one two three four"
    assert former.finish_reason == "cancelled"
    assert list(former) == []


def test_a_refused_request_leaves_the_answer_before_it_alone(fake_model: Make) -> None:
    model = fake_model("one two three four")
    former = model.stream("Hi")
    next(former)
    with pytest.raises(UsageError):
        model.stream("Hi", max_tokens=0)
    list(former)
    assert (former.text, former.finish_reason) == ("one two three four", "stop")


def test_a_new_answer_waits_for_a_thread_that_reads_the_one_before_it(fake_model: Make) -> None:
    model = fake_model("one two three four five six", token_s=0.2)
    former = model.stream("Hi")
    next(former)
    reader = threading.Thread(target=lambda: list(former))
    reader.start()
    threading.Event().wait(0.05)
    assert model.generate("Hi", max_tokens=2).finish_reason == "length"
    reader.join(5)
    assert former.finish_reason == "cancelled"


def test_closing_from_another_thread_at_any_moment_raises_nothing(fake_model: Make) -> None:
    model = fake_model("one two three four five six seven eight", token_s=0.001)
    failures: list[BaseException] = []

    def read(answer: Answer) -> None:
        try:
            list(answer)
        except BaseException as error:
            failures.append(error)

    for attempt in range(60):
        answer = model.stream("Hi")
        reader = threading.Thread(target=read, args=(answer,))
        reader.start()
        threading.Event().wait(attempt * 0.0002)
        answer.close()
        reader.join(5)
        assert not reader.is_alive()
    assert failures == []
    assert model.generate("Hi", max_tokens=1).finish_reason == "length"


def test_a_real_answer_that_is_given_up_frees_the_engine(tiny_model: Model) -> None:
    for logprobs in (False, True):
        for _ in tiny_model.stream("Hello", max_tokens=200, logprobs=logprobs):
            break
        assert tiny_model.generate("Hello", max_tokens=3).token_ids


def test_a_real_answer_is_cancelled_and_the_next_one_works(tiny_model: Model) -> None:
    whole = tiny_model.generate("Hello", max_tokens=30)
    with tiny_model.stream("Hello", max_tokens=200) as answer:
        for _, _step in zip(range(3), answer, strict=False):
            pass
    assert answer.finish_reason == "cancelled"
    assert tiny_model.generate("Hello", max_tokens=30).token_ids == whole.token_ids


def test_greedy_and_seeds_repeat_and_another_seed_differs(tiny_model: Model) -> None:
    def ids(**options: Any) -> list[int]:
        return tiny_model.generate("Hi", max_tokens=24, **options).token_ids

    assert ids() == ids()
    assert ids(temperature=1.5, seed=1) == ids(temperature=1.5, seed=1)
    assert len({tuple(ids(temperature=1.5, seed=seed)) for seed in range(4)}) > 1


def test_an_engines_failure_surfaces_and_the_model_goes_on(fake_model: Make) -> None:
    model = fake_model("one two three four", fail_after=2)
    answer = model.stream("Hi")
    with pytest.raises(EngineError, match="as it was told"):
        list(answer)
    assert answer.finish_reason == "error"
    assert len(answer.steps) == 2
    assert model.generate("Hi", max_tokens=1).finish_reason == "length"


def test_statistics_that_nobody_knows_are_not_available(fake_model: Make) -> None:
    answer = fake_model([], ends=False).generate("Hi")
    facts = answer.statistics().to_json()
    for name in ("time_to_first_token_s", "decode_tokens_per_s", "bytes_per_token", "bandwidth_share"):
        assert facts[name] is None, name
    assert "n/a" in str(answer.statistics())
    assert (answer.finish_reason, answer.text) == ("stop", "")


def test_statistics_need_no_place_for_a_store(fake_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = fake_model("Hi").generate("Hello")
    monkeypatch.setenv("AIPC_HOME", "~nosuchuser-here")
    assert "n/a" in str(answer.statistics())


def test_statistics_count_tokens_and_time(fake_model: Make) -> None:
    model = fake_model("one two three", prefill_s=0.1, token_s=0.02, load_s=0.1)
    answer = model.generate("Hi")
    statistics = answer.statistics()
    assert statistics.prompt_tokens == len(answer.prompt_ids)
    assert statistics.generated_tokens == len(answer.token_ids)
    assert isinstance(statistics.time_to_first_token_s, float)
    assert 0.1 <= statistics.time_to_first_token_s < 0.5
    assert isinstance(statistics.load_s, float)
    assert statistics.load_s >= 0.1
    assert statistics.device == "CPU"


def test_a_prompt_that_begins_as_an_earlier_one_has_no_prefill_speed(fake_model: Make) -> None:
    model = fake_model("one two three")
    model.session.capabilities = replace(model.capabilities, reused_prefix_tokens=16)

    def has_speed(prompt: str) -> bool:
        return isinstance(model.generate(prompt, raw=True).statistics().prefill_tokens_per_s, float)

    long = "one and two and three and four and five and six and seven and eight and nine"
    assert len(model.prompt_ids(long, raw=True)) > 16
    assert has_speed(long) and has_speed("two")
    assert not has_speed(long)
    assert not has_speed(f"{long} and ten")
    assert not has_speed("two and three")  # the short one became a block with its answer
    assert has_speed("three and four")
    model.session.capabilities = replace(model.capabilities, reused_prefix_tokens=None)
    assert has_speed(long)


def test_the_second_turn_of_a_real_model_has_no_prefill_speed(tiny_model_dir: Path) -> None:
    with aipc.load(tiny_model_dir) as model:
        first, second = (model.generate("word " * 40, max_tokens=2).statistics() for _ in range(2))
    assert isinstance(first.prefill_tokens_per_s, float)
    assert not isinstance(second.prefill_tokens_per_s, float)


def test_time_between_the_call_and_the_first_reading_is_not_the_engines(fake_model: Make) -> None:
    answer = fake_model("one").stream("Hi")
    threading.Event().wait(0.3)
    list(answer)
    first_s = answer.statistics().time_to_first_token_s
    assert isinstance(first_s, float)
    assert first_s < 0.2


def test_a_real_models_statistics_are_all_there(tiny_model: Model) -> None:
    facts = tiny_model.generate("as no other", max_tokens=8).statistics().to_json()
    assert [name for name, value in facts.items() if value is None] == ["device_choice"]  # none was left to auto
    json.dumps(facts)
