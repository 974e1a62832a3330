"""Fills the .bin of an IR: weights are read, packed and written a block at a time, in the order of their offsets.

Threads pack (numpy frees the interpreter lock), the caller's thread writes and hashes. At most a few blocks are in
flight, so memory does not grow with the model.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aipc.checkpoint import Checkpoint
from aipc.errors import WeightError
from aipc.graph.ir import Literal
from aipc.graph.openvino import Ir
from aipc.graph.openvino_weights import WeightRegion
from aipc.quant import Packed, Scratch
from aipc.quant.int4 import pack_nibbles

# Half a million weights: 2 MB as float32, which stays in the second-level cache of current CPUs.
BLOCK_ELEMENTS = 512 * 1024


@dataclass(frozen=True)
class _Block:
    """Rows `start` to `stop` of a weight."""

    region: WeightRegion
    start: int
    stop: int


def write_bin(
    file: BinaryIO,
    ir: Ir,
    checkpoint: Checkpoint,
    *,
    threads: int,
    hash_bytes: Callable[[memoryview], None],
    advance: Callable[[int], None],
) -> None:
    """Write the whole .bin to `file`.

    `hash_bytes` gets every byte that is written, in order; `advance` the checkpoint bytes that a weight took. Raises
    `WeightError` naming the weight when its values cannot be quantised.
    """
    output = _Output(file, hash_bytes)
    regions = [region for region in ir.regions if isinstance(region, WeightRegion)]
    packed_blocks = _packed_in_order(checkpoint, [b for region in regions for b in _blocks(region)], threads)
    for region in ir.regions:
        if isinstance(region, Literal):
            output.write_at(region.offset, np.frombuffer(region.data, np.uint8))
        else:
            _write_region(output, region, packed_blocks)
            advance(checkpoint.stored(region.weight).size_bytes)
    output.pad_to(ir.bin_bytes)


def _write_region(output: _Output, region: WeightRegion, packed_blocks: Iterator[Packed]) -> None:
    scales, zero_points = [], []
    output.pad_to(region.offset)
    for _ in _blocks(region):
        packed = next(packed_blocks)
        output.write(packed.data)
        if packed.scale is not None:
            scales.append(packed.scale.reshape(-1))
        if packed.zero_point is not None:
            zero_points.append(packed.zero_point.reshape(-1))
    if zero_points:
        output.write_at(region.zero_point_offset, _packed_zero_points(np.concatenate(zero_points), region))
    if scales:
        output.write_at(region.scale_offset, np.concatenate(scales))


def _packed_zero_points(zero_points: NDArray[np.uint8], region: WeightRegion) -> NDArray[np.uint8]:
    if region.scheme.bits == 8:
        return zero_points
    padded = np.append(zero_points, np.zeros(zero_points.size % 2, np.uint8))
    return pack_nibbles(padded.reshape(1, -1))


def _columns(region: WeightRegion) -> int:
    return region.weight.shape[-1]


def _blocks(region: WeightRegion) -> Iterator[_Block]:
    rows = region.weight.shape[0] if len(region.weight.shape) == 2 else 1
    rows_per_block = max(1, BLOCK_ELEMENTS // _columns(region))
    for start in range(0, rows, rows_per_block):
        yield _Block(region, start, min(start + rows_per_block, rows))


def _packed_in_order(checkpoint: Checkpoint, blocks: list[_Block], threads: int) -> Iterator[Packed]:
    """Pack blocks on `threads` threads, never more than twice as many blocks ahead of the caller."""
    local = threading.local()

    def pack(block: _Block) -> Packed:
        if not hasattr(local, "scratch"):
            local.scratch = Scratch()
        return _pack(checkpoint, block, local.scratch)

    waiting: deque[Future[Packed]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="quantise")
    try:
        for block in blocks:
            waiting.append(pool.submit(pack, block))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pack(checkpoint: Checkpoint, block: _Block, scratch: Scratch) -> Packed:
    weight = block.region.weight
    try:
        return block.region.scheme.quantize(checkpoint.rows(weight, block.start, block.stop), scratch)
    except WeightError as error:
        file = checkpoint.stored(weight).file
        raise WeightError(f"{file}: weight {weight.name}", expected=error.expected, found=error.found) from None


class _Output:
    """A file written once from front to back; gaps before an offset are zeros."""

    def __init__(self, file: BinaryIO, hash_bytes: Callable[[memoryview], None]) -> None:
        self._file = file
        self._hash_bytes = hash_bytes
        self._position = 0

    def write_at(self, offset: int, data: NDArray[Any]) -> None:
        self.pad_to(offset)
        self.write(data)

    def pad_to(self, offset: int) -> None:
        if offset > self._position:
            self.write(np.zeros(offset - self._position, np.uint8))

    def write(self, data: NDArray[Any]) -> None:
        view = np.ascontiguousarray(data).data.cast("B")
        self._file.write(view)
        self._hash_bytes(view)
        self._position += len(view)
