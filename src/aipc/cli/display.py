"""What stderr shows while something takes time: a bar or a spinner on a terminal, one line per stage elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

# What a person reads for a stage while it runs, and once it is done.
_STAGES = {
    "download": ("downloading", "downloaded"),
    "quantise": ("quantising", "quantised"),
    "tokenizer": ("converting the tokenizer", "converted the tokenizer"),
    "verify": ("verifying what was written", "verified what was written"),
    "check": ("checking the model's files", "checked the model's files"),
    "load": ("loading the model", "loaded the model"),
    "first token": ("reading the prompt", "read the prompt"),
}
_WORTH_A_LINE_S = 1.0


class Display:
    """Draws stages. A callable of the `aipc.progress.Progress` protocol and a context manager.

    A stage that took less than a second leaves nothing behind; a longer one leaves a line with its time.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._draws = not quiet and self._stream.isatty()
        self._stage: str | None = None
        self._begun_s = 0.0
        self._total_bytes = 0
        self._bar: tuple[RichProgress, TaskID] | None = None

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        if stage != self._stage:
            self.end()
            self._begin(stage, total_bytes)
        self._total_bytes = total_bytes
        if self._bar is not None:
            bar, task = self._bar
            bar.update(task, completed=done_bytes, total=total_bytes or None)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """A stage without a known end."""
        self(stage, 0, 0)
        try:
            yield
        finally:
            self.end()

    def end(self) -> None:
        """Finish the current stage, if there is one."""
        if self._stage is None:
            return
        seconds = time.perf_counter() - self._begun_s
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None
        if seconds >= _WORTH_A_LINE_S and not self._quiet:
            done = _STAGES.get(self._stage, (self._stage, self._stage))[1]
            print(f"{done}{_amount(self._total_bytes, seconds)} in {seconds:.1f} s", file=self._stream)
        self._stage = None

    def _begin(self, stage: str, total_bytes: int) -> None:
        self._stage, self._begun_s, self._total_bytes = stage, time.perf_counter(), total_bytes
        if self._draws:
            bar = _bar(self._stream, with_bytes=total_bytes > 0)
            label = _STAGES.get(stage, (stage, stage))[0]
            self._bar = (bar, bar.add_task(label, total=total_bytes or None))
            bar.start()

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._quiet = True  # a stage that failed is not done
        self.end()


def _amount(total_bytes: int, seconds: float) -> str:
    if not total_bytes:
        return ""
    return f" {_gigabytes(total_bytes)} at {_gigabytes(total_bytes / seconds)}/s"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _bar(stream: TextIO, *, with_bytes: bool) -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount: list[ProgressColumn] = [BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    columns = [SpinnerColumn(), TextColumn("{task.description}"), *(amount if with_bytes else []), TimeElapsedColumn()]
    return Progress(*columns, console=Console(file=stream), transient=True)
