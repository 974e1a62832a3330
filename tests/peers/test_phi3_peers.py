"""Logits and greedy text against transformers at float32, for every shape of the Phi-3 family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import OpenVinoModel, greedy, random_ids, reference
from tiny_checkpoint import SHAPES, write_checkpoint
from transformers import AutoModelForCausalLM

from aipc.conversion import convert
from aipc.quant.recipe import Recipe

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module", params=list(SHAPES))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("peers") / request.param, request.param)


@pytest.fixture(scope="module")
def theirs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    rope_scaling = SHAPES[checkpoint.name].get("rope_scaling")
    if rope_scaling and rope_scaling["type"] == "su":
        # transformers 5.5 fails on its own old name for LongRoPE; the same weights under the new name
        renamed = {**rope_scaling, "type": "longrope"}
        checkpoint = write_checkpoint(tmp_path_factory.mktemp("renamed"), checkpoint.name, rope_scaling=renamed)
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")


def their_logits(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def their_greedy(model: torch.nn.Module, prompt: list[int], tokens: int, *, use_cache: bool) -> list[int]:
    settings = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        whole = model.generate(torch.tensor([prompt]), use_cache=use_cache, **settings)
    return whole[0, len(prompt) :].tolist()


# 40 tokens stay inside window and original length, 150 go past both.
@pytest.mark.parametrize("tokens", [40, 64, 65, 150])
def test_numpy_and_openvino_give_transformers_logits(
    checkpoint: Path, theirs: torch.nn.Module, tmp_path: Path, tokens: int
) -> None:
    ids = random_ids(tokens, seed=tokens)
    expected = their_logits(theirs, ids)
    assert np.abs(reference(checkpoint, Recipe("fp16")).logits(ids) - expected).max() <= 1e-4
    out = convert(checkpoint, tmp_path / "out", weights="fp16").path
    assert np.abs(OpenVinoModel(out).logits(ids) - expected).max() <= 1e-4


def test_numpy_generates_transformers_greedy_tokens_across_every_switch(
    checkpoint: Path, theirs: torch.nn.Module
) -> None:
    # Without its cache: with it, transformers 5.5 leaves its own uncached tokens where LongRoPE switches.
    prompt = random_ids(40, seed=9)
    expected = their_greedy(theirs, prompt, 60, use_cache=False)
    assert greedy(reference(checkpoint, Recipe("fp16")), prompt, 60) == expected


def test_openvino_generates_transformers_greedy_tokens(
    checkpoint: Path, theirs: torch.nn.Module, tmp_path: Path
) -> None:
    prompt = random_ids(20, seed=10)  # 20 + 40 tokens stay within the original length of the LongRoPE shapes
    out = convert(checkpoint, tmp_path / "out", weights="fp16").path
    assert greedy(OpenVinoModel(out), prompt, 40) == their_greedy(theirs, prompt, 40, use_cache=True)
