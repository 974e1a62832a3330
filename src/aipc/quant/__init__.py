"""Quantisation: schemes that turn rows of a weight into codes and back, and recipes that choose a scheme per weight.

A scheme is a frozen dataclass with two pure methods, `quantize(rows) -> Packed` and `dequantize(packed) -> float32`.
Codes are kept in the plainest layout (two INT4 codes a byte, low nibble first); a back end that wants another one
rearranges them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aipc.errors import WeightError
from aipc.floats import Float32, Rows

PER_CHANNEL = -1  # a group size: one group a row

Codes = NDArray[Any]
Float16 = NDArray[np.float16]


@dataclass(frozen=True)
class Packed:
    """Quantised rows.

    `data` (rows, bytes per row) uint8 or, for FP16, (rows, columns) float16; `scale` (rows, groups) float16 and
    `zero_point` (rows, groups) uint8, both None where the scheme has none. Value = (code − zero point) · scale.
    """

    data: Codes
    scale: Float16 | None = None
    zero_point: NDArray[np.uint8] | None = None

    def values(self, codes: Float32) -> Float32:
        """(codes − zero point) · scale for integer codes of shape (rows, groups, columns of a group)."""
        if self.scale is None:
            raise TypeError("packed by a scheme that has no scale")
        if self.zero_point is not None:
            codes = codes - self.zero_point[..., None]
        return (codes * self.scale.astype(np.float32)[..., None]).reshape(len(codes), -1)


class Scratch:
    """Buffers that one thread uses again for each block, so that no block pays for fresh memory pages."""

    def __init__(self) -> None:
        self._buffers: dict[str, Codes] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[Any]) -> Codes:
        """An uninitialised array; the one that was handed out under this name before is overwritten."""
        size = int(np.prod(shape))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, dtype)
        return buffer[:size].reshape(shape)


class Scheme(Protocol):
    """How one weight is stored."""

    @property
    def label(self) -> str:
        """Short name for people and manifests, such as `int4-g128-sym`."""

    @property
    def bits(self) -> int:
        """Bits of one code."""

    def quantize(self, rows: Rows, scratch: Scratch | None = None) -> Packed:
        """Pack rows. Raises `WeightError` for NaN or infinite values. Nothing returned refers to `scratch`."""

    def dequantize(self, packed: Packed) -> Float32:
        """The values that the packed rows stand for, (rows, columns)."""


def require_finite(*extremes: Float32) -> None:
    """Raise `WeightError` unless all extremes are finite."""
    if not all(np.isfinite(values).all() for values in extremes):
        raise not_finite()


def half_precision(scale: Float32) -> Float16:
    """A scale as FP16, the format it is stored in. Raises `WeightError` for one beyond ±65504."""
    with np.errstate(over="ignore"):  # overflow becomes infinity, and is refused here
        rounded = scale.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise scale_too_large()
    return rounded


def scale_of_range(lowest: Float32, highest: Float32, steps: int) -> Float16:
    """The scale that lays `steps` equal steps between two extremes. Raises as `half_precision`."""
    with np.errstate(over="ignore"):  # as there
        return half_precision((highest - lowest) / np.float32(steps))


def not_finite() -> WeightError:
    return WeightError("a weight", expected="finite values", found="NaN or infinity")


def scale_too_large() -> WeightError:
    return WeightError("a weight", expected="values whose scale FP16 can hold", found="larger ones")


def inverse(scale: Float16) -> Float32:
    """1 / scale, and 0 where the scale is 0: a group of zeros stays zeros."""
    wide = scale.astype(np.float32)
    return np.divide(np.float32(1), wide, out=np.zeros_like(wide), where=wide != 0)
