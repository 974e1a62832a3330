"""The OpenVINO engine against transformers at float32, where LongRoPE changes its factors within one answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import EXACT, random_ids
from tiny_checkpoint import write_checkpoint
from transformers import AutoModelForCausalLM

from aipc.conversion import convert
from aipc.engines import LoadOptions, Sampling, openvino

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("prompt_tokens", [40, 64])
def test_an_answer_across_the_original_length_is_transformers(tmp_path: Path, prompt_tokens: int) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "phi-3.5-mini")
    prompt = random_ids(prompt_tokens, seed=3)
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    settings = {"max_new_tokens": 40, "min_new_tokens": 40, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        expected = theirs.generate(torch.tensor([prompt]), use_cache=False, **settings)[0, prompt_tokens:].tolist()
    model_dir = convert(checkpoint, tmp_path / "model", weights="fp16").path
    options = LoadOptions(context_tokens=256, properties=EXACT, rope_switch_tokens=64)
    with openvino.load(model_dir, "CPU", options) as session:
        steps = session.stream(prompt, Sampling(max_tokens=40))
        assert [step.token_id for step in steps] == expected
