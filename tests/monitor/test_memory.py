from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from aipc.devices import NotAvailable
from aipc.monitor.memory import peak_resident_bytes

PEAK = "from aipc.monitor.memory import peak_resident_bytes as peak; print(peak())"


def test_the_peak_is_at_least_what_is_resident_now() -> None:
    peak = peak_resident_bytes()
    assert isinstance(peak, int)
    assert peak >= psutil.Process().memory_info().rss - 2**20


def test_the_peak_stays_after_the_memory_is_freed() -> None:
    code = f"b = bytearray(200 * 2**20); b[::4096] = b'x' * len(b[::4096]); del b; {PEAK}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) >= 200 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="getrusage hands the parent's peak down on Linux")
def test_the_peak_of_the_program_that_started_this_one_does_not_count() -> None:
    child = f"[sys.executable, '-c', {PEAK!r}]"
    large = "b = bytearray(300 * 2**20); b[::4096] = b'x' * len(b[::4096])"
    code = f"import subprocess, sys; {large}; subprocess.run({child})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 150 * 2**20


def test_a_recorded_status_is_read_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text(
        "Name:\taipc\nVmPeak:\t 9000 kB\nVmHWM:\t    4096 kB\n", encoding="utf-8"
    )
    assert peak_resident_bytes(system="linux", root=tmp_path) == 4096 * 1024


@pytest.mark.parametrize("text", [None, "Name:\taipc\n"])
def test_a_missing_counter_is_not_available_with_its_reason(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/status").write_text(text, encoding="utf-8")
    found = peak_resident_bytes(system="linux", root=tmp_path)
    assert isinstance(found, NotAvailable)
    assert "status" in found.reason


def test_an_unknown_system_is_not_available() -> None:
    assert isinstance(peak_resident_bytes(system="plan9"), NotAvailable)


def test_windows_reads_the_peak_working_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counters:
        peak_wset = 123456

    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: Counters())
    assert peak_resident_bytes(system="win32") == 123456
