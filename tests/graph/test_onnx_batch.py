"""A batch of prompts of several lengths, by ONNX Runtime GenAI itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aipc.conversion import convert
from aipc.onnx_import import import_genai

pytest.importorskip("onnxruntime_genai", reason='onnxruntime_genai is missing: pip install ".[onnx]"')
pytest.importorskip("onnx", reason='onnx is missing: pip install ".[onnx]"')


def test_a_prompt_gives_the_same_tokens_alone_and_beside_longer_ones(tmp_path: Path) -> None:
    genai = import_genai()
    model = genai.Model(str(convert("guide", tmp_path / "out", to="onnx", weights="fp32").path))
    tokenizer = genai.Tokenizer(model)
    prompts = [f"<|user|>\n{text}<|end|>\n<|assistant|>\n" for text in ("Hello!", "What is an NPU good for, please?")]

    def generated(some: list[str]) -> list[list[int]]:
        ids = np.asarray(tokenizer.encode_batch(some).as_numpy())
        parameters = genai.GeneratorParams(model)
        length = ids.shape[1] + 12
        parameters.set_search_options(batch_size=len(some), max_length=length, min_length=length)
        generator = genai.Generator(model, parameters)
        generator.append_tokens(ids)
        for _ in range(12):
            generator.generate_next_token()
        return [generator.get_sequence(index).tolist()[ids.shape[1] :] for index in range(len(some))]

    together = generated(prompts)
    assert together == [generated([prompt])[0] for prompt in prompts]
