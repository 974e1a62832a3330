"""transformers' own model on the weights that a recipe makes of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from aipc.checkpoint import Checkpoint
from aipc.plan import make_plan
from aipc.quant.recipe import Recipe


def dequantised(checkpoint_dir: Path, recipe: Recipe, *, config_dir: Path | None = None) -> Any:
    """A float32 model of transformers. `config_dir` has another config.json, where transformers fails on the first."""
    config = AutoConfig.from_pretrained(config_dir or checkpoint_dir)
    model = AutoModelForCausalLM.from_pretrained(checkpoint_dir, config=config, dtype=torch.float32)
    with Checkpoint(checkpoint_dir) as checkpoint:
        weights = {}
        for planned in make_plan(checkpoint, recipe).weights:
            weight, scheme = planned.use.weight, planned.scheme
            values = scheme.dequantize(scheme.quantize(checkpoint.rows(weight))).reshape(weight.shape)
            weights[weight.name] = torch.from_numpy(values)
    missing = model.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    assert set(missing.missing_keys) <= {"lm_head.weight"}  # tied
    return model.eval()
