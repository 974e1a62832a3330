"""The commands that make a model which passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aipc.store.manifest import source_of

_PER_ROW_FROM = 5_000_000_000  # weights; OpenVINO's guide has one scale a row for models above 4 to 5 billion
_NPU_GROUP = 128


@dataclass(frozen=True)
class Remedies:
    """`source` is what a command converts: where aipc's own models came from, the word SOURCE for others."""

    source: str = "SOURCE"

    @staticmethod
    def of(model_dir: Path) -> Remedies:
        return Remedies(source_of(model_dir))

    def openvino(self, *, columns: Iterable[int] = (), elements: int = 0) -> str:
        """An OpenVINO directory that all of its devices take. `columns` are those of the linear weights."""
        is_grouped = elements < _PER_ROW_FROM and not any(count % _NPU_GROUP for count in columns)
        return f"aipc convert {self.source} OUT --weights int4 --group-size {_NPU_GROUP if is_grouped else -1}"

    def onnx(self, device: str, weights: str = "int4") -> str:
        """An ONNX Runtime GenAI directory for `device`."""
        return f"aipc convert {self.source} OUT --to onnx --device {device} --weights {weights}"
