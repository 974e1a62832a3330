"""Progress of a download, a conversion and a compilation as Hugging Face programs show theirs: bars on stderr."""

from __future__ import annotations

import sys
from threading import Event, Thread
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]
from transformers.utils import logging

_WORTH_A_BAR = {"download": "Downloading", "quantise": "Quantising"}
_COMPILING = "compiling "  # how a stage begins that takes minutes on an NPU, whose end nobody knows
_TICK_S = 1.0


class Bars:
    """A callable of the `aipc.progress.Progress` protocol, and a context manager.

    `transformers.utils.logging.disable_progress_bar()` hides the bars and notes, as it hides transformers' own.
    """

    def __init__(self) -> None:
        self._stage: str | None = None
        self._bar: Any = None
        self._done_bytes = 0
        self._clock: _Clock | None = None

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._done_bytes = stage, 0
            if stage.startswith(_COMPILING):
                self._clock = _Clock(stage)
        if self._bar is None and stage in _WORTH_A_BAR and total_bytes:
            self._bar = logging.tqdm(desc=_WORTH_A_BAR[stage], total=total_bytes, unit="B", unit_scale=True)
        if self._bar is not None:
            self._bar.update(done_bytes - self._done_bytes)
            self._done_bytes = done_bytes

    def note(self, text: str) -> None:
        """A line for a person, above what is drawn."""
        if logging.is_progress_bar_enabled():
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._clock is not None:
            self._clock.close()
        self._bar = self._clock = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Clock:
    """A bar that has nothing to count but the time, drawn by a thread of its own."""

    def __init__(self, stage: str) -> None:
        self._bar = logging.tqdm(desc=stage[0].upper() + stage[1:], bar_format="{desc}: {elapsed}")
        self._ended = Event()
        self._thread = Thread(target=self._tick, name="aipc-bar", daemon=True)
        self._thread.start()

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_S):
            self._bar.refresh()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._bar.close()
