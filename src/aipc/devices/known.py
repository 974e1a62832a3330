"""What is known about this PC, and the reason where something is not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NotAvailable:
    """A fact that could not be found out. Shown as `n/a (reason)`, and null in JSON; never a zero or a guess."""

    reason: str

    def __str__(self) -> str:
        return f"n/a ({self.reason})"
