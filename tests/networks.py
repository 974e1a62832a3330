"""Runs of one converted model by other programs' rules: plain OpenVINO at float32, and NumPy on the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov

from aipc.checkpoint import Checkpoint
from aipc.graph.numpy import NumpyModel
from aipc.plan import make_plan
from aipc.quant.recipe import Recipe
from aipc.targets import Target

EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}


class OpenVinoModel:
    """The stateful IR, driven as any OpenVINO program drives one."""

    def __init__(self, model_dir: Path) -> None:
        core = ov.Core()
        self._request = core.compile_model(core.read_model(model_dir / "openvino_model.xml"), "CPU", EXACT)
        self._request = self._request.create_infer_request()
        self.past = 0

    def reset(self) -> None:
        self._request.reset_state()
        self.past = 0

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """(new tokens, vocabulary)"""
        tokens = len(token_ids)
        inputs = {
            "input_ids": np.array([token_ids], np.int64),
            "attention_mask": np.ones((1, self.past + tokens), np.int64),
            "position_ids": np.arange(self.past, self.past + tokens)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        self.past += tokens
        return self._request.infer(inputs)["logits"][0].copy()


def reference(checkpoint_dir: Path, recipe: Recipe, target: Target | None = None) -> NumpyModel:
    """NumPy on the dequantised weights that `recipe` makes of a checkpoint."""
    with Checkpoint(checkpoint_dir) as checkpoint:
        plan = make_plan(checkpoint, recipe, target)
        weights = {}
        for planned in plan.weights:
            weight, scheme = planned.use.weight, planned.scheme
            weights[weight.name] = scheme.dequantize(scheme.quantize(checkpoint.rows(weight))).reshape(weight.shape)
    return NumpyModel(plan.architecture, lambda weight: weights[weight.name])


def greedy(model: NumpyModel | OpenVinoModel, prompt: Sequence[int], tokens: int) -> list[int]:
    """`tokens` greedy tokens with the KV cache."""
    generated = [int(model.logits(prompt)[-1].argmax())]
    while len(generated) < tokens:
        generated.append(int(model.logits(generated[-1:])[-1].argmax()))
    return generated


def random_ids(tokens: int, *, seed: int = 0, below: int = 500) -> list[int]:
    return np.random.default_rng(seed).integers(3, below, tokens).tolist()
