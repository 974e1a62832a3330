"""A large file that is hashed, flushed and read back while its next bytes are still being made."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from zlib_ng import zlib_ng

from aipc.errors import IntegrityError
from aipc.store.hashing import FileHasher, FileRecord, Progress

# For a file that this process has just written.
CONVERT_AGAIN = "convert again; if it stays so, check this computer's disk and memory"
_MOST_BEHIND = 4  # pieces that are written and not yet hashed
_FLUSHED_AT_ONCE_BYTES = 32 * 1024 * 1024  # less is not worth a call; more leaves the disk idle
_READ_AT_ONCE_BYTES = 512 * 1024  # stays in the second-level cache between the read and the sum


class CheckedFile:
    """A new file of a size that is known, written from front to back. A context manager.

    One thread hashes what was written, another has the disk hold it and reads it back. Left in the ordinary way, the
    file is whole, flushed and holds what was written, and `record` describes it; else `IntegrityError` is raised, or
    what a thread failed at, an OSError for a full disk. Compared is the CRC-32: what a disk or a memory does to bytes
    is no attack, and it costs a tenth of a sha256. The system may answer from its memory: a disk that loses what it
    said it holds is noticed by the sha256 of a later check.
    """

    def __init__(self, path: Path, size_bytes: int, progress: Progress | None = None) -> None:
        self.name = str(path)
        self._path = path
        self._size_bytes = size_bytes
        self._progress = progress or (lambda done_bytes, total_bytes: None)
        self._hasher = FileHasher(size_bytes)
        self._hashes: deque[Future[None]] = deque()
        self._reading_back: Future[None] | None = None
        self._written_bytes = self._read_bytes = 0
        self._found_crc32 = 0  # of the bytes that were read back

    def __enter__(self) -> CheckedFile:
        self._file = self._path.open("wb", buffering=0)
        try:
            # Flushed by it too: in Windows' C library a write waits for a flush of the same descriptor, which must be
            # one that may write.
            self._reader = self._path.open("r+b", buffering=0)
        except BaseException:
            self._file.close()  # or Windows would not let anybody delete it
            raise
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._flushing = ThreadPoolExecutor(1, thread_name_prefix="flush")
        return self

    def write(self, piece: memoryview) -> int:
        """Write bytes that nobody changes any more; returns how many, as a disk that gets full takes a part only."""
        taken = self._file.write(piece)
        self._hashes.append(self._hashing.submit(self._hasher.update, piece[:taken]))
        if len(self._hashes) > _MOST_BEHIND:
            self._hashes.popleft().result()
        self._written_bytes += taken
        if self._written_bytes - self._read_bytes >= _FLUSHED_AT_ONCE_BYTES and self._is_idle():
            self._reading_back = self._flushing.submit(self._read_back, self._written_bytes)
        return taken

    def _is_idle(self) -> bool:
        if self._reading_back is None:
            return True
        if not self._reading_back.done():
            return False
        self._reading_back.result()
        return True

    def _read_back(self, end: int, progress: Progress | None = None) -> None:
        os.fsync(self._reader.fileno())
        buffer = memoryview(bytearray(_READ_AT_ONCE_BYTES))
        while self._read_bytes < end:
            count = self._reader.readinto(buffer[: end - self._read_bytes])
            if not count:
                return  # the size tells
            self._found_crc32 = zlib_ng.crc32(buffer[:count], self._found_crc32)
            self._read_bytes += count
            if progress is not None:
                progress(self._read_bytes, self._size_bytes)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file, self._reader, self._flushing, self._hashing:  # the threads end before their files are closed
            if error is None:
                self._finish()

    def _finish(self) -> None:
        self._progress(self._read_bytes, self._size_bytes)  # the first of those that may wait for a slow disk
        for hashed in self._hashes:
            hashed.result()
        if self._reading_back is not None:
            self._reading_back.result()
        self._read_back(self._written_bytes, self._progress)
        self._progress(self._read_bytes, self._size_bytes)  # where the last flush had read all of it, nothing was left
        self.record: FileRecord = self._hasher.result()
        self._require("bytes", f"{self._size_bytes:,}", f"{os.fstat(self._file.fileno()).st_size:,}")
        self._require("CRC-32", f"{self._hasher.crc32:08x}", f"{self._found_crc32:08x}")

    def _require(self, what: str, expected: str, found: str) -> None:
        if found != expected:
            raise IntegrityError(
                f"{self._path} does not hold what was written",
                expected=f"{what} {expected}",
                found=found,
                try_next=CONVERT_AGAIN,
            )
