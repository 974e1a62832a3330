"""Run a command as a whole process, and account for its time and memory, children included."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

POLL_S = 0.01
CHILDREN_POLL_S = 0.2  # finding them reads every process of the machine, which would take its share of a core


@dataclass(frozen=True)
class Run:
    """One finished process tree.

    `peak_rss_bytes` is the resident set of the largest single process; `peak_tree_rss_bytes` is the
    largest sum over the tree, in which memory that parent and child share counts twice. Pages of a mapped
    file count in both, although the system takes them back at will; `peak_private_bytes`, a sum too,
    leaves them out. CPU time is the system's own account where it keeps one for trees (`wait4`), else it
    is polled.
    """

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    peak_tree_rss_bytes: int
    peak_private_bytes: int
    load_average_before: float | None
    output_tail: str


@dataclass
class _Account:
    """What polling has seen of a tree, and the CPU seconds that the system told at its end."""

    peak_rss_bytes: int = 0
    peak_tree_rss_bytes: int = 0
    peak_private_bytes: int = 0
    polled_cpu_s: dict[int, float] = field(default_factory=dict)
    cpu_s: float | None = None

    def take(self, tree: Sequence[psutil.Process]) -> None:
        rss = private = 0
        for process in tree:
            try:
                memory, times = process.memory_info(), process.cpu_times()
                high_water = _high_water_bytes(process, memory)
            except (psutil.Error, OSError):
                continue  # it ended between the listing and the reading
            rss += memory.rss
            private += _private_bytes(memory)
            self.polled_cpu_s[process.pid] = times.user + times.system
            self.peak_rss_bytes = max(self.peak_rss_bytes, high_water, memory.rss)
        self.peak_tree_rss_bytes = max(self.peak_tree_rss_bytes, self.peak_rss_bytes, rss)
        self.peak_private_bytes = max(self.peak_private_bytes, private)


def run(command: Sequence[str], *, log: Path) -> Run:
    """Run `command` to its end with both outputs in `log`; a failure is in `exit_code`, not an exception."""
    load = psutil.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with log.open("wb") as output:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            account = _watch(child)
        finally:
            if child.returncode is None:
                child.kill()
        wall_s = time.perf_counter() - start
    return Run(
        exit_code=child.returncode,
        wall_s=round(wall_s, 3),
        cpu_s=round(sum(account.polled_cpu_s.values()) if account.cpu_s is None else account.cpu_s, 3),
        peak_rss_bytes=account.peak_rss_bytes,
        peak_tree_rss_bytes=account.peak_tree_rss_bytes,
        peak_private_bytes=account.peak_private_bytes,
        load_average_before=load,
        output_tail=log.read_text(encoding="utf-8", errors="replace")[-2000:],
    )


def _watch(child: subprocess.Popen[bytes]) -> _Account:
    """Poll until the child ends."""
    account = _Account()
    root = psutil.Process(child.pid)
    tree, listed = [root], time.perf_counter()
    while True:
        if time.perf_counter() - listed > CHILDREN_POLL_S:
            tree, listed = _tree(root), time.perf_counter()
        account.take(tree)
        if _ended(child, account):
            return account
        time.sleep(POLL_S)


def _ended(child: subprocess.Popen[bytes], account: _Account) -> bool:
    """Reap the child if it has ended, with the system's account of it where there is one."""
    if not hasattr(os, "wait4"):
        return child.poll() is not None
    pid, status, usage = os.wait4(child.pid, os.WNOHANG)
    if not pid:
        return False
    child.returncode = os.waitstatus_to_exitcode(status)
    account.cpu_s = usage.ru_utime + usage.ru_stime
    return True


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return [root]


def _private_bytes(memory: object) -> int:
    """Return the memory that is the process's own: Windows calls it private; Linux tells what is shared."""
    if hasattr(memory, "private"):
        return int(memory.private)
    return int(memory.rss - getattr(memory, "shared", 0))  # type: ignore[attr-defined]


def _high_water_bytes(process: psutil.Process, memory: object) -> int:
    """Return the largest resident set so far, as the system kept it; 0 where it does not tell.

    Not `ru_maxrss`: on Linux that starts at what this process had when it started the child.
    """
    if hasattr(memory, "peak_wset"):
        return int(memory.peak_wset)
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return 0
    lines = status.read_text(encoding="utf-8").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
