"""INT8 in groups along a row, usually the whole row: one scale (and zero point) for each, round to nearest.

Symmetric codes are int8 with a signed scale that gives the largest value of a group the code −128; asymmetric codes
are uint8 with a uint8 zero point. A group a row is how OpenVINO's weight compression (NNCF) lays INT8 out; ONNX
Runtime wants groups of a power of two. The error of a value is at most half a scale, beyond what rounding the scale
itself to FP16 adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aipc.floats import Float32, Rows
from aipc.quant import PER_CHANNEL, Packed, Scratch, compiled, half_precision, inverse, require_finite, scale_of_range


@dataclass(frozen=True)
class Int8:
    """Eight bits a weight. `group_size` −1 is one group a row; otherwise it must divide the columns."""

    symmetric: bool = False
    group_size: int = PER_CHANNEL
    bits: int = 8

    @property
    def label(self) -> str:
        group = "" if self.group_size == PER_CHANNEL else f"g{self.group_size}-"
        return f"int8-{group}{'sym' if self.symmetric else 'asym'}"

    def columns_per_group(self, columns: int) -> int:
        return columns if self.group_size == PER_CHANNEL else self.group_size

    def quantize(self, rows: Rows, scratch: Scratch | None = None) -> Packed:
        row_count, columns = rows.shape
        size = self.columns_per_group(columns)
        compiled_result = compiled.quantized(rows, group_size=size, bits=self.bits, symmetric=self.symmetric)
        if compiled_result is not None:
            return compiled_result
        scratch = scratch or Scratch()
        values = rows.float32(out=scratch.array("values", rows.shape, np.float32))
        groups = values.reshape(row_count, columns // size, size)
        packed = (
            _quantize_symmetric(groups, rows.farthest(size))
            if self.symmetric
            else _quantize_asymmetric(groups, *rows.extremes(size))
        )
        return Packed(packed.data.reshape(row_count, columns), packed.scale, packed.zero_point)

    def dequantize(self, packed: Packed) -> Float32:
        codes = packed.data.view(np.int8 if self.symmetric else np.uint8).astype(np.float32)
        rows, columns = codes.shape
        return packed.values(codes.reshape(rows, -1, self.columns_per_group(columns)))


def _quantize_symmetric(groups: Float32, farthest: Float32) -> Packed:
    require_finite(farthest)
    scale = half_precision(farthest / np.float32(-128))  # (rows, groups)
    np.multiply(groups, inverse(scale)[..., None], out=groups)
    # +128, where two values of a group are nearly opposite, and beyond −128 where a subnormal scale lost its last bits
    np.clip(groups, np.float32(-128), np.float32(127), out=groups)
    codes = np.empty(groups.shape, np.int8)
    np.rint(groups, out=codes, casting="unsafe")
    return Packed(codes.view(np.uint8), scale)


def _quantize_asymmetric(groups: Float32, lowest: Float32, highest: Float32) -> Packed:
    require_finite(lowest, highest)
    scale = scale_of_range(lowest, highest, 255)
    per_scale = inverse(scale)
    zero_point = np.clip(np.rint(-lowest * per_scale), 0, 255)
    np.multiply(groups, per_scale[..., None], out=groups)
    np.add(groups, zero_point[..., None], out=groups)
    np.clip(groups, np.float32(0), np.float32(255), out=groups)
    codes = np.empty(groups.shape, np.uint8)
    np.rint(groups, out=codes, casting="unsafe")
    return Packed(codes, scale, zero_point.astype(np.uint8))
