"""The most memory this process has had resident so far."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from aipc.devices.known import NotAvailable

ROOT = Path("/")


def peak_resident_bytes(*, system: str = sys.platform, root: Path = ROOT) -> int | NotAvailable:
    """The peak resident set of this process, in bytes, since it started.

    Linux: VmHWM of /proc/self/status. It belongs to this program alone, where getrusage's ru_maxrss is handed down
    through exec and so starts at the size of whatever program started this one. macOS: ru_maxrss, which is in bytes
    there. Windows: the process' PeakWorkingSetSize. Memory-mapped weights count once they have been read.
    """
    if system == "linux":
        return _linux(root / "proc/self/status")
    if system == "darwin":
        return _macos()
    if system == "win32":
        return _windows()
    return NotAvailable(f"no counter is known for {system}")


def _linux(path: Path) -> int | NotAvailable:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        return NotAvailable(f"{path}: {error.strerror}")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else NotAvailable(f"{path} has no VmHWM")


def _macos() -> int | NotAvailable:
    try:
        resource: Any = import_module("resource")  # Windows has none, nor have its type stubs
    except ImportError:
        return NotAvailable("this Python has no resource module")
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _windows() -> int | NotAvailable:
    import psutil

    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)
    return int(peak) if peak is not None else NotAvailable("psutil gives no peak_wset here")
