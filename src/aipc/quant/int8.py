"""INT8 per channel: one scale (and zero point) for each row, round to nearest.

Symmetric codes are int8 with a signed scale that gives the largest value of a row the code −128; asymmetric codes are
uint8 with a uint8 zero point. Both as OpenVINO's weight compression (NNCF) lays them out. The error of a value is at
most half a scale, beyond what rounding the scale itself to FP16 adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aipc.floats import Float32, Rows
from aipc.quant import Packed, Scratch, half_precision, inverse, require_finite


@dataclass(frozen=True)
class Int8:
    """Eight bits a weight, one group a row."""

    symmetric: bool = False
    bits: int = 8

    @property
    def label(self) -> str:
        return "int8-sym" if self.symmetric else "int8-asym"

    def bits_per_weight(self, columns: int) -> float:
        return 8 + (16 if self.symmetric else 24) / columns

    def quantize(self, rows: Rows, scratch: Scratch | None = None) -> Packed:
        scratch = scratch or Scratch()
        values = rows.float32(out=scratch.array("values", rows.shape, np.float32))
        columns = rows.shape[1]
        if self.symmetric:
            return _quantize_symmetric(values, rows.farthest(columns))
        return _quantize_asymmetric(values, *rows.extremes(columns))

    def dequantize(self, packed: Packed) -> Float32:
        codes = packed.data.view(np.int8 if self.symmetric else np.uint8).astype(np.float32)
        return packed.values(codes[:, None, :])


def _quantize_symmetric(values: Float32, farthest: Float32) -> Packed:
    require_finite(farthest)
    scale = half_precision(farthest / np.float32(-128))  # (rows, 1)
    np.multiply(values, inverse(scale), out=values)
    # +128, where two values of a row are nearly opposite, and beyond −128 where a subnormal scale lost its last bits
    np.clip(values, np.float32(-128), np.float32(127), out=values)
    codes = np.empty(values.shape, np.int8)
    np.rint(values, out=codes, casting="unsafe")
    return Packed(codes.view(np.uint8), scale)


def _quantize_asymmetric(values: Float32, lowest: Float32, highest: Float32) -> Packed:
    require_finite(lowest, highest)
    scale = half_precision((highest - lowest) / np.float32(255))
    per_scale = inverse(scale)
    zero_point = np.clip(np.rint(-lowest * per_scale), 0, 255)
    np.multiply(values, per_scale, out=values)
    np.add(values, zero_point, out=values)
    np.clip(values, np.float32(0), np.float32(255), out=values)
    codes = np.empty(values.shape, np.uint8)
    np.rint(values, out=codes, casting="unsafe")
    return Packed(codes, scale, zero_point.astype(np.uint8))
