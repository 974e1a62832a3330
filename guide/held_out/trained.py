"""Whether a held-out question is among all the wordings that the text can make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from guide.dialogues import Library
from guide.grammar import normalised, pattern


def trained_wordings(library: Library, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The texts that a section can ask for word for word, with that section's name.

    All expansions are looked at, not only those that one seed makes; upper case, punctuation and the words of
    courtesy before and behind do not count.
    """
    before, after = (_one_of(library.pleasantries[kind]) for kind in ("before", "after"))
    courtesy = re.compile(rf"(?:{before} )?(.*?)(?: {after})?")
    cores = {text: {normalised(text), courtesy.fullmatch(normalised(text))[1]} for text in texts}  # type: ignore[index]
    for section in library.sections:
        for line in section.asks + section.follow_ups:
            expression = re.compile(f" *{pattern(line, library.words)} *")
            for text, forms in cores.items():
                if any(expression.fullmatch(form) for form in forms):
                    yield text, section.name


def _one_of(phrases: Iterable[str]) -> str:
    words = sorted({normalised(phrase) for phrase in phrases} - {""}, key=len, reverse=True)
    return f"(?:{'|'.join(map(re.escape, words))})"
