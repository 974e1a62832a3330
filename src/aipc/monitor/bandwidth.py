"""How fast this PC reads its memory: the limit of a language model's decode speed.

Method: each of as many threads as the PC has, at most 16, reads a float32 buffer of its own from end to end by
`numpy.dot(buffer, buffer)`, which runs without Python's lock and was the fastest of NumPy's reductions. The
buffers together are four times the last-level cache, between 64 MiB and 512 MiB, so that a pass finds next to nothing
of the pass before it in the cache. The result is the best pass, as everything else that runs can only slow one down.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from aipc.devices.known import NotAvailable
from aipc.devices.memory import find_memory
from aipc.devices.processor import find_processor

MEBIBYTE = 2**20
SMALLEST_BYTES, LARGEST_BYTES = 64 * MEBIBYTE, 512 * MEBIBYTE
USUAL_CACHE_BYTES = 32 * MEBIBYTE  # where the system does not say how large its last-level cache is
MOST_THREADS = 16
PASSES, PASSES_S = 3, 0.1  # at least so many passes, and until so much time is gone
CACHES = Path("sys/devices/system/cpu")


def measured_bandwidth(cache_file: Path) -> float | NotAvailable:
    """Bytes per second that all cores together read, from `cache_file` when this PC is in it, measured otherwise.

    A measurement takes less than half a second and up to 512 MiB of memory, so read this process' peak memory before
    it. The file is JSON, one entry per CPU model and memory size; one that cannot be read or written is as good as
    none.
    """
    key = this_pc()
    entries = _read(cache_file)
    found = entries.get(key)
    if isinstance(found, (int, float)) and not isinstance(found, bool) and found > 0:
        return float(found)
    try:
        bandwidth = read_bandwidth()
    except MemoryError:
        return NotAvailable("not enough memory to measure the bandwidth")
    _write(cache_file, {**entries, key: round(bandwidth)})
    return bandwidth


def this_pc() -> str:
    """CPU model and memory size in whole GiB, as the size in bytes changes with firmware and kernel."""
    total = find_memory().total_bytes
    size = f"{round(total / 2**30)} GiB" if isinstance(total, int) else str(total)
    return f"{find_processor().name}, {size}"


def read_bandwidth(*, total_bytes: int | None = None, threads: int | None = None) -> float:
    """Measure now; bytes per second."""
    count = threads or min(os.cpu_count() or 1, MOST_THREADS)
    each_bytes = (total_bytes or buffer_bytes()) // count
    with ThreadPoolExecutor(count) as pool:
        buffers = list(pool.map(_filled, [each_bytes] * count))
        return _best_pass(pool, buffers)


def buffer_bytes(root: Path = Path("/")) -> int:
    """Size of all buffers together."""
    cache = last_level_cache_bytes(root)
    wanted = 4 * (USUAL_CACHE_BYTES if isinstance(cache, NotAvailable) else cache)
    return min(max(wanted, SMALLEST_BYTES), LARGEST_BYTES)


def last_level_cache_bytes(root: Path = Path("/")) -> int | NotAvailable:
    """The third-level caches together, from Linux' sysfs under `root`; large CPUs have one per group of cores."""
    sizes = {}
    for index in (root / CACHES).glob("cpu*/cache/index3"):
        try:
            size, shared_by = (
                (index / name).read_text(encoding="utf-8").strip() for name in ("size", "shared_cpu_list")
            )
        except OSError:
            continue
        if size.endswith("K") and size[:-1].isdigit():
            sizes[shared_by] = int(size[:-1]) * 1024
    return sum(sizes.values()) or NotAvailable("the system does not say how large its third-level cache is")


def _filled(size_bytes: int) -> Any:
    import numpy

    return numpy.ones(size_bytes // 4, dtype=numpy.float32)  # ones: the pages of zeros may all be one page


def _best_pass(pool: ThreadPoolExecutor, buffers: Sequence[Any]) -> float:
    started = time.perf_counter()
    rates: list[float] = []
    while len(rates) < PASSES or time.perf_counter() - started < PASSES_S:
        before = time.perf_counter()
        list(pool.map(_read_through, buffers))
        rates.append(sum(buffer.nbytes for buffer in buffers) / (time.perf_counter() - before))
    return max(rates)


def _read_through(buffer: Any) -> None:
    buffer.dot(buffer)


def _read(cache_file: Path) -> dict[str, Any]:
    try:
        entries = json.loads(cache_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _write(cache_file: Path, entries: dict[str, Any]) -> None:
    part = cache_file.with_name(f"{cache_file.name}.{os.getpid()}.part")
    try:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        part.replace(cache_file)
    except OSError:  # a read-only place: it is measured again the next time
        with suppress(OSError):
            part.unlink()
