"""The three standard streams, where they are not what a program hopes for."""

from __future__ import annotations

import errno
import locale
import os
import sys
from contextlib import suppress

from aipc.errors import UsageError


def never_fail_on_a_character() -> None:
    """Have stdout and stderr take every character.

    A pipe or file gets UTF-8, whatever the system's old encoding is (cp1252 on most Windows PCs): what reads it is a
    program, and a `?` would be lost for good. A terminal reads its own encoding, and shows `?` for what that lacks.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


def piped_text() -> str:
    """All of stdin when it is no terminal, without the line breaks at its ends.

    UTF-8, or else the system's own encoding. Raises `UsageError` for bytes that are neither.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    data = sys.stdin.buffer.read()
    for encoding in ("utf-8-sig", locale.getpreferredencoding(False)):
        with suppress(UnicodeDecodeError):
            return data.decode(encoding).replace("\r\n", "\n").strip("\n")
    raise UsageError("stdin is not text", expected="UTF-8", try_next="iconv -t UTF-8 FILE | aipc run …")


def reader_left(error: OSError) -> bool:
    """Whether stdout's reader has gone, as `head` does; Windows calls that an invalid argument, of no file."""
    if isinstance(error, BrokenPipeError):
        return True
    return sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None


def forget_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail on it at its end.

    From Python's own note on SIGPIPE: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    with suppress(OSError, ValueError, AttributeError):  # a stream that is no file has nothing to forget
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
