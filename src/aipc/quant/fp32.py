"""FP32: single precision, for the small vectors (norms) that every recipe keeps exact."""

from __future__ import annotations

from dataclasses import dataclass

from aipc.floats import Float32, Rows
from aipc.quant import Packed, Scratch, require_finite


@dataclass(frozen=True)
class Fp32:
    """Values as they are; FP16 and BF16 widen exactly."""

    label: str = "fp32"
    bits: int = 32

    def quantize(self, rows: Rows, scratch: Scratch | None = None) -> Packed:
        require_finite(*rows.extremes(rows.shape[1]))
        return Packed(rows.float32())

    def dequantize(self, packed: Packed) -> Float32:
        values: Float32 = packed.data
        return values
