"""How a quantised weight lies in model.onnx.data, and the tensors of the graph that refer to it.

The layout is that of ONNX Runtime's MatMulNBits: unsigned codes, (rows, blocks, bytes of a block), the earlier in the
low bits; scales (rows, blocks) in the type the graph computes in; zero points (rows, bytes), without which the middle
of the codes' range stands for 0. GatherBlockQuantized reads the same bytes as (rows, bytes of a row), so a tied
embedding is stored once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aipc.graph import Weight
from aipc.graph.data_file import Stored
from aipc.quant import Packed, Scheme
from aipc.quant.int4 import Int4, pack_nibbles
from aipc.quant.int8 import Int8

ALIGNMENT = 64 * 1024  # bytes; what Windows maps a file at


@dataclass(frozen=True)
class WeightRegion:
    """Where a weight's codes, zero points and scales lie, in this order. Offsets and sizes in bytes."""

    weight: Weight
    scheme: Scheme
    half: bool
    offset: int

    @property
    def rows(self) -> int:
        return self.weight.shape[0] if len(self.weight.shape) == 2 else 1

    @property
    def columns(self) -> int:
        return self.weight.shape[-1]

    @property
    def blocks(self) -> int:
        """Blocks of a row."""
        return self.columns // block_size(self.scheme, self.columns) if is_quantised(self.scheme) else 0

    @property
    def row_bytes(self) -> int:
        return self.columns * self.scheme.bits // 8

    @property
    def zero_point_row_bytes(self) -> int:
        return -(-self.blocks * self.scheme.bits // 8) if has_zero_points(self.scheme) else 0

    @property
    def scale_row_bytes(self) -> int:
        return self.blocks * (2 if self.half else 4)

    @property
    def zero_point_offset(self) -> int:
        return self.offset + self.rows * self.row_bytes

    @property
    def scale_offset(self) -> int:
        end = self.zero_point_offset + self.rows * self.zero_point_row_bytes
        return -(-end // 16) * 16

    @property
    def end(self) -> int:
        return self.scale_offset + self.rows * self.scale_row_bytes

    def stored(self, packed: Packed) -> Stored:
        """Packed rows in MatMulNBits' layout."""
        if packed.scale is None:
            return Stored(packed.data)
        scales = packed.scale if self.half else packed.scale.astype(np.float32)
        if packed.zero_point is None:
            return Stored(_unsigned(packed.data, self.scheme.bits), None, scales)
        return Stored(packed.data, _zero_points(packed.zero_point, self.scheme.bits), scales)


def weight_bytes(weight: Weight, scheme: Scheme, *, half: bool) -> int:
    """Bytes of codes, zero points and scales together."""
    region = WeightRegion(weight, scheme, half, 0)
    return region.rows * (region.row_bytes + region.zero_point_row_bytes + region.scale_row_bytes)


def is_quantised(scheme: Scheme) -> bool:
    return isinstance(scheme, (Int4, Int8))


def has_zero_points(scheme: Scheme) -> bool:
    return isinstance(scheme, (Int4, Int8)) and not scheme.symmetric


def block_size(scheme: Scheme, columns: int) -> int:
    """Columns that share a scale."""
    if not isinstance(scheme, (Int4, Int8)):
        raise TypeError(f"{scheme.label} has no blocks")
    return scheme.columns_per_group(columns)


def _unsigned(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Two's complement plus half the range, which is its highest bit flipped. In place: nobody else has the codes."""
    flipped: NDArray[np.uint8] = np.bitwise_xor(codes, np.uint8(0x88 if bits == 4 else 0x80), out=codes)
    return flipped


def _zero_points(zero_points: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """(rows, blocks) to (rows, bytes): each row of INT4 zero points begins a byte."""
    if bits == 8:
        return zero_points
    padded = np.pad(zero_points, ((0, 0), (0, zero_points.shape[1] % 2)))
    return pack_nibbles(padded)
