"""Paths as words of a command that a person can paste into a shell."""

from __future__ import annotations

import os
import re
import shlex

_PLAIN = re.compile(r"[\w@%+=:,./-]+")
_PLAIN_ON_WINDOWS = re.compile(r"[\w@+=:./\\-]+")
_NEEDS_SINGLE_QUOTES = re.compile(r'["$`\\!]')  # these mean something between double quotes, too


def quoted(word: object, *, windows: bool = os.name == "nt") -> str:
    """Return `word`, in double quotes where it needs any: POSIX shells, cmd and PowerShell understand these.

    Where double quotes do not help a POSIX shell, in single quotes. What no quotes keep as it is on Windows (`%NAME%`
    in cmd, `$` in PowerShell) is left as it is.
    """
    text = str(word)
    if (_PLAIN_ON_WINDOWS if windows else _PLAIN).fullmatch(text):
        return text
    if not windows and _NEEDS_SINGLE_QUOTES.search(text):
        return shlex.quote(text)
    return f'"{text}"'
