"""What stderr shows while something takes time: a bar or a spinner on a terminal, one line per stage elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, Timer
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

# What a person reads for a stage while it runs, and once it is done.
_STAGES = {
    "guide": ("preparing the embedded model", "prepared the embedded model"),
    "download": ("downloading", "downloaded"),
    "quantise": ("quantising", "quantised"),
    "tokenizer": ("converting the tokenizer", "converted the tokenizer"),
    "verify": ("verifying what was written", "verified what was written"),
    "check": ("checking the model's files", "checked the model's files"),
    "devices": ("examining this PC", "examined this PC"),
    "load": ("loading the model", "loaded the model"),
    "first token": ("reading the prompt", "read the prompt"),
    "warm-up": ("waiting for the first inference to end", "waited for the first inference to end"),
}
_HAPPENS_ONCE = {"guide"}
_COMPILING = "compiling "  # how a stage begins that takes minutes on some devices, and says itself what it does
_LABEL_WIDTH = len("verifying what was written")  # the longest with a bar behind it
_DRAWN_AFTER_S = 0.25  # what is over sooner would only flicker
_WORTH_A_LINE_S = 1.0


class Display:
    """Draws stages. A callable of the `aipc.progress.Progress` protocol and a context manager.

    A stage that took less than a second leaves nothing behind; a longer one leaves a line with its time, and so does
    one that happens once in a store's life. A stage that failed leaves nothing. stdout is never touched.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self.quiet = quiet
        self._draws = not quiet and self._stream is not None and self._stream.isatty()
        self._lock = RLock()  # the timer's thread draws too
        self._stage: str | None = None
        self._begun_s = 0.0
        self._bytes = (0, 0)  # done, total
        self._done_before_bytes = 0  # when the stage began: most is verified while it is written
        self._timer: Timer | None = None
        self._bar: tuple[RichProgress, TaskID] | None = None

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        with self._lock:
            if stage != self._stage:
                self.end()
                self._begin(stage)
                self._done_before_bytes = done_bytes
            self._bytes = (done_bytes, total_bytes)
            if self._bar is None:
                return
            bar, task = self._bar
            if bar.tasks[0].total is None and total_bytes:  # the end became known: a spinner becomes a bar
                self._erase()
                self._draw(self._begun_s)
            else:
                bar.update(task, completed=done_bytes, total=total_bytes or None)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """A stage without a known end."""
        self(stage, 0, 0)
        try:
            yield
        except BaseException:
            self.end(failed=True)
            raise
        self.end()

    def end(self, *, failed: bool = False) -> None:
        """Finish the current stage, if there is one."""
        with self._lock:
            stage, self._stage = self._stage, None
            if stage is None:
                return
            self._erase()
        seconds = time.perf_counter() - self._begun_s
        is_told_later = self._draws and stage == "first token"  # by the statistics
        is_told = seconds >= _WORTH_A_LINE_S or stage in _HAPPENS_ONCE
        if is_told and not failed and not is_told_later:
            once = " (only this first time)" if stage in _HAPPENS_ONCE else ""
            words = _done(stage)
            self.note(f"{words}{self._amount(seconds)} in {seconds:.1f} s{once}")

    def _amount(self, seconds: float) -> str:
        """All bytes, and the speed of those that were not done before."""
        done_bytes, total_bytes = self._bytes
        if not total_bytes:
            return ""
        return f" {_gigabytes(total_bytes)} at {_gigabytes((done_bytes - self._done_before_bytes) / seconds)}/s"

    def note(self, text: str) -> None:
        """A line or more for a person, paler than the result where the terminal can do that."""
        if self._draws:
            with self._lock:  # a console that draws puts the text above its spinner
                console = self._bar[0].console if self._bar else _console(self._stream)
                console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)
        elif not self.quiet:
            print(text, file=self._stream, flush=True)

    def _begin(self, stage: str) -> None:
        self._stage, self._begun_s = stage, time.perf_counter()
        if stage.startswith(_COMPILING) and not self._draws:
            self.note(f"{stage} …")
        if self._draws:
            self._timer = Timer(_DRAWN_AFTER_S, self._draw, args=(self._begun_s,))
            self._timer.daemon = True
            self._timer.start()

    def _draw(self, begun_s: float) -> None:
        with self._lock:
            if self._stage is None or self._begun_s != begun_s:
                return  # it ended while the timer waited for the lock
            done_bytes, total_bytes = self._bytes
            bar = _bar(_console(self._stream), with_bytes=total_bytes > 0)
            label = f"{_STAGES.get(self._stage, (self._stage,))[0]:{_LABEL_WIDTH}}"
            task = bar.add_task(label, total=total_bytes or None, completed=done_bytes)
            self._bar = (bar, task)
            bar.start()

    def _erase(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(failed=kind is not None)


def _done(stage: str) -> str:
    if stage.startswith(_COMPILING):
        return f"compiled {stage.removeprefix(_COMPILING)}"
    return _STAGES.get(stage, (stage, stage))[1]


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream)


def _bar(console: Console, *, with_bytes: bool) -> RichProgress:
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

    amount: list[ProgressColumn] = [BarColumn(30), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    # Where a label is as long as the terminal is wide, its end is cut, and not the time.
    elapsed: list[ProgressColumn] = [SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}")]
    columns = [SpinnerColumn(), TextColumn("{task.description}"), *amount] if with_bytes else elapsed
    # Redirecting would send what is written to stdout meanwhile to stderr.
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
