"""The Python API: loading a model, and what it takes for a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_model import CONTEXT_TOKENS, Make, encoded, fake_models, requests, write_fake_model

import aipc
from aipc.chat import Message
from aipc.devices import NotAvailable
from aipc.engines.fake import FakeSession
from aipc.errors import (
    CheckpointError,
    ContextLengthError,
    EmptyPromptError,
    EngineError,
    ModelNotFoundError,
    RecipeError,
    TemplateError,
    UsageError,
)
from aipc.model import Model


@pytest.fixture
def fake_model(tmp_path: Path) -> Iterator[Make]:
    with fake_models(tmp_path) as make:
        yield make


def test_max_tokens_is_what_the_context_leaves_at_most_1024(fake_model: Make) -> None:
    model = fake_model("one")
    answer = model.generate("Hi")
    assert requests(model)[0].sampling.max_tokens == CONTEXT_TOKENS - len(answer.prompt_ids)
    long = fake_model("one", context_tokens=100_000)
    long.generate("Hi")
    assert requests(long)[0].sampling.max_tokens == 1024


@pytest.mark.parametrize(("prompt", "max_tokens"), [("Hi " * 300, None), ("Hi", CONTEXT_TOKENS), ("Hi " * 300, 1)])
def test_what_does_not_fit_the_context_is_refused_by_the_call(
    fake_model: Make, prompt: str, max_tokens: int | None
) -> None:
    model = fake_model("one")
    with pytest.raises(ContextLengthError):
        model.stream(prompt, max_tokens=max_tokens)
    assert requests(model) == []
    assert model.generate("Hi").text == "one"


@pytest.mark.parametrize("prompt", ["", "  \n", [], [Message("user", " ")], [{"role": "user", "content": ""}]])
def test_an_empty_prompt_is_refused(fake_model: Make, prompt: Any) -> None:
    model = fake_model()
    with pytest.raises(EmptyPromptError):
        model.stream(prompt)
    assert requests(model) == []


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user"},
        {"content": "Hi"},
        {"role": "user", "content": None},
        {"role": "user", "content": ["Hi"]},
        {"role": 3, "content": "Hi"},
        {"role": "wizard", "content": "Hi"},
        {"role": "user", "content": "Hi", "name": "Ada"},
        {"role": "user", "content": "half a \ud83d"},
        "Hi",
        7,
    ],
)
def test_a_malformed_message_is_a_usage_error(fake_model: Make, item: Any) -> None:
    with pytest.raises(UsageError, match="message"):
        fake_model().stream([item])


@pytest.mark.parametrize("prompt", [None, {"role": "user", "content": "Hi"}, "half a \ud83d"])
@pytest.mark.parametrize("raw", [False, True])
def test_a_prompt_that_is_neither_text_nor_messages_is_a_usage_error(fake_model: Make, prompt: Any, raw: bool) -> None:
    with pytest.raises(UsageError):
        fake_model().stream(prompt, raw=raw)


def test_a_text_a_message_and_a_dictionary_are_the_same_prompt(fake_model: Make) -> None:
    model = fake_model()
    prompts: list[Any] = ["Hi", [Message("user", "Hi")], [{"role": "user", "content": "Hi"}]]
    for prompt in prompts:
        model.generate(prompt)
    assert len({request.prompt_ids for request in requests(model)}) == 1
    rendered = "<|user|>\nHi<|end|>\n<|assistant|>\n"
    assert list(requests(model)[0].prompt_ids) == encoded(model.ready.path, rendered)


def test_raw_continues_the_text_as_it_is(fake_model: Make) -> None:
    model = fake_model()
    model.generate("def add(first", raw=True)
    assert list(requests(model)[0].prompt_ids) == encoded(model.ready.path, "def add(first")


def test_a_model_without_template_continues_text_and_refuses_messages(fake_model: Make) -> None:
    model = fake_model(template=False)
    model.generate("def add(first")
    assert list(requests(model)[0].prompt_ids) == encoded(model.ready.path, "def add(first")
    with pytest.raises(TemplateError):
        model.stream([Message("user", "Hi")])


@pytest.mark.parametrize("option", [{"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"stop": ""}])
def test_a_sampling_value_out_of_range_is_refused_by_the_call(fake_model: Make, option: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        fake_model().stream("Hi", **option)


@pytest.mark.parametrize(
    "option",
    [{"stop": None}, {"stop": 5}, {"stop": ["END", 5]}, {"max_tokens": "5"}, {"top_k": 10**20}, {"temperature": "hot"}],
)
def test_a_value_of_another_type_says_what_was_expected_and_found(fake_model: Make, option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(option))}.*expected .*found "):
        fake_model().stream("Hi", **option)


@pytest.mark.parametrize("target", [{"device": 5}, {"properties": {"MAX_PROMPT_LEN": 64}}, {"properties": "A=1"}])
def test_a_device_or_property_that_is_no_text_is_a_usage_error(tmp_path: Path, target: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(target))}.*expected "):
        aipc.load(tmp_path, **target)


def test_sampling_reaches_the_engine(fake_model: Make) -> None:
    model = fake_model()
    options: dict[str, Any] = {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "repetition_penalty": 1.1,
        "seed": 3,
        "logprobs": True,
    }
    answer = model.generate("Hi", **options)
    sampling = requests(model)[0].sampling
    assert {name: getattr(sampling, name) for name in options} == options
    assert answer.steps[0].logprob is not None


def test_a_closed_model_says_so(fake_model: Make) -> None:
    with fake_model() as model:
        model.generate("Hi")
    with pytest.raises(EngineError, match="closed"):
        model.stream("Hi")


def test_bytes_per_token_grow_with_the_context(tiny_model_dir: Path) -> None:
    with aipc.load(tiny_model_dir) as model:
        weights = model.ready.weight_bytes_per_token
        assert model.bytes_per_token(0) == weights
        layers, keys_and_values, heads, head_size = 2, 2, 4, 32
        assert model.bytes_per_token(10) == weights + 10 * layers * keys_and_values * heads * head_size


def loaded(model: Model, *, device: str = "CPU", window: int | None = None, **properties: str) -> Model:
    """`model` as if it had these properties, on a session that computes nothing."""
    ready = replace(model.ready, weight_bytes_per_token=1000, kv_elements_per_token=10, sliding_window=window)
    return Model(ready, model.chat, FakeSession([1], device=device), load_s=0.0, properties=properties)


def test_bytes_per_token_stop_growing_at_the_sliding_window(fake_model: Make) -> None:
    model = loaded(fake_model(), window=7)
    assert [model.bytes_per_token(tokens) for tokens in (6, 7, 8)] == [1060, 1070, 1070]


@pytest.mark.parametrize(("precision", "width"), [("u8", 1), ("f16", 2), ("bf16", 2), ("f32", 4)])
def test_bytes_per_token_count_the_kv_caches_own_width(fake_model: Make, precision: str, width: int) -> None:
    assert loaded(fake_model(), KV_CACHE_PRECISION=precision).bytes_per_token(3) == 1000 + 30 * width


@pytest.mark.parametrize(
    ("device", "properties"),
    [("CPU", {"KV_CACHE_PRECISION": "u4"}), ("CPU", {"EXECUTION_MODE_HINT": "ACCURACY"}), ("GPU", {}), ("NPU", {})],
)
def test_a_kv_cache_of_unknown_width_is_not_guessed(fake_model: Make, device: str, properties: dict[str, str]) -> None:
    assert isinstance(loaded(fake_model(), device=device, **properties).bytes_per_token(3), NotAvailable)


def test_progress_of_a_load_is_told(tmp_path: Path, tiny_model_dir: Path) -> None:
    stages: list[str] = []
    with aipc.load(tiny_model_dir, progress=lambda stage, *_: stages.append(stage)):
        pass
    assert list(dict.fromkeys(stages)) == ["check", "load"]


def test_a_model_that_is_nowhere_or_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        aipc.load(tmp_path / "nowhere")
    with pytest.raises(RecipeError):
        aipc.load(tmp_path, weights="int3")
    with pytest.raises(RecipeError, match="expected a number from 0 to 1, found 'x'"):
        aipc.load(tmp_path, ratio="x")


def test_a_load_prepares_the_template_and_leaves_its_errors_to_the_prompt(fake_model: Make, tmp_path: Path) -> None:
    assert "_code" in vars(fake_model().chat.template)
    directory = write_fake_model(tmp_path / "broken")
    config = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] = "{% if %}"
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with aipc.load(directory) as model:
        with pytest.raises(TemplateError, match="no Jinja"):
            model.stream("Hi")
        assert model.generate("Hi", raw=True).text == "I am Guide."


def test_a_session_is_closed_when_the_tokenizer_beside_it_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[FakeSession] = []
    monkeypatch.setattr(FakeSession, "close", lambda session: closed.append(session))
    directory = write_fake_model(tmp_path / "broken")
    (directory / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError):
        aipc.load(directory)
    assert len(closed) == 1
