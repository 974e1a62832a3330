"""Which answers are kept as measurements of this PC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_model import Make, fake_models

from aipc.engines.fake import FakeSession
from aipc.errors import EngineError
from aipc.measuring import FEWEST_TOKENS, LONGEST_CONTEXT_TOKENS, remember
from aipc.model import Model
from aipc.monitor.measurements import FILE, Measurement, read
from aipc.store import store_root
from aipc.store.identity import model_identity


@pytest.fixture
def fake_model(tmp_path: Path) -> Iterator[Make]:
    with fake_models(tmp_path) as make:
        yield make


def kept(model: Model, prompt: str = "Hi", **options: int) -> list[Measurement]:
    """What is in the store after an answer."""
    remember(model, model.generate(prompt, **options))
    return read(store_root() / FILE)


def long_answer(make: Make, **script: float) -> Model:
    return make([5] * 40, token_s=0.005, context_tokens=5000, **script)


def test_an_answer_that_is_long_enough_is_kept_with_its_speed(fake_model: Make) -> None:
    model = long_answer(fake_model)
    (entry,) = kept(model)
    assert (entry.engine, entry.device, entry.device_name) == ("fake", "CPU", model.session.device_name)
    assert (entry.model, entry.source) == (model_identity(model.ready.path), "run")
    assert entry.generated_tokens == 41
    assert 50 < entry.decode_tokens_per_s <= 210
    assert entry.prefill_tokens_per_s is None  # the first inference compiles, and later ones find a cache
    assert re.match(r"\d{4}-\d\d-\d\dT", entry.time)


def test_an_answer_of_few_tokens_or_a_long_context_says_nothing(fake_model: Make) -> None:
    assert kept(long_answer(fake_model), max_tokens=FEWEST_TOKENS - 1) == []
    assert kept(long_answer(fake_model), prompt="Hi " * LONGEST_CONTEXT_TOKENS) == []
    assert len(kept(long_answer(fake_model), max_tokens=FEWEST_TOKENS)) == 1


def test_an_answer_that_failed_is_not_kept(fake_model: Make) -> None:
    model = long_answer(fake_model, fail_after=30)
    answer = model.stream("Hi")
    with pytest.raises(EngineError):
        list(answer)
    remember(model, answer)
    assert read(store_root() / FILE) == []


@pytest.mark.parametrize(
    ("properties", "count"),
    [
        ({"NUM_STREAMS": "2"}, 0),
        ({"KV_CACHE_PRECISION": "f32"}, 0),
        ({"NPUW_DEVICES": "CPU"}, 0),
        ({"CACHE_DIR": "x"}, 1),
        ({"MAX_PROMPT_LEN": "2048"}, 1),
    ],
)
def test_properties_that_tune_a_device_are_not_its_usual_speed(
    fake_model: Make, properties: dict[str, str], count: int
) -> None:
    model = long_answer(fake_model)
    model.properties = properties
    assert len(kept(model)) == count


def test_a_rehearsal_is_not_kept(fake_model: Make) -> None:
    model = long_answer(fake_model)
    assert isinstance(model.session, FakeSession)
    model.session.is_rehearsal = True
    assert kept(model) == []


def test_a_models_directory_that_is_gone_does_not_fail_an_answer(fake_model: Make, tmp_path: Path) -> None:
    model = long_answer(fake_model)
    answer = model.generate("Hi")
    model.ready.path.rename(tmp_path / "elsewhere")
    remember(model, answer)
    assert read(store_root() / FILE) == []
