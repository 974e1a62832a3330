"""Progress of a download and a conversion as Hugging Face programs show theirs: bars on stderr."""

from __future__ import annotations

from typing import Any

from transformers.utils import logging

_WORTH_A_BAR = {"download": "Downloading", "quantise": "Quantising"}


class Bars:
    """A callable of the `aipc.progress.Progress` protocol, and a context manager.

    `transformers.utils.logging.disable_progress_bar()` hides the bars, as it hides transformers' own.
    """

    def __init__(self) -> None:
        self._stage: str | None = None
        self._bar: Any = None
        self._done_bytes = 0

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._done_bytes = stage, 0
        if self._bar is None and stage in _WORTH_A_BAR and total_bytes:
            self._bar = logging.tqdm(desc=_WORTH_A_BAR[stage], total=total_bytes, unit="B", unit_scale=True)
        if self._bar is not None:
            self._bar.update(done_bytes - self._done_bytes)
            self._done_bytes = done_bytes

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
