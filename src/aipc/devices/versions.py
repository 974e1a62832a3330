"""Version numbers of kernels, drivers and packages, compared by their numbers."""

from __future__ import annotations

import re

_LONGEST_NUMBER = 9  # digits; more is no version's part


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (6, 8, 0) of 6.8.0-57-generic; none of a text that does not begin with one."""
    found = re.match(r"\s*v?(\d+(?:\.\d+)*)", version)
    return tuple(int(part[:_LONGEST_NUMBER]) for part in found[1].split(".")) if found else ()


def is_older(version: str, minimum: str) -> bool:
    """Whether a version is older than `minimum`. One that is no version is not said to be older."""
    found, wanted = numbers(version), numbers(minimum)
    length = max(len(found), len(wanted))
    return bool(found) and _padded(found, length) < _padded(wanted, length)


def _padded(parts: tuple[int, ...], length: int) -> tuple[int, ...]:
    return parts + (0,) * (length - len(parts))
