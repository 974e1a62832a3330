"""INT4 in groups along a row: one scale (and zero point) for each `group_size` columns, round to nearest.

Symmetric codes are two's complement −8…7 with a signed scale that gives the largest value of a group the code −8;
asymmetric codes are 0…15 with a zero point of the same range. Two codes a byte, the earlier in the low nibble. The
layout is OpenVINO's i4 and u4. The error of a value is at most half a scale, except where a symmetric group holds two
values of nearly opposite extreme: the second is clipped to 7 and is off by at most one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aipc.floats import Float32, Rows
from aipc.quant import (
    PER_CHANNEL,
    Codes,
    Packed,
    Scratch,
    compiled,
    half_precision,
    inverse,
    require_finite,
    scale_of_range,
)


@dataclass(frozen=True)
class Int4:
    """Four bits a weight. `group_size` −1 is one group a row; otherwise it must divide the columns."""

    group_size: int = 128
    symmetric: bool = True
    bits: int = 4

    @property
    def label(self) -> str:
        group = "channel" if self.group_size == PER_CHANNEL else f"g{self.group_size}"
        return f"int4-{group}-{'sym' if self.symmetric else 'asym'}"

    def columns_per_group(self, columns: int) -> int:
        return columns if self.group_size == PER_CHANNEL else self.group_size

    def quantize(self, rows: Rows, scratch: Scratch | None = None) -> Packed:
        row_count, columns = rows.shape
        group_size = self.columns_per_group(columns)
        packed = compiled.quantized(rows, group_size=group_size, bits=self.bits, symmetric=self.symmetric)
        if packed is not None:
            return packed
        scratch = scratch or Scratch()
        # Two codes share a byte, so even and odd columns are kept apart: (2, rows, groups, columns of a group / 2)
        halves = rows.float32_halves(scratch.array("halves", (2, row_count * columns // 2), np.float32))
        groups = halves.reshape(2, row_count, columns // group_size, group_size // 2)
        codes = scratch.array("codes", groups.shape, np.int8)
        if self.symmetric:
            scale, zero_point = _symmetric_codes(groups, rows.farthest(group_size), codes), None
        else:
            scale, zero_point = _asymmetric_codes(groups, *rows.extremes(group_size), codes)
        return Packed(_packed(codes.view(np.uint8)).reshape(row_count, columns // 2), scale, zero_point)

    def dequantize(self, packed: Packed) -> Float32:
        nibbles = unpack_nibbles(packed.data)
        codes = (nibbles ^ 8).astype(np.float32) - 8 if self.symmetric else nibbles.astype(np.float32)
        rows, columns = codes.shape
        return packed.values(codes.reshape(rows, -1, self.columns_per_group(columns)))


def pack_nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, columns) of codes, of which the low four bits count, to (rows, columns / 2)."""
    return _packed(np.stack([codes[:, 0::2], codes[:, 1::2]]))


def _packed(halves: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The low nibbles of `halves[0]` and `halves[1]` in one byte, the former's below. `halves` is overwritten."""
    low, high = halves
    np.bitwise_and(low, np.uint8(0x0F), out=low)
    np.left_shift(high, np.uint8(4), out=high)
    return np.bitwise_or(low, high)


def unpack_nibbles(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, columns / 2) to (rows, columns) of codes 0…15."""
    codes = np.empty((packed.shape[0], packed.shape[1] * 2), np.uint8)
    codes[:, 0::2] = packed & 0xF
    codes[:, 1::2] = packed >> 4
    return codes


def _symmetric_codes(groups: Float32, farthest: Float32, codes: Codes) -> NDArray[np.float16]:
    require_finite(farthest)
    scale = half_precision(farthest / np.float32(-8))  # (rows, groups)
    np.multiply(groups, inverse(scale)[..., None], out=groups)
    np.rint(groups, out=codes, casting="unsafe")
    np.clip(codes, np.int8(-8), np.int8(7), out=codes)  # +8, and ±9… where a subnormal scale lost its last bits
    return scale


def _asymmetric_codes(
    groups: Float32, lowest: Float32, highest: Float32, codes: Codes
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    require_finite(lowest, highest)
    scale = scale_of_range(lowest, highest, 15)
    per_scale = inverse(scale)
    zero_point = np.clip(np.rint(-lowest * per_scale), 0, 15)
    np.multiply(groups, per_scale[..., None], out=groups)
    np.add(groups, zero_point[..., None], out=groups)
    np.rint(groups, out=codes, casting="unsafe")
    np.clip(codes, np.int8(0), np.int8(15), out=codes)
    return scale, zero_point.astype(np.uint8)
