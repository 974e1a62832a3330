"""The embedded model as an ONNX Runtime GenAI directory: the same text by every engine, and without aipc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from networks import EXACT, greedy, reference
from onnx_models import genai_or_skip

import aipc
from aipc import guide as embedded
from aipc.chat import Chat, Message
from aipc.conversion import convert
from aipc.quant.recipe import Recipe
from aipc.targets import target_of

genai_or_skip()

PROMPTS = ("Can you introduce yourself?", "What is an NPU?", "你是谁？", "Who won the cup?")
TOKENS = 40
# The usual loop of onnxruntime-genai, word for word.
PROGRAM = """
import sys
model_dir = sys.argv[1]
import onnxruntime_genai as og
model = og.Model(model_dir)
tokenizer = og.Tokenizer(model)
stream = tokenizer.create_stream()
params = og.GeneratorParams(model)
params.set_search_options(max_length=1024)
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode("<|user|>\\nCan you introduce yourself?<|end|>\\n<|assistant|>\\n"))
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
assert "aipc" not in sys.modules
"""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert("guide", tmp_path_factory.mktemp("onnx") / "guide", to="onnx", weights="fp32").path


def test_greedy_tokens_of_numpy_openvino_and_onnx_are_the_same(model_dir: Path, tmp_path: Path) -> None:
    numpy_model = reference(embedded.CHECKPOINT, Recipe("fp32"), target_of("onnx"))
    chat = Chat.load(embedded.CHECKPOINT)
    openvino_dir = convert("guide", tmp_path / "openvino", weights="fp16").path
    with aipc.load(openvino_dir, properties=EXACT) as by_openvino, aipc.load(model_dir) as by_onnx:
        for prompt in PROMPTS:
            numpy_model.reset()
            expected = greedy(numpy_model, chat.prompt_ids([Message("user", prompt)]), TOKENS)
            found = [one.generate(prompt, max_tokens=TOKENS) for one in (by_openvino, by_onnx)]
            ends = [index + 1 for index, token in enumerate(expected) if token in chat.tokenizer.stop_token_ids]
            assert found[0].token_ids == found[1].token_ids == expected[: min(ends, default=TOKENS)], prompt
            assert found[0].text == found[1].text


def test_the_usual_program_prints_what_aipc_prints_and_ends_where_it_ends(model_dir: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path), "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model_dir)],
        env=environment | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with aipc.load(model_dir) as model:
        answer = model.generate("Can you introduce yourself?")
    assert answer.finish_reason == "stop"
    assert done.stdout.strip() == answer.text


def test_statistics_name_the_engine_the_device_and_the_bytes(model_dir: Path) -> None:
    with aipc.load(model_dir) as model:
        answer = model.generate("What is an NPU?", max_tokens=8)
        facts = answer.statistics().to_json()
        read = model.bytes_per_token(100)
    assert (facts["engine"], facts["device"]) == ("onnx", "CPU")
    assert read == model.ready.weight_bytes_per_token + 100 * model.ready.kv_elements_per_token * 4
