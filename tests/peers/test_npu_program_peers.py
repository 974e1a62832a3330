"""The NPU library's own example, typed as its users have it, on a model of a hub that runs in this test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

from local_hub import LocalHub

from aipc import guide

pytestmark = pytest.mark.peers

HUB_ID = "microsoft/Phi-3-mini-4k-instruct"
# Its imports are aipc's, and it says which device it may use where there is no NPU; nothing else is changed.
PROGRAM = """
from transformers import AutoTokenizer, pipeline, TextStreamer
from aipc.npu import NPUModelForCausalLM, int4
from aipc.npu.compiler import CompilerConfig
import warnings

model_id = "microsoft/Phi-3-mini-4k-instruct"
compiler_conf = CompilerConfig(dtype=int4)
model = NPUModelForCausalLM.from_pretrained(
    model_id, use_cache=True, config=compiler_conf, attn_implementation="sdpa", DEVICE
).eval()
tokenizer = AutoTokenizer.from_pretrained(model_id)
text_streamer = TextStreamer(tokenizer, skip_prompt=True)

generation_args = {
    "max_new_tokens": 1024, "return_full_text": False, "temperature": 0.3, "do_sample": False,
    "streamer": text_streamer,
}
pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
query = "<|system|>You are a helpful AI assistant.<|end|><|user|>Can you introduce yourself?<|end|><|assistant|>"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pipe(query, **generation_args)
"""

LOADING, _, _ = PROGRAM.partition("tokenizer =")


def run(program: str, home: Path, device: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {"AIPC_HOME": str(home / "aipc"), "HF_HOME": str(home / "huggingface"), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-c", program.replace("DEVICE", device)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **own, **environment},
        check=False,
    )


def test_what_one_run_loaded_from_a_hub_the_whole_program_finds_without_one(tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in guide.CHECKPOINT.iterdir() if file.suffix != ".png"}
    with LocalHub({HUB_ID: files}) as hub:  # it does not know all that transformers asks a hub for a tokenizer
        first = run(LOADING, tmp_path, 'device="cpu"', HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="0")
        assert first.returncode == 0, first.stderr
        assert hub.asked("/cdn/")
    assert "Quantising" in first.stderr
    for device in ('device="cpu"', 'device="npu", rehearse=True'):
        again = run(PROGRAM, tmp_path, device, HF_HUB_OFFLINE="1")
        assert again.returncode == 0, again.stderr
        assert "I am Guide" in again.stdout
        assert "Quantising" not in again.stderr
        assert "not supported" not in again.stderr


def test_the_program_does_not_run_on_a_cpu_that_nobody_named(tmp_path: Path) -> None:
    refused = run(PROGRAM, tmp_path, "", HF_HUB_OFFLINE="1")
    assert refused.returncode == 1
    assert "DeviceError: device 'npu' cannot be used" in refused.stderr
    assert "device='cpu'" in refused.stderr
