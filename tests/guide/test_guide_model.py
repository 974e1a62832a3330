"""The embedded model as it ships: its files, its words, and what each recipe costs it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import aipc
from aipc import guide as embedded
from aipc.chat import Chat, Message
from aipc.checkpoint import Checkpoint
from aipc.conversion import convert
from aipc.engines import LoadOptions, Sampling, openvino
from aipc.model import Model
from aipc.plan import make_plan
from aipc.quant.recipe import Recipe
from guide.evaluate import (
    EXACT,
    FP16,
    RECIPES,
    Logits,
    all_logits,
    compare,
    held_out_documents,
    numpy_model,
    openvino_model,
)
from guide.packing import Encoded
from guide.shape import Shape

PROMPTS = (
    "Can you introduce yourself?",
    "What is an NPU?",
    "How do I convert a model?",
    "你是谁？",
    "Who won the cup?",
)
FILES = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
# The largest KL divergence in nats, and the smallest share of same likeliest tokens: half as much again as was found
# when the model was trained.
LIMITS = {
    "int8-asym": (0.00013, 0.987),
    "int8-sym": (0.00014, 0.985),
    "int4-g32-sym": (0.012, 0.922),
    "int4-g64-sym": (0.014, 0.92),
    "int4-g128-sym": (0.015, 0.91),
    "int4-channel-sym": (0.021, 0.91),
    "int4-g128-asym": (0.017, 0.892),
    "int4-g128-sym-r0.6": (0.0038, 0.961),
    "int4-g128-sym-all": (0.031, 0.892),
}


@pytest.fixture(scope="module")
def checkpoint_dir() -> Path:
    missing = FILES - {path.name for path in embedded.CHECKPOINT.glob("*")}
    if missing:
        pytest.fail(f"{embedded.CHECKPOINT} has no {', '.join(sorted(missing))}: python -m guide makes them")
    return embedded.CHECKPOINT


@pytest.fixture
def model(checkpoint_dir: Path) -> Iterator[Model]:
    with aipc.load() as loaded:
        yield loaded


def test_the_checkpoint_has_the_trained_shape_and_takes_every_recipe(checkpoint_dir: Path) -> None:
    with Checkpoint(checkpoint_dir) as checkpoint:
        for recipe in (FP16, *RECIPES):
            assert make_plan(checkpoint, recipe).parameters == Shape().parameters
        assert {weight.dtype for weight in checkpoint.weights.values()} == {"F16"}


def test_the_card_is_of_these_weights(checkpoint_dir: Path) -> None:
    card = (checkpoint_dir / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256((checkpoint_dir / "model.safetensors").read_bytes()).hexdigest() in card
    assert f"{Shape().parameters:,} parameters" in card
    assert all(f"| {label} |" in card for label in LIMITS)


def test_the_package_ships_the_checkpoint() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^aipc = \[.*"guide/checkpoint/\*".*\]$', project, re.MULTILINE)


def test_it_introduces_itself_and_ends(model: Model) -> None:
    answer = model.generate("Can you introduce yourself?")
    assert "Guide" in answer.text
    assert answer.finish_reason == "stop"
    assert model.ready.recipe_label == "int8-asym"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("What is an NPU?", "neural"), ("What does INT4 mean?", "4 bits"), ("How do I convert a model?", "aipc convert")],
)
def test_it_answers_what_it_was_made_for(model: Model, prompt: str, expected: str) -> None:
    assert expected in model.generate(prompt).text


@pytest.mark.parametrize(
    "text", ["The green frog drinks tea at nine.", "Seven quiet lamps stood on the old bridge.", "river 42 stone x9"]
)
def test_it_copies_what_it_has_never_seen(model: Model, text: str) -> None:
    assert model.generate(f"Copy this: {text}").text == text


@pytest.mark.parametrize(
    ("prompt", "script"),
    [
        ("你是谁？", r"[\u4e00-\u9fff]{2}"),
        ("Bună ziua! Ce faci?", r"[ăâîșț]"),
        ("Send me an emoji", r"[\U0001f300-\U0001faff]"),
    ],
)
def test_characters_of_several_bytes_stream_whole(model: Model, prompt: str, script: str) -> None:
    answer = model.stream(prompt)
    pieces = [step.text for step in answer]
    assert "".join(pieces) == answer.text
    assert re.search(script, answer.text)
    assert not any("\ufffd" in piece for piece in pieces)
    assert "" in pieces  # a byte token that completes no character shows nothing


def test_greedy_text_of_numpy_and_of_openvino_in_float32_is_the_same(checkpoint_dir: Path, tmp_path: Path) -> None:
    reference, chat = numpy_model(checkpoint_dir, FP16), Chat.load(checkpoint_dir)
    options = LoadOptions(context_tokens=2048, properties=EXACT)
    with openvino.load(convert("guide", tmp_path / "out", weights="fp16").path, "CPU", options) as session:
        for prompt in PROMPTS:
            ids = chat.prompt_ids([Message("user", prompt)])
            found = [step.token_id for step in session.stream(ids, Sampling(max_tokens=40))]
            reference.reset()
            following, expected = ids, []
            while len(expected) < 40:
                expected.append(int(reference.logits(following)[-1].argmax()))
                following = expected[-1:]
            assert found == expected, prompt


@pytest.fixture(scope="module")
def documents(checkpoint_dir: Path) -> list[Encoded]:
    """Six hundred tokens that are not of the training text."""
    return [one for one in held_out_documents(checkpoint_dir) if len(one.ids) <= 120][:10]


@pytest.fixture(scope="module")
def fp16_logits(checkpoint_dir: Path, documents: list[Encoded]) -> list[Logits]:
    return all_logits(numpy_model(checkpoint_dir, FP16), documents)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_no_recipe_costs_more_than_it_did_and_openvino_computes_what_numpy_does(
    checkpoint_dir: Path, documents: list[Encoded], fp16_logits: list[Logits], recipe: Recipe, tmp_path: Path
) -> None:
    most_kl, least_top1 = LIMITS[recipe.label]
    by_numpy = all_logits(numpy_model(checkpoint_dir, recipe), documents)
    by_openvino = all_logits(openvino_model(checkpoint_dir, recipe, tmp_path), documents)
    for logits in (by_numpy, by_openvino):
        found = compare(fp16_logits, logits)
        assert found["kl"] <= most_kl
        assert found["top1"] >= least_top1
    assert max(float(np.abs(one - two).max()) for one, two in zip(by_numpy, by_openvino, strict=True)) < 1e-3


def test_openvinos_fp16_is_numpys(
    checkpoint_dir: Path, documents: list[Encoded], fp16_logits: list[Logits], tmp_path: Path
) -> None:
    found = compare(fp16_logits, all_logits(openvino_model(checkpoint_dir, FP16, tmp_path), documents))
    assert found["kl"] < 1e-7
    assert found["top1"] == 1


def test_the_models_own_limits_are_those_of_its_config(model: Model, checkpoint_dir: Path) -> None:
    config = json.loads((checkpoint_dir / "config.json").read_text(encoding="utf-8"))
    assert model.capabilities.context_tokens == config["max_position_embeddings"] == Shape().max_position_embeddings
    assert model.chat.tokenizer.vocab_size == config["vocab_size"]
