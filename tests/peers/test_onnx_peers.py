"""The ONNX back end's logits against transformers at float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoint
import torch
from networks import random_ids
from transformers import AutoModelForCausalLM

from aipc.conversion import convert

pytestmark = pytest.mark.peers
pytest.importorskip("onnx", reason='onnx is missing: pip install ".[onnx]"')
pytest.importorskip("onnxruntime", reason='onnxruntime is missing: pip install ".[onnx]"')

from onnx_network import OnnxNetwork  # noqa: E402

# "su", LongRoPE's first name, is unknown to transformers 5; heads of which 24 elements are turned to ONNX Runtime.
CHANGES: dict[str, dict[str, Any]] = {
    "phi-3-mini-128k": {"rope_scaling": tiny_checkpoint._longrope("longrope", 16)},
    "phi-4-mini": {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_scaling": tiny_checkpoint._longrope("longrope", 24),
    },
}


@pytest.mark.parametrize("shape", tiny_checkpoint.SHAPES)
def test_onnx_runtime_gives_transformers_logits_past_windows_and_original_lengths(shape: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint.write_checkpoint(tmp_path / "c", shape, **CHANGES.get(shape, {}))
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    network = OnnxNetwork(convert(checkpoint, tmp_path / "out", to="onnx", weights="fp32").path)
    for tokens in (1, 40, 64, 65, 150):
        ids = random_ids(tokens, seed=tokens)
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0, -1].numpy()
        network.reset()
        assert np.abs(network.last_logits(ids) - expected).max() <= 1e-4, tokens


def test_cached_decode_gives_transformers_logits(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint.write_checkpoint(tmp_path / "c", "phi-3-medium")
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    network = OnnxNetwork(convert(checkpoint, tmp_path / "out", to="onnx", weights="fp32").path)
    ids = random_ids(90, seed=4)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    found = [network.last_logits(ids[:50])] + [network.last_logits([i]) for i in ids[50:]]
    assert np.abs(np.stack(found) - expected[49:]).max() <= 1e-4
