"""openvino_genai.LLMPipeline on a converted directory, as any program outside aipc opens it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai

NPU_ON_CPU = {
    "NPUW_DEVICES": "CPU",
    "NPUW_ONLINE_PIPELINE": "NONE",
    "NPU_USE_NPUW": "YES",
    "MAX_PROMPT_LEN": 128,
    "MIN_RESPONSE_LEN": 64,
}


def open_pipeline(model_dir: Path, device: str = "CPU", **properties: object) -> openvino_genai.LLMPipeline:
    return openvino_genai.LLMPipeline(str(model_dir), device, **properties)


def greedy_config(tokens: int, **settings: object) -> openvino_genai.GenerationConfig:
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = tokens
    config.ignore_eos = True
    config.do_sample = False
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def pipeline_tokens(pipeline: openvino_genai.LLMPipeline, prompt: Sequence[int], tokens: int) -> list[int]:
    """`tokens` greedy tokens after the ids of `prompt`."""
    ids = ov.Tensor(np.array([prompt], np.int64))
    seen = ov.Tensor(np.ones((1, len(prompt)), np.int64))
    result = pipeline.generate(openvino_genai.TokenizedInputs(ids, seen), greedy_config(tokens))
    return list(result.tokens[0])
