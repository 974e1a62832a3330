"""How a quantised weight stands in an OpenVINO IR: its constants and the chain that decompresses it to f32.

The chain is NNCF's: codes → Convert f16 → (Subtract zero point) → Multiply scale → (Reshape) → Convert f32. The last
Convert carries the `decompression` mark; without it the plugins unpack the whole weight when they load it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aipc.graph import Weight
from aipc.graph.data_file import Stored
from aipc.graph.openvino.ir import Port
from aipc.graph.openvino.operations import Operations
from aipc.quant import Packed, Scheme
from aipc.quant.fp32 import Fp32
from aipc.quant.int4 import Int4, pack_nibbles
from aipc.quant.int8 import Int8


@dataclass(frozen=True)
class WeightRegion:
    """Where a weight's codes, zero points and scales lie in the .bin, in this order. Offsets and sizes in bytes."""

    weight: Weight
    scheme: Scheme
    offset: int
    data_bytes: int
    zero_point_offset: int
    zero_point_bytes: int
    scale_offset: int
    scale_bytes: int

    @property
    def end(self) -> int:
        return self.scale_offset + self.scale_bytes

    def stored(self, packed: Packed) -> Stored:
        """As they are; INT4's zero points two a byte."""
        zero_points = packed.zero_point
        if zero_points is not None and self.scheme.bits == 4:
            flat = zero_points.reshape(-1)
            zero_points = pack_nibbles(np.append(flat, np.zeros(flat.size % 2, np.uint8)).reshape(1, -1))
        return Stored(packed.data, zero_points, packed.scale)


def weight_bytes(weight: Weight, scheme: Scheme) -> tuple[int, int, int]:
    """Bytes of codes, zero points and scales."""
    rows, columns = weight.shape if len(weight.shape) == 2 else (1, weight.shape[0])
    groups = rows * _groups_per_row(scheme, columns)
    scale_bytes = 2 * groups if isinstance(scheme, (Int4, Int8)) else 0
    zero_point_bits = 0 if not isinstance(scheme, (Int4, Int8)) or scheme.symmetric else scheme.bits
    return rows * columns * scheme.bits // 8, -(-groups * zero_point_bits // 8), scale_bytes


def _groups_per_row(scheme: Scheme, columns: int) -> int:
    return columns // scheme.columns_per_group(columns) if isinstance(scheme, Int4) else 1


def emit_weight(operations: Operations, weight: Weight, scheme: Scheme) -> tuple[Port, WeightRegion]:
    """Add the constants and the chain; gives the f32 matrix and the region that its bytes must fill."""
    region = _reserve(operations, weight, scheme)
    if isinstance(scheme, Fp32):
        shape = (1,) * (3 - len(weight.shape)) + weight.shape
        return _constant(operations, region, "f32", shape), region
    if isinstance(scheme, (Int4, Int8)):
        return _emit_integers(operations, region, scheme), region
    half = _constant(operations, region, "f16", weight.shape)
    return operations.convert(half, "f32", is_decompression=True), region


def _reserve(operations: Operations, weight: Weight, scheme: Scheme) -> WeightRegion:
    data_bytes, zero_point_bytes, scale_bytes = weight_bytes(weight, scheme)
    reserve = operations.writer.reserve
    return WeightRegion(
        weight=weight,
        scheme=scheme,
        offset=reserve(data_bytes),
        data_bytes=data_bytes,
        zero_point_offset=reserve(zero_point_bytes),
        zero_point_bytes=zero_point_bytes,
        scale_offset=reserve(scale_bytes),
        scale_bytes=scale_bytes,
    )


def _constant(operations: Operations, region: WeightRegion, element_type: str, shape: tuple[int, ...]) -> Port:
    return operations.writer.reserved_constant(
        region.weight.name, element_type, shape, offset=region.offset, size_bytes=region.data_bytes
    )


def _emit_integers(operations: Operations, region: WeightRegion, scheme: Int4 | Int8) -> Port:
    name = region.weight.name
    rows, columns = region.weight.shape
    groups = _groups_per_row(scheme, columns)
    is_grouped = groups > 1
    # (rows, columns), or (rows, groups, columns per group)
    shape = (rows, groups, columns // groups) if is_grouped else (rows, columns)
    scale_shape = (*shape[:-1], 1)
    element_type = f"{'i' if scheme.symmetric else 'u'}{scheme.bits}"
    values = operations.convert(_constant(operations, region, element_type, shape), "f16")
    if not scheme.symmetric:
        zero_point = operations.writer.reserved_constant(
            f"{name}/zero_point",
            element_type,
            scale_shape,
            offset=region.zero_point_offset,
            size_bytes=region.zero_point_bytes,
        )
        values = operations.binary("Subtract", values, operations.convert(zero_point, "f16"))
    scale = operations.writer.reserved_constant(
        f"{name}/scale", "f16", scale_shape, offset=region.scale_offset, size_bytes=region.scale_bytes
    )
    values = operations.binary("Multiply", values, scale)
    if is_grouped:
        values = operations.reshape(values, [rows, columns])
    return operations.convert(values, "f32", is_decompression=True)
