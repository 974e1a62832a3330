"""The one seam through which a PC is looked at: its files, its commands, and a few facts of this process.

Everything that the doctor knows comes through a `Machine`, so a folder of small files stands in for a PC that is not
here. Paths are the ones that the PC itself has, such as /sys/bus/pci/devices.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from io import RawIOBase
from pathlib import Path
from typing import Protocol

from aipc.devices.known import NotAvailable

LONGEST_FILE_BYTES = 4 << 20  # pci.ids has 1.5 MB; nothing that is read here is longer
ARCHITECTURES = {"amd64": "x86-64", "x86_64": "x86-64", "aarch64": "arm64"}


class Machine(Protocol):
    """A PC. No method raises: what cannot be read is `NotAvailable` with its reason, and what is not there is empty."""

    @property
    def system(self) -> str:
        """Linux, Windows or Darwin."""

    @property
    def architecture(self) -> str:
        """x86-64, arm64, or the system's own word."""

    @property
    def environment(self) -> Mapping[str, str]: ...

    def read(self, path: str) -> str | NotAvailable:
        """The text of a file."""

    def list(self, path: str) -> tuple[str, ...]:
        """The names in a directory, sorted; none when there is no such directory."""

    def readable(self, path: str) -> bool: ...

    def writable(self, path: str) -> bool: ...

    def run(self, *command: str, timeout_s: float = 5.0) -> str | NotAvailable:
        """What a command writes to stdout; `NotAvailable` when it is not there, fails, or takes too long."""

    def package(self, name: str) -> str | None:
        """The version of an installed Python package."""


class ThisPc:
    """The PC that this process runs on."""

    @property
    def system(self) -> str:
        return platform.system()

    @property
    def architecture(self) -> str:
        machine = platform.machine().lower()
        return ARCHITECTURES.get(machine, machine)

    @property
    def environment(self) -> Mapping[str, str]:
        return os.environ

    def read(self, path: str) -> str | NotAvailable:
        try:
            if not Path(path).is_file():  # a pipe or a device could make a reader wait for ever
                return NotAvailable(f"{path} is not there")
            with Path(path).open("rb", buffering=0) as file:
                return _content(file).decode("utf-8", "replace")
        except OSError as error:
            return NotAvailable(f"{path}: {error.strerror}")

    def list(self, path: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(entry.name for entry in Path(path).iterdir()))
        except OSError:
            return ()

    def readable(self, path: str) -> bool:
        return os.access(path, os.R_OK)

    def writable(self, path: str) -> bool:
        return os.access(path, os.W_OK)

    def run(self, *command: str, timeout_s: float = 5.0) -> str | NotAvailable:
        return run(command, timeout_s)

    def package(self, name: str) -> str | None:
        try:
            return metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError, OSError, KeyError):  # a broken installation has no version
            return None


def _content(file: RawIOBase) -> bytes:
    """In pieces: the kernel refuses to read a file of /proc/sys into a buffer of megabytes."""
    content = b""
    while len(content) < LONGEST_FILE_BYTES and (piece := file.read(1 << 16)):
        content += piece
    return content


def run(command: Sequence[str], timeout_s: float) -> str | NotAvailable:
    """As `Machine.run`. The command gets no stdin, and is killed when its time is over."""
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows' own; else a console flashes up
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            creationflags=flags,
        )
    except subprocess.TimeoutExpired:
        return NotAvailable(f"{name} gave no answer within {timeout_s:g} s")
    except (OSError, ValueError) as error:
        return NotAvailable(f"{name} cannot be run: {getattr(error, 'strerror', None) or error}")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return NotAvailable(f"{name} ended with {done.returncode}" + (f": {said[-1][:200]}" if said else ""))
    return done.stdout.decode("utf-8", "replace")
