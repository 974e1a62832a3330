"""Sizes and hashes of files: in full, and of a sample that costs milliseconds however large the file is.

The sample is 64 blocks of 64 KiB, evenly spread, the first and the last included. A file of up to 16 MiB
has no sample, as hashing it in full costs less than 10 ms.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zlib_ng import zlib_ng

from aipc.errors import StoreError

SAMPLE_OVER_BYTES = 16 * 1024 * 1024
SAMPLE_BLOCKS = 64
SAMPLE_BLOCK_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024  # stays in the second-level cache; larger chunks hash no faster

# Called with bytes done and bytes in all; done never goes down, and ends at all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FileRecord:
    """A file's size and what its bytes hash to.

    `sha256` is of the whole file, `sample_sha256` of its sample blocks put together in order (None for a
    file of up to 16 MiB). Both are lower-case hexadecimal.
    """

    size_bytes: int
    sha256: str
    sample_sha256: str | None = None


def sample_offsets(size_bytes: int) -> tuple[int, ...]:
    """Where the sample blocks of a file of `size_bytes` begin, ascending; empty when a file has no sample."""
    if size_bytes <= SAMPLE_OVER_BYTES:
        return ()
    last = size_bytes - SAMPLE_BLOCK_BYTES
    return tuple(last * block // (SAMPLE_BLOCKS - 1) for block in range(SAMPLE_BLOCKS))


class FileHasher:
    """Makes the `FileRecord` of a file while its bytes are written, in order, by whoever writes it.

    The size must be known beforehand, as it decides where the sample blocks lie.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._done_bytes = 0
        self.crc32 = 0  # of the bytes so far
        self._whole = hashlib.sha256()
        self._sample = hashlib.sha256()
        self._waiting = list(reversed(sample_offsets(size_bytes)))  # the next block is the last item

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the file's next bytes. Raises `StoreError` when the file gets longer than announced."""
        view = memoryview(data).cast("B")
        if self._done_bytes + len(view) > self._size_bytes:
            raise StoreError(
                "A file being written is longer than announced",
                expected=f"{self._size_bytes:,} bytes",
                found=f"{self._done_bytes + len(view):,} bytes or more",
            )
        self.crc32 = zlib_ng.crc32(view, self.crc32)
        self._whole.update(view)
        self._update_sample(view)
        self._done_bytes += len(view)

    def result(self) -> FileRecord:
        """Return the record. Raises `StoreError` when fewer bytes came than were announced."""
        if self._done_bytes != self._size_bytes:
            raise StoreError(
                "A file being written is shorter than announced",
                expected=f"{self._size_bytes:,} bytes",
                found=f"{self._done_bytes:,} bytes",
            )
        sampled = self._size_bytes > SAMPLE_OVER_BYTES
        return FileRecord(self._size_bytes, self._whole.hexdigest(), self._sample.hexdigest() if sampled else None)

    def _update_sample(self, view: memoryview) -> None:
        begin, end = self._done_bytes, self._done_bytes + len(view)
        while self._waiting and self._waiting[-1] < end:
            offset = self._waiting[-1]
            self._sample.update(view[max(offset - begin, 0) : offset + SAMPLE_BLOCK_BYTES - begin])
            if offset + SAMPLE_BLOCK_BYTES > end:
                return  # the rest of this block comes with the next bytes
            self._waiting.pop()


def hash_file(path: Path, advance: Callable[[int], None] | None = None) -> FileRecord:
    """Read all of `path` and return its record; `advance` is called with the bytes of each step."""
    with path.open("rb", buffering=0) as file:
        hasher = FileHasher(os.fstat(file.fileno()).st_size)
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            if advance is not None:
                advance(count)
    return hasher.result()


def hash_sample(path: Path) -> str:
    """Read only the sample blocks of `path` (at most 4 MiB) and return their hash."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for offset in sample_offsets(os.fstat(file.fileno()).st_size):
            file.seek(offset)
            digest.update(file.read(SAMPLE_BLOCK_BYTES) or b"")
    return digest.hexdigest()
