"""Fills the .bin of an IR: weights are read, packed and written a block at a time, in the order of their offsets.

Threads pack (numpy frees the interpreter lock), the caller's thread writes. At most a few blocks are in
flight, and the scales of a huge weight, which follow its codes, wait on the disk: memory does not grow with the model.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aipc.checkpoint import Checkpoint
from aipc.errors import WeightError
from aipc.graph import Weight
from aipc.graph.openvino import Ir
from aipc.graph.openvino.ir import Literal
from aipc.graph.openvino.weights import WeightRegion
from aipc.quant import Packed, Scheme, Scratch
from aipc.quant.int4 import pack_nibbles

# Large blocks let threads wait less often for the interpreter's lock (measured with two), but each thread holds one.
BLOCK_ELEMENTS = 1536 * 1024
_ELEMENTS_IN_ALL_BLOCKS = 2 * BLOCK_ELEMENTS
# Scales and zero points are kept in memory up to this: those of every weight but an embedding in small groups.
_KEPT_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class _Block:
    """Some rows of a weight."""

    region: WeightRegion
    rows: range


def write_bin(
    file: BinaryIO,
    ir: Ir,
    checkpoint: Checkpoint,
    *,
    threads: int,
    wrote: Callable[[memoryview], None],
    advance: Callable[[int], None],
) -> None:
    """Write the whole .bin to `file`, a new file opened without a buffer.

    `wrote` gets every byte that was written, in order; `advance` the checkpoint bytes of each block. Up to 60 MB
    of temporary file lie beside `file` meanwhile. Raises `WeightError` naming the weight when its values cannot be
    quantised or its file got shorter, and OSError when the disk is full.
    """
    output = _Output(file, wrote)
    block_elements = min(BLOCK_ELEMENTS, _ELEMENTS_IN_ALL_BLOCKS // threads)
    regions = [region for region in ir.regions if isinstance(region, WeightRegion)]
    blocks = [block for region in regions for block in _blocks(region, block_elements)]
    with closing(_packed_in_order(checkpoint, blocks, threads)) as packed_blocks:
        for region in ir.regions:
            if isinstance(region, Literal):
                output.write_at(region.offset, region.data)
            else:
                row_bytes = checkpoint.stored(region.weight).size_bytes // _rows(region)
                # The blocks come first in the zip, so that none of the next region's is taken when they end.
                packed = zip(_blocks(region, block_elements), packed_blocks, strict=False)
                _write_region(output, region, packed, advance=advance, source_row_bytes=row_bytes)
    output.pad_to(ir.bin_bytes)


def _write_region(
    output: _Output,
    region: WeightRegion,
    packed_blocks: Iterable[tuple[_Block, Packed]],
    *,
    advance: Callable[[int], None],
    source_row_bytes: int,
) -> None:
    output.pad_to(region.offset)
    with output.side_file() as zero_points, output.side_file() as scales:
        for block, packed in packed_blocks:
            output.write(_bytes(packed.data))
            if packed.zero_point is not None:
                zero_points.write(_bytes(_stored_zero_points(packed.zero_point, region)))
            if packed.scale is not None:
                scales.write(_bytes(packed.scale))
            advance(len(block.rows) * source_row_bytes)
        output.copy_to(region.zero_point_offset, zero_points)
        output.copy_to(region.scale_offset, scales)


def _stored_zero_points(zero_points: NDArray[np.uint8], region: WeightRegion) -> NDArray[np.uint8]:
    """Two INT4 zero points a byte. Only a weight's last block can have an odd number of them."""
    if region.scheme.bits == 8:
        return zero_points
    flat = zero_points.reshape(-1)
    return pack_nibbles(np.append(flat, np.zeros(flat.size % 2, np.uint8)).reshape(1, -1))


def _bytes(values: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(values).data.cast("B")


def _rows(region: WeightRegion) -> int:
    return region.weight.shape[0] if len(region.weight.shape) == 2 else 1


def _columns(region: WeightRegion) -> int:
    return region.weight.shape[-1]


def _blocks(region: WeightRegion, block_elements: int) -> Iterator[_Block]:
    rows = _rows(region)
    # Even, so that blocks begin at whole bytes of zero points.
    rows_per_block = max(2, block_elements // _columns(region) // 2 * 2)
    for start in range(0, rows, rows_per_block):
        yield _Block(region, range(start, min(start + rows_per_block, rows)))


def _packed_in_order(checkpoint: Checkpoint, blocks: list[_Block], threads: int) -> Generator[Packed, None, None]:
    """Pack blocks on `threads` threads, never more than two blocks more ahead of the caller."""
    local = threading.local()

    def pack(block: _Block) -> Packed:
        if not hasattr(local, "scratch"):
            local.scratch = Scratch()
        region = block.region
        return quantize_rows(checkpoint, region.weight, region.scheme, rows=block.rows, scratch=local.scratch)

    waiting: deque[Future[Packed]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="quantise")
    try:
        for block in blocks:
            waiting.append(pool.submit(pack, block))
            if len(waiting) > threads + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def quantize_rows(
    checkpoint: Checkpoint, weight: Weight, scheme: Scheme, *, rows: range, scratch: Scratch | None = None
) -> Packed:
    """Some rows of a weight, packed. Raises `WeightError` naming the weight and its file."""
    stored = checkpoint.rows(weight, rows.start, rows.stop)
    try:
        return scheme.quantize(stored, scratch)
    except WeightError as error:
        raise WeightError(
            f"{checkpoint.stored(weight).file}: weight {weight.name}", expected=error.expected, found=error.found
        ) from None


class _Output:
    """A file written once from front to back; gaps before an offset are zeros."""

    def __init__(self, file: BinaryIO, wrote: Callable[[memoryview], None]) -> None:
        self._file = file
        self._wrote = wrote
        self._position = 0

    def side_file(self) -> IO[bytes]:
        """A temporary file in memory, and beyond a few megabytes beside this file."""
        return tempfile.SpooledTemporaryFile(_KEPT_BYTES, dir=str(Path(self._file.name).parent))

    def copy_to(self, offset: int, source: IO[bytes]) -> None:
        self.pad_to(offset)
        source.seek(0)
        while chunk := source.read(_CHUNK_BYTES):
            self.write(chunk)

    def write_at(self, offset: int, data: bytes) -> None:
        self.pad_to(offset)
        self.write(data)

    def pad_to(self, offset: int) -> None:
        if offset > self._position:
            self.write(bytes(offset - self._position))

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        left = view
        while left:  # a file without a buffer may take a part only, as the last bytes of a disk
            left = left[self._file.write(left) :]
        self._wrote(view)
        self._position += len(view)
