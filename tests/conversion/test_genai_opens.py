"""openvino_genai.LLMPipeline opens what aipc writes, and generates what NumPy computes on the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from networks import EXACT, greedy, random_ids, reference
from pipelines import NPU_ON_CPU, greedy_config, open_pipeline, pipeline_tokens
from recipes import RECIPES, converted
from tiny_checkpoint import SHAPES, write_checkpoint

from aipc.chat import Chat, Message
from aipc.graph.numpy import NumpyModel
from aipc.quant.recipe import Recipe

CONVERSATION = [Message("system", "Be brief."), Message("user", "Hi, who are you?\nGrüße, 你好")]
NEAR_TIE = 0.1  # logits here have a standard deviation of 1.5; the NPU's arithmetic is FP16
CLEARLY_WORSE = 1.0


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_paged_attention_generates_the_tokens_of_numpy_for_every_recipe(
    tiny_checkpoint_dir: Path, tmp_path: Path, recipe: Recipe
) -> None:
    out = converted(tiny_checkpoint_dir, tmp_path / "out", recipe)
    prompt = random_ids(60, seed=7)  # past the window of 47
    expected = greedy(reference(tiny_checkpoint_dir, recipe), prompt, 16)
    assert pipeline_tokens(open_pipeline(out, **EXACT), prompt, 16) == expected


@pytest.mark.parametrize("backend", ["PA", "SDPA"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_generates_the_tokens_of_numpy_on_both_back_ends(shape: str, backend: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    out = converted(checkpoint, tmp_path / "out", Recipe("int8"))
    pipeline = open_pipeline(out, ATTENTION_BACKEND=backend, **EXACT)
    # 20 + 24 tokens stay inside windows and below original lengths, 80 + 24 lie past all but one of them.
    for prompt in (random_ids(20, seed=8), random_ids(80, seed=9)):
        assert pipeline_tokens(pipeline, prompt, 24) == greedy(reference(checkpoint, Recipe("int8")), prompt, 24)


def test_a_text_prompt_gives_the_text_that_aipc_would_make(tiny_checkpoint_dir: Path, tiny_model_dir: Path) -> None:
    pipeline, chat = open_pipeline(tiny_model_dir, **EXACT), Chat.load(tiny_model_dir)
    history = [{"role": message.role, "content": message.content} for message in CONVERSATION]
    rendered = pipeline.get_tokenizer().apply_chat_template(history, add_generation_prompt=True)
    assert rendered == chat.render(CONVERSATION)

    ids = chat.prompt_ids([Message("user", "Hi, who are you?")])
    expected = greedy(reference(tiny_checkpoint_dir, Recipe("int8")), ids, 24)
    assert str(pipeline.generate("Hi, who are you?", greedy_config(24))) == chat.tokenizer.decode(expected)


def test_genai_takes_the_stop_tokens_from_the_files_that_travel_along(tiny_model_dir: Path) -> None:
    stops = Chat.load(tiny_model_dir).tokenizer.stop_token_ids
    assert len(stops) == 2
    assert open_pipeline(tiny_model_dir).get_generation_config().stop_token_ids == stops


@pytest.mark.parametrize("group_size", [64, 128, -1])
def test_the_npus_pipeline_takes_symmetric_int4_and_keeps_close_to_numpy(tmp_path: Path, group_size: int) -> None:
    recipe = Recipe("int4", group_size)
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    out = converted(checkpoint, tmp_path / "out", recipe)
    pipeline = open_pipeline(out, "NPU", **NPU_ON_CPU)
    for prompt in (random_ids(20, seed=1), random_ids(90, seed=2)):
        generated = pipeline_tokens(pipeline, prompt, 24)
        assert shortfall(reference(checkpoint, recipe), prompt, generated) < NEAR_TIE
    assert len(str(pipeline.generate("Hi, who are you?", greedy_config(8)))) > 0


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "phi-3-mini-4k"])
def test_the_npus_pipeline_takes_every_shape(tmp_path: Path, shape: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    pipeline = open_pipeline(converted(checkpoint, tmp_path / "out", Recipe("int8")), "NPU", **NPU_ON_CPU)
    for prompt in (random_ids(20, seed=3), random_ids(80, seed=4)):
        generated = pipeline_tokens(pipeline, prompt, 24)
        assert shortfall(reference(checkpoint, Recipe("int8")), prompt, generated) < NEAR_TIE


def test_the_npus_pipeline_keeps_the_sliding_window(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    without = write_checkpoint(tmp_path / "without", sliding_window=None)
    pipeline = open_pipeline(converted(checkpoint, tmp_path / "out", Recipe("int8")), "NPU", **NPU_ON_CPU)
    prompt = random_ids(90, seed=5)
    generated = pipeline_tokens(pipeline, prompt, 24)
    assert shortfall(reference(checkpoint, Recipe("int8")), prompt, generated) < NEAR_TIE
    assert shortfall(reference(without, Recipe("int8")), prompt, generated) > CLEARLY_WORSE


def shortfall(model: NumpyModel, prompt: Sequence[int], generated: Sequence[int]) -> float:
    """How far the logit of a generated token stayed below the best one, at most, given the tokens before it."""
    logits = model.logits([*prompt, *generated[:-1]])[len(prompt) - 1 :]
    return float((logits.max(-1) - logits[np.arange(len(generated)), generated]).max())
