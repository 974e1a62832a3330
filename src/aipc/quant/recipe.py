"""Recipes: which weight gets which scheme. Flags and defaults are spelled as optimum-cli spells them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aipc.errors import RecipeError
from aipc.graph.inventory import WeightUse
from aipc.quant import PER_CHANNEL, Scheme
from aipc.quant.fp16 import Fp16
from aipc.quant.fp32 import Fp32
from aipc.quant.int4 import Int4
from aipc.quant.int8 import Int8

WEIGHT_FORMATS = ("fp32", "fp16", "int8", "int4")
GROUP_SIZES = (32, 64, 128, PER_CHANNEL)
DEFAULT_GROUP_SIZE = 128


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is quantised.

    `weights` fp32, fp16, int8 or int4. `group_size` is 32, 64, 128 columns or −1 for a whole row; None is 128 for
    int4, and for int8 what the target prefers. `ratio` belongs to int4: the share of the linear weights' elements
    that becomes INT4 (the rest, chosen by measured error, becomes INT8). `symmetric` None is symmetric for INT4,
    which an NPU needs, and asymmetric for INT8. The embedding and the head are INT8 in an int4 recipe unless
    `all_layers`. Norms stay FP32.
    """

    weights: str = "int4"
    group_size: int | None = None
    ratio: float = 1.0
    symmetric: bool | None = None
    all_layers: bool = False

    def __post_init__(self) -> None:
        _require(self.weights in WEIGHT_FORMATS, "--weights", f"one of {', '.join(WEIGHT_FORMATS)}", repr(self.weights))
        self._check_types()
        _require(0 <= self.ratio <= 1, "--ratio", "a number from 0 to 1", self.ratio)
        if self.weights != "int4":
            only = f"only with --weights int4, not {self.weights}"
            _require(self.ratio == 1, "--ratio", only, self.ratio)
            _require(not self.all_layers, "--all-layers", only, "--all-layers")
        if self.weights in ("fp32", "fp16"):
            only = f"only with --weights int8 or int4, not {self.weights}"
            _require(self.group_size is None, "--group-size", only, self.group_size)
            _require(self.symmetric is None, "--sym/--asym", only, "one")
        elif self.group_size is not None:
            sizes = ", ".join(map(str, GROUP_SIZES))
            _require(self.group_size in GROUP_SIZES, "--group-size", f"one of {sizes}", self.group_size)

    def _check_types(self) -> None:
        is_number = isinstance(self.ratio, (int, float)) and not isinstance(self.ratio, bool)
        _require(is_number, "--ratio", "a number from 0 to 1", repr(self.ratio))
        is_count = self.group_size is None or type(self.group_size) is int
        _require(is_count, "--group-size", "a whole number", repr(self.group_size))
        _require(self.symmetric in (None, True, False), "--sym/--asym", "True, False or None", repr(self.symmetric))
        _require(isinstance(self.all_layers, bool), "--all-layers", "True or False", repr(self.all_layers))

    @property
    def linear_scheme(self) -> Scheme:
        """The scheme of the weights that the recipe is named after."""
        if self.weights == "fp32":
            return Fp32()
        if self.weights == "fp16":
            return Fp16()
        if self.weights == "int8":
            return Int8(bool(self.symmetric), self.group_size or PER_CHANNEL)
        return Int4(self.group_size or DEFAULT_GROUP_SIZE, symmetric=self.symmetric is not False)

    @property
    def backup_scheme(self) -> Scheme:
        """The scheme of the embedding, the head, and the share of linear weights that `ratio` leaves out."""
        return Int8(symmetric=False) if self.weights == "int4" else self.linear_scheme

    @property
    def label(self) -> str:
        """Short name, used in directory names: `int4-g128-sym-r0.6`."""
        ratio = f"-r{self.ratio:g}" if self.ratio < 1 else ""
        return f"{self.linear_scheme.label}{ratio}{'-all' if self.all_layers else ''}"

    def as_json(self) -> dict[str, Any]:
        """For a manifest: every choice spelled out."""
        scheme = self.linear_scheme
        return {
            "label": self.label,
            "weights": self.weights,
            "group_size": scheme.group_size if isinstance(scheme, (Int4, Int8)) else None,
            "ratio": self.ratio,
            "symmetric": scheme.symmetric if isinstance(scheme, (Int4, Int8)) else None,
            "all_layers": self.all_layers,
        }

    def needs_errors(self) -> bool:
        """Whether `assign` wants measured errors."""
        return 0 < self.ratio < 1

    def assign(
        self, uses: Sequence[WeightUse], measured_error: Callable[[WeightUse, Scheme], float]
    ) -> dict[str, Scheme]:
        """A scheme for every weight, by name.

        `measured_error(use, scheme)` is the relative squared error of a weight under a scheme; it is asked only when
        `ratio` leaves something to choose. Raises `RecipeError` when the group size does not divide a weight's
        columns.
        """
        quantised = [use for use in uses if use.is_linear or (self.all_layers and not use.is_norm)]
        chosen = self._chosen([use for use in quantised if use.is_linear], measured_error)
        schemes: dict[str, Scheme] = {}
        for use in uses:
            if use.is_norm:
                schemes[use.name] = Fp32()
            elif use in quantised and (use in chosen or not use.is_linear):
                schemes[use.name] = self._fitting(use)
            else:
                schemes[use.name] = self.backup_scheme
        return schemes

    def _chosen(self, linear: list[WeightUse], measured_error: Callable[[WeightUse, Scheme], float]) -> set[WeightUse]:
        """The linear weights with the smallest error, up to `ratio` of all their elements."""
        if not self.needs_errors():
            return set(linear) if self.ratio else set()
        errors = {use: measured_error(use, self._fitting(use)) for use in linear}
        budget = self.ratio * sum(math.prod(use.shape) for use in linear)
        chosen = set()
        for use in sorted(linear, key=lambda use: errors[use]):
            budget -= math.prod(use.shape)
            if budget < 0:
                break
            chosen.add(use)
        return chosen

    def _fitting(self, use: WeightUse) -> Scheme:
        scheme = self.linear_scheme
        if not isinstance(scheme, (Int4, Int8)):
            return scheme
        columns = use.shape[1]
        if columns % scheme.columns_per_group(columns) or (scheme.bits == 4 and columns % 2):
            fitting = [size for size in GROUP_SIZES if size == PER_CHANNEL or columns % size == 0]
            raise RecipeError(
                f"weight {use.name}",
                expected=f"columns that the group size {scheme.group_size} divides",
                found=f"{columns} columns",
                try_next=f"--group-size {fitting[-2] if len(fitting) > 1 else PER_CHANNEL}",
            )
        return scheme


def _require(holds: bool, flag: str, expected: str, found: object) -> None:
    if not holds:
        raise RecipeError(flag, expected=expected, found=found)
