"""A conversion before it starts: every weight's scheme and size, and what the result will need."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from aipc.checkpoint import Checkpoint
from aipc.graph.data_file import quantize_rows
from aipc.graph.inventory import Role, WeightUse, weights_used
from aipc.models import Architecture, read_architecture
from aipc.quant import Scheme
from aipc.quant.int4 import Int4
from aipc.quant.int8 import Int8
from aipc.quant.recipe import Recipe
from aipc.targets import Target, target_of

_SAMPLE_ELEMENTS = 1024 * 1024
_MOST_THREADS = 6  # more wait for the interpreter's lock and for the disk
# The tokenizer is converted while weights are packed; measured with 32,000 to 200,000 tokens, compiled and by numpy.
_BASE_BYTES = 98 * 1024 * 1024  # Python, numpy and openvino
_PER_TOKENIZER_BYTE = 4
_BYTES_PER_THREAD = 9 * 1024 * 1024  # a block as float32, as codes and packed: more than measured with 1 to 6


@dataclass(frozen=True)
class PlannedWeight:
    """One weight's place in a plan. `size_bytes` has scales and zero points counted in."""

    use: WeightUse
    scheme: Scheme
    size_bytes: int

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.size_bytes / math.prod(self.use.shape)


@dataclass(frozen=True)
class Plan:
    """What a conversion will do. Sizes in bytes."""

    architecture: Architecture
    recipe: Recipe
    target: Target
    weights: list[PlannedWeight]
    threads: int
    tokenizer_bytes: int

    @property
    def label(self) -> str:
        return self.target.label(self.recipe)

    @property
    def recipe_json(self) -> dict[str, Any]:
        """For a manifest: the recipe, and where the target fills in what it leaves open, what was filled in.

        The label is that of the target, so that one store can hold both formats.
        """
        return {**self.recipe.as_json(), "group_size": self._group_size(), "label": self.label}

    def _group_size(self) -> int | None:
        """Columns that share a scale in the weights that the recipe is named after; None where they have no scale."""
        bits = self.recipe.linear_scheme.bits
        sizes = [
            planned.scheme.group_size
            for planned in self.weights
            if planned.use.is_linear and isinstance(planned.scheme, (Int4, Int8)) and planned.scheme.bits == bits
        ]
        return min(sizes, default=None)

    @property
    def schemes(self) -> dict[str, Scheme]:
        return {planned.use.name: planned.scheme for planned in self.weights}

    @property
    def weights_bytes(self) -> int:
        return sum(planned.size_bytes for planned in self.weights)

    @property
    def parameters(self) -> int:
        return sum(math.prod(planned.use.shape) for planned in self.weights)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.weights_bytes / self.parameters

    @property
    def weight_bytes_per_token(self) -> int:
        """Bytes of weights that one decoded token reads: all but an embedding that is not also the head."""
        return sum(p.size_bytes for p in self.weights if p.use.roles != {Role.EMBEDDING})

    @property
    def peak_memory_bytes(self) -> int:
        """An upper bound of the conversion's own memory; it grows with the vocabulary, not with the weights."""
        return _BASE_BYTES + _PER_TOKENIZER_BYTE * self.tokenizer_bytes + self.threads * _BYTES_PER_THREAD

    def as_json(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe_json,
            "parameters": self.parameters,
            "bits_per_weight": round(self.bits_per_weight, 3),
            "weights_bytes": self.weights_bytes,
            "weight_bytes_per_token": self.weight_bytes_per_token,
            "peak_memory_bytes": self.peak_memory_bytes,
            "weights": [
                {
                    "name": planned.use.name,
                    "shape": list(planned.use.shape),
                    "scheme": planned.scheme.label,
                    "bits_per_weight": round(planned.bits_per_weight, 3),
                    "size_bytes": planned.size_bytes,
                }
                for planned in self.weights
            ],
        }


def make_plan(checkpoint: Checkpoint, recipe: Recipe, target: Target | None = None) -> Plan:
    """Read the architecture, check every weight's shape and dtype, and choose its scheme. Without a `target` the plan
    is for an OpenVINO directory.

    Raises `ConfigError`, `WeightError`, `UnsupportedModelError` or `RecipeError`.
    """
    target = target or target_of("openvino")
    target.check(recipe)
    architecture = read_architecture(checkpoint.config)
    _refuse_more_layers_than_weights(architecture, checkpoint)
    uses = weights_used(architecture.describe)
    for use in uses:
        checkpoint.stored(use.weight)
    assigned = recipe.assign(uses, lambda use, scheme: relative_squared_error(checkpoint, use, scheme))
    schemes = {use.name: target.fitted(use, assigned[use.name]) for use in uses}
    weights = [PlannedWeight(use, schemes[use.name], target.weight_bytes(use, schemes[use.name])) for use in uses]
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    return Plan(architecture, recipe, target, weights, threads=threads, tokenizer_bytes=_tokenizer_bytes(checkpoint))


def _tokenizer_bytes(checkpoint: Checkpoint) -> int:
    file = checkpoint.path / "tokenizer.json"
    return file.stat().st_size if file.is_file() else 0


def _refuse_more_layers_than_weights(architecture: Architecture, checkpoint: Checkpoint) -> None:
    """Describing a network takes time and memory for each of its layers, so their number is checked before."""
    weights = len(checkpoint.weights)
    checkpoint.config.require(
        architecture.num_hidden_layers <= weights,
        "num_hidden_layers",
        f"at most {weights}, the number of weights in the checkpoint",
    )


def relative_squared_error(checkpoint: Checkpoint, use: WeightUse, scheme: Scheme) -> float:
    """‖W − W′‖² / ‖W‖² of a weight under a scheme, measured on up to a million weights spread over its rows.

    Raises `WeightError` naming the weight for NaN and infinite values.
    """
    rows, columns = use.shape
    step = max(1, rows * columns // _SAMPLE_ELEMENTS)
    error = norm = 0.0
    rows_per_block = max(1, 65536 // columns)
    for start in range(0, rows, rows_per_block * step):
        block = range(start, min(start + rows_per_block, rows))
        packed = quantize_rows(checkpoint, use.weight, scheme, rows=block)
        values = checkpoint.rows(use.weight, block.start, block.stop).float32()
        difference = scheme.dequantize(packed) - values
        error += float(np.vdot(difference, difference))
        norm += float(np.vdot(values, values))
    return error / norm if norm else 0.0
