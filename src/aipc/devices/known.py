"""What is known about this PC, and the reason where something is not."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class NotAvailable:
    """A fact that could not be found out. Shown as `n/a (reason)`, and null in JSON; never a zero or a guess."""

    reason: str

    def __str__(self) -> str:
        return f"n/a ({self.reason})"


def whole_number(text: object) -> int | None:
    """The number that a system's file consists of; None for anything else, and for one of more than 18 digits."""
    found = re.fullmatch(r"\s*([0-9]{1,18})\s*", text) if isinstance(text, str) else None
    return int(found[1]) if found else None


def byte_count(value: object, reason: str) -> int | NotAvailable:
    """`value` as a size, where it is a whole number that a size can be."""
    is_size = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**60
    return value if is_size and isinstance(value, int) else NotAvailable(reason)
