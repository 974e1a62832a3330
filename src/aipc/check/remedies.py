"""The commands that make a model which passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aipc.quant.recipe import DEFAULT_GROUP_SIZE
from aipc.store.manifest import source_of

_PER_ROW_FROM = 5_000_000_000  # weights; OpenVINO's guide has one scale a row for models above 4 to 5 billion
_NPU_GROUP = 128


@dataclass(frozen=True)
class Remedies:
    """`source` is what a command converts: where aipc's own models came from, the word SOURCE for others. `columns`
    are those of the linear weights, `elements` all of them together.
    """

    source: str = "SOURCE"
    columns: frozenset[int] = frozenset()
    elements: int = 0

    @staticmethod
    def of(model_dir: Path, shapes: Iterable[tuple[int, int]]) -> Remedies:
        """For the model whose linear weights have these shapes, (rows, columns)."""
        shapes = list(shapes)
        columns = frozenset(columns for _, columns in shapes)
        return Remedies(source_of(model_dir), columns, sum(rows * columns for rows, columns in shapes))

    def openvino(self) -> str:
        """An OpenVINO directory that all of its devices take."""
        is_grouped = self.elements < _PER_ROW_FROM and self._are_divided_by(_NPU_GROUP)
        return f"aipc convert {self.source} OUT --weights int4 --group-size {_NPU_GROUP if is_grouped else -1}"

    def onnx(self, device: str) -> str:
        """An ONNX Runtime GenAI directory for `device`."""
        fitting = next((size for size in (128, 64, 32) if self._are_divided_by(size)), None)
        if fitting is None:  # groups of 16, which INT8 has
            recipe = "--weights int8"
        else:
            recipe = "--weights int4" if fitting == DEFAULT_GROUP_SIZE else f"--weights int4 --group-size {fitting}"
        return f"aipc convert {self.source} OUT --to onnx --device {device} {recipe}"

    def _are_divided_by(self, group_size: int) -> bool:
        return not any(columns % group_size for columns in self.columns)
