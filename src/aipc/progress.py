"""How long work tells what it is doing: a callback, so that only the command line draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Called often. `stage` is a short word such as `quantise`; `total_bytes` 0 means that no end is known."""

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None: ...


def silent(stage: str, done_bytes: int, total_bytes: int) -> None:
    """The progress of a caller who wants none."""


Note = Callable[[str], None]
"""Called with a line for a person: what was chosen, and why something takes long."""


def unsaid(text: str) -> None:
    """The notes of a caller who wants none."""


def at_stage(progress: Progress, stage: str) -> Callable[[int, int], None]:
    """The two-argument callback (done, total) of one stage."""

    def report(done_bytes: int, total_bytes: int) -> None:
        progress(stage, done_bytes, total_bytes)

    return report
