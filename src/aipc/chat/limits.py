"""The limits of one rendering of a chat template: on time, on output, and on every value that is made."""

from __future__ import annotations

import re
import time
from collections.abc import ItemsView, Iterable, KeysView, Mapping, ValuesView
from itertools import chain
from typing import Any

LONGEST_INTEGER_BITS = 4096
LONGEST_FORMAT = 4096
WIDEST_FIELD = 1000
# %1000d, %*d, %.1000f, %(name)1000d
WIDE_PERCENT_FIELD = re.compile(r"%(?:\(.*\))?[-#0 +]*(?:\d*\.)?(?:\*|\d{4})", re.DOTALL)
# {:1000}, {:{}}, and {0.name} or {0[name]}, whose values are not seen here
WIDE_BRACE_FIELD = re.compile(r"\{[^{}]*\d{4}|:[^{}]*\{|\{[^{}:]*[.\[]")
WEIGHT_OF_AN_ITEM = 32  # in characters: about what a small value and the reference to it take
MOST_COMPARISONS = 10**8  # characters times characters, for str methods that are not linear


class LimitReachedError(Exception):
    """A template took too long, or made something too large."""


class TemplateLimits:
    """`seconds` is wall time; `characters` limits each value, and separately the sum of all output."""

    def __init__(self, *, seconds: float, characters: int) -> None:
        self._deadline = time.perf_counter() + seconds
        self._seconds = seconds
        self._characters = characters
        self._characters_left = characters

    def tick(self) -> None:
        """Raise `LimitReachedError` when the time is over."""
        if time.perf_counter() > self._deadline:
            raise LimitReachedError(f"it took more than {self._seconds:g} s")

    def emit(self, text: str) -> str:
        """Count `text` as output."""
        self.tick()
        self._characters_left -= len(text)
        if self._characters_left < 0:
            raise LimitReachedError(f"its output has more than {self._characters:,} characters")
        return text

    def bounded(self, value: Any) -> Any:
        """`value` itself, if it is not too large. Nested values count as often as they would be written out."""
        if isinstance(value, str):
            self.check_size(len(value))
        elif isinstance(value, int):
            if value.bit_length() > LONGEST_INTEGER_BITS:
                raise LimitReachedError(f"a number has more than {LONGEST_INTEGER_BITS} bits")
        elif _members(value) is not None:
            self._check_weight(value)
        return value

    def check_size(self, characters: int) -> None:
        if characters > self._characters:
            raise LimitReachedError(f"a value has more than {self._characters:,} characters")

    def _check_weight(self, value: Any) -> None:
        weight = 0
        waiting = [iter((value,))]
        while waiting:
            for item in waiting[-1]:
                weight += WEIGHT_OF_AN_ITEM + (len(item) if isinstance(item, str) else 0)
                self.check_size(weight)
                members = _members(item)
                if members is not None:
                    self.tick()
                    waiting.append(iter(members))
                    break
            else:
                waiting.pop()

    def checked_texts(self, values: Iterable[Any], *, separator: int) -> list[str]:
        """`values` as strings that fit into one, with `separator` characters between them."""
        texts, characters = [], 0
        for value in values:
            self.tick()
            texts.append(str(value))
            characters += len(texts[-1]) + separator
            self.check_size(characters)
        return texts

    # What would make something large, or take long, in a single step is checked before it.

    def check_product(self, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            self.check_bits(left.bit_length() + right.bit_length())
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, (str, list, tuple)) and isinstance(count, int):
                width = 1 if isinstance(sequence, str) else WEIGHT_OF_AN_ITEM
                self.check_size(len(sequence) * width * max(count, 0))

    def check_bits(self, bits: int) -> None:
        if bits > 2 * LONGEST_INTEGER_BITS:
            raise LimitReachedError(f"a number has more than {LONGEST_INTEGER_BITS} bits")

    def check_percent_format(self, text: str, values: Any) -> None:
        self._check_format(text, WIDE_PERCENT_FIELD, text.count("%"), values)

    def check_brace_format(self, text: str, values: Any) -> None:
        self._check_format(text, WIDE_BRACE_FIELD, text.count("{"), values)

    def _check_format(self, text: str, forbidden: re.Pattern[str], fields: int, values: Any) -> None:
        if len(text) > LONGEST_FORMAT:
            raise LimitReachedError(f"a format has more than {LONGEST_FORMAT} characters")
        if forbidden.search(text):
            raise LimitReachedError(f"the format {text[:80]!r} has a field that is too wide, or computed")
        if isinstance(values, Mapping):
            values = tuple(values.values())
        items = values if isinstance(values, tuple) else (values,)
        longest = max((len(str(value)) for value in items), default=0)
        self.check_size(len(text) + fields * (longest + WIDEST_FIELD))

    def check_comparisons(self, text: str, other: str) -> None:
        if len(text) * len(other) > MOST_COMPARISONS:
            raise LimitReachedError("two strings are too long to be searched for one another")


def _members(value: object) -> Iterable[Any] | None:
    """What writing `value` would write, too; None when it is no collection."""
    if isinstance(value, Mapping):
        return chain(value.keys(), value.values())
    return value if isinstance(value, (list, tuple, KeysView, ValuesView, ItemsView)) else None
