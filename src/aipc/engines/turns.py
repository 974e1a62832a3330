"""Who may use a session's device: one stream at a time, or a warm-up, and whichever thread of it computes a token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from aipc.errors import EngineError


class Turns:
    """`computing` is held while the device computes, by whoever has it do so."""

    def __init__(self) -> None:
        self.computing = Lock()
        self._beginning = Lock()  # a warm-up and a stream never begin at once
        self._is_streaming = False

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """A stream from its first token on. Raises `EngineError` while there is another."""
        with self._beginning:
            if self._is_streaming:
                raise EngineError(
                    "the session is already generating", try_next="close the first stream, or load a second session"
                )
            self._is_streaming = True
        try:
            yield
        finally:
            self._is_streaming = False

    @contextmanager
    def warming_up(self) -> Iterator[bool]:
        """Whether there is anything to do: not while a stream is open, or the device is busy anyway."""
        with self._beginning:
            is_free = not self._is_streaming and self.computing.acquire(blocking=False)
        try:
            yield is_free
        finally:
            if is_free:
                self.computing.release()
