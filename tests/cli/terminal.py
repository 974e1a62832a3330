"""A program on a pseudo-terminal, typed at and read."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType


class Terminal:
    """Runs a command with stdin and stderr, and stdout unless `stdout` says otherwise, on a terminal of its own.

    `seen` is all that the terminal has shown. POSIX alone; Ctrl-D is `type("\\x04")`.
    """

    def __init__(self, words: Sequence[object], *, stdout: int | None = None, columns: int = 110) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._own, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.seen = ""
        self._waited_to = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aipc", *map(str, words)],
            stdin=other,
            stdout=other if stdout is None else stdout,
            stderr=other,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it, and it alone
        )
        os.close(other)

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def press_ctrl_c(self) -> None:
        """As late as a person would: readline loses a signal in the instant after it shows its prompt."""
        time.sleep(0.2)
        self.type("\x03")

    def wait_for(self, text: str, *, seconds: float = 10.0) -> None:
        """Read until `text` is shown behind what was waited for before."""
        begun = time.monotonic()
        while (found := self.seen.find(text, self._waited_to)) < 0:
            left_s = begun + seconds - time.monotonic()
            if left_s <= 0 or not self._read(left_s):
                raise AssertionError(f"{text!r} did not come; the terminal shows:\n{self.seen}")
        self._waited_to = found + len(text)

    def end(self, *, seconds: float = 10.0) -> int:
        """Read to the program's end; return its exit code."""
        while self._read(seconds):
            pass
        return self.process.wait(seconds)

    def _read(self, seconds: float) -> bool:
        """False when nothing came in time or the program has ended."""
        if not select.select([self._own], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._own, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            return False
        self.seen += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._own)
