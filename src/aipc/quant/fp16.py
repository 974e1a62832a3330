"""FP16: IEEE half precision, the format that OpenVINO keeps unquantised weights in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aipc.errors import WeightError
from aipc.floats import Float32, FloatType, Rows
from aipc.quant import Packed, Scratch, require_finite

LARGEST = np.float32(65504)


@dataclass(frozen=True)
class Fp16:
    """Values rounded to half precision; FP16 checkpoints pass unchanged."""

    label: str = "fp16"
    bits: int = 16

    def bits_per_weight(self, columns: int) -> float:
        return 16.0

    def quantize(self, rows: Rows, scratch: Scratch | None = None) -> Packed:
        """Raises `WeightError` for values that are not finite or lie beyond ±65504."""
        columns = rows.shape[1]
        lowest, highest = rows.extremes(columns)
        require_finite(lowest, highest)
        if max(-lowest.min(initial=0), highest.max(initial=0)) > LARGEST:
            raise WeightError("a weight", expected=f"values within ±{LARGEST} for FP16", found="larger ones")
        if rows.float_type is FloatType.F16:
            return Packed(rows.bits.view(np.float16).copy())
        return Packed(rows.float32().astype(np.float16))

    def dequantize(self, packed: Packed) -> Float32:
        return Rows.of(packed.data).float32()
