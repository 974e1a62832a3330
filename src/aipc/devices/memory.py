"""How much memory this PC has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aipc.devices.known import NotAvailable


@dataclass(frozen=True)
class Memory:
    """`available_bytes` is what a program can take without swapping, as the operating system estimates it."""

    total_bytes: int | NotAvailable
    available_bytes: int | NotAvailable


def find_memory(root: Path = Path("/")) -> Memory:
    """This PC's memory by psutil, or a recorded one's by proc/meminfo under `root`."""
    if root == Path("/"):
        import psutil

        memory = psutil.virtual_memory()
        return Memory(total_bytes=memory.total, available_bytes=memory.available)
    return _recorded(root / "proc/meminfo")


def _recorded(path: Path) -> Memory:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = NotAvailable(f"{path}: {error.strerror}")
        return Memory(total_bytes=reason, available_bytes=reason)
    return parse_meminfo(text)


def parse_meminfo(text: str) -> Memory:
    """The text of Linux' /proc/meminfo."""
    return Memory(total_bytes=_kibibytes(text, "MemTotal"), available_bytes=_kibibytes(text, "MemAvailable"))


def _kibibytes(text: str, key: str) -> int | NotAvailable:
    found = re.search(rf"^{key}:\s+(\d{{1,15}}) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else NotAvailable(f"/proc/meminfo has no {key}")
