"""Fills a file of weights: each is read, packed and written a block at a time, in the order of their offsets.

What the file is of, an IR's .bin or an ONNX model's external data, is up to the regions that a back end lays out.

Threads pack (numpy frees the interpreter lock), the caller's thread writes. At most a few blocks are in
flight, and the scales of a huge weight, which follow its codes, wait on the disk: memory does not grow with the model.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aipc.checkpoint import Checkpoint
from aipc.errors import WeightError
from aipc.graph import Weight
from aipc.quant import Packed, Scheme, Scratch, compiled

# Large blocks let threads wait less often for the interpreter's lock (measured with two), but each thread holds one.
BLOCK_ELEMENTS = 1536 * 1024
_NUMPY_BLOCK_ELEMENTS = 768 * 1024  # numpy needs ten bytes beside each weight, compiled code none
_BLOCKS = 2  # of full size; with more threads there are more blocks, and smaller ones
# Scales and zero points are kept in memory up to this: those of every weight but an embedding in small groups.
_KEPT_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Literal:
    """Bytes known while the graph is written."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


@dataclass(frozen=True)
class Computed:
    """Bytes that are computed when they are written, in blocks."""

    offset: int
    blocks: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Stored:
    """The arrays of some packed rows as a file holds them."""

    codes: NDArray[Any]
    zero_points: NDArray[Any] | None = None
    scales: NDArray[Any] | None = None


class Region(Protocol):
    """Where a weight's codes, zero points and scales lie in the file, in this order. Offsets in bytes."""

    @property
    def weight(self) -> Weight: ...

    @property
    def scheme(self) -> Scheme: ...

    @property
    def offset(self) -> int: ...

    @property
    def zero_point_offset(self) -> int: ...

    @property
    def scale_offset(self) -> int: ...

    def stored(self, packed: Packed) -> Stored:
        """Packed rows in the file's layout. Only a weight's last rows can be odd in number."""


@dataclass(frozen=True)
class _Block:
    """Some rows of a weight."""

    region: Region
    rows: range


class Output(Protocol):
    """A new file without a buffer; it may keep the bytes it was given, which nobody changes any more."""

    @property
    def name(self) -> str: ...

    def write(self, data: memoryview, /) -> int:
        """Returns how many bytes were written, from the front."""


def write_data(
    file: Output,
    regions: Sequence[Region | Literal | Computed],
    size_bytes: int,
    checkpoint: Checkpoint,
    threads: int,
    advance: Callable[[int], None],
) -> None:
    """Write the whole file, `size_bytes` long, to `file`.

    `regions` are in the order of their offsets. `advance` gets the checkpoint bytes of each block. Up to 60 MB of
    temporary file lie beside `file` meanwhile. Raises `WeightError` naming the weight when its values cannot be
    quantised or its file got shorter, and OSError when the disk is full.
    """
    output = _Writer(file)
    largest = BLOCK_ELEMENTS if compiled.kernel else _NUMPY_BLOCK_ELEMENTS
    block_elements = min(largest, _BLOCKS * largest // threads)
    weights = [region for region in regions if not isinstance(region, (Literal, Computed))]
    blocks = [block for region in weights for block in _blocks(region, block_elements)]
    with closing(_packed_in_order(checkpoint, blocks, threads)) as packed_blocks:
        for region in regions:
            if isinstance(region, Literal):
                output.write_at(region.offset, region.data)
            elif isinstance(region, Computed):
                output.pad_to(region.offset)
                for block in region.blocks():
                    output.write(block)
            else:
                row_bytes = checkpoint.stored(region.weight).size_bytes // _rows(region)
                # The blocks come first in the zip, so that none of the next region's is taken when they end.
                packed = zip(_blocks(region, block_elements), packed_blocks, strict=False)
                _write_region(output, region, packed, advance=advance, source_row_bytes=row_bytes)
    output.pad_to(size_bytes)


def _write_region(
    output: _Writer,
    region: Region,
    packed_blocks: Iterable[tuple[_Block, Packed]],
    *,
    advance: Callable[[int], None],
    source_row_bytes: int,
) -> None:
    output.pad_to(region.offset)
    with output.side_file() as zero_points, output.side_file() as scales:
        for block, packed in packed_blocks:
            stored = region.stored(packed)
            output.write(_bytes(stored.codes))
            if stored.zero_points is not None:
                zero_points.write(_bytes(stored.zero_points))
            if stored.scales is not None:
                scales.write(_bytes(stored.scales))
            advance(len(block.rows) * source_row_bytes)
        output.copy_to(region.zero_point_offset, zero_points)
        output.copy_to(region.scale_offset, scales)


def _bytes(values: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(values).data.cast("B")


def _rows(region: Region) -> int:
    return region.weight.shape[0] if len(region.weight.shape) == 2 else 1


def _columns(region: Region) -> int:
    return region.weight.shape[-1]


def _blocks(region: Region, block_elements: int) -> Iterator[_Block]:
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


class _Writer:
    """A file written once from front to back; gaps before an offset are zeros."""

    def __init__(self, file: Output) -> None:
        self._file = file
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
        self._position += len(view)
