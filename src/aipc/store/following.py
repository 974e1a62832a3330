"""What follows the writing of a large file, while its next bytes are still being made."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO

from aipc.store.hashing import FileHasher

_MOST_BEHIND = 4  # pieces that are written and not yet hashed
_FLUSHED_AT_ONCE_BYTES = 32 * 1024 * 1024  # less is not worth a call; more leaves the disk idle


class Following:
    """Hashes a file's bytes and has the disk hold them, each on a thread of its own. A context manager.

    Left in the ordinary way, all bytes are in `hasher`; what a thread failed at is raised, an OSError for a full disk.
    """

    def __init__(self, file: BinaryIO, hasher: FileHasher) -> None:
        self._file = file
        self._hasher = hasher
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._flushing = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._hashes: deque[Future[None]] = deque()
        self._flush: Future[None] | None = None
        self._unflushed_bytes = 0

    def wrote(self, piece: memoryview) -> None:
        """Take the next bytes, which were written and stay as they are."""
        self._hashes.append(self._hashing.submit(self._hasher.update, piece))
        if len(self._hashes) > _MOST_BEHIND:
            self._hashes.popleft().result()
        self._unflushed_bytes += len(piece)
        if self._unflushed_bytes >= _FLUSHED_AT_ONCE_BYTES and (self._flush is None or self._flush.done()):
            self._finish_flush()
            self._unflushed_bytes = 0
            self._flush = self._flushing.submit(os.fsync, self._file.fileno())

    def _finish_flush(self) -> None:
        if self._flush is not None:
            self._flush.result()

    def __enter__(self) -> Following:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hashing.shutdown(cancel_futures=error is not None)
        self._flushing.shutdown()
        if error is None:
            for hashed in self._hashes:
                hashed.result()
            self._finish_flush()
