"""Every recipe that a graph back end has to write."""

from __future__ import annotations

from pathlib import Path

from aipc.conversion import convert
from aipc.quant.recipe import Recipe

RECIPES = [
    Recipe("fp16"),
    Recipe("int8"),
    Recipe("int8", symmetric=True),
    *(Recipe("int4", size, symmetric=symmetric) for size in (32, 64, 128, -1) for symmetric in (True, False)),
    Recipe("int4", 32, ratio=0.5),
    Recipe("int4", 64, symmetric=False, all_layers=True),
]


def converted(checkpoint: Path, out: Path, recipe: Recipe) -> Path:
    return convert(
        checkpoint,
        out,
        weights=recipe.weights,
        group_size=recipe.group_size,
        ratio=recipe.ratio,
        symmetric=recipe.symmetric,
        all_layers=recipe.all_layers,
    ).path
