from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from aipc.devices import NotAvailable
from aipc.monitor import bandwidth

PCS = Path(__file__).parents[1] / "devices/pcs"


def test_the_measurement_is_plausible_and_short() -> None:
    started = time.perf_counter()
    measured = bandwidth.read_bandwidth()
    assert time.perf_counter() - started < 5  # a few tenths of a second on a quiet PC
    assert 1e9 < measured < 4e12


def test_reading_is_about_as_fast_as_one_thread_sums() -> None:
    buffer = np.ones(16 * 2**20, np.float32)
    before = time.perf_counter()
    buffer.sum()
    one_thread = buffer.nbytes / (time.perf_counter() - before)
    assert bandwidth.read_bandwidth(total_bytes=2 * buffer.nbytes) > 0.3 * one_thread


def test_a_measured_pc_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_file = tmp_path / "new" / "bandwidth.json"
    monkeypatch.setattr(bandwidth, "read_bandwidth", lambda: 5e10)
    assert bandwidth.measured_bandwidth(cache_file) == 5e10
    monkeypatch.setattr(bandwidth, "read_bandwidth", lambda: 1.0)
    assert bandwidth.measured_bandwidth(cache_file) == 5e10
    monkeypatch.setattr(bandwidth, "this_pc", lambda: "another PC")
    assert bandwidth.measured_bandwidth(cache_file) == 1.0
    assert len(json.loads(cache_file.read_text(encoding="utf-8"))) == 2


@pytest.mark.parametrize("text", ["[" * 100_000, "", "[]", '{"PC": "fast"}', '{"PC": 0}', '{"PC": true}', "\x00"])
def test_a_broken_cache_file_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    cache_file = tmp_path / "bandwidth.json"
    cache_file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(bandwidth, "this_pc", lambda: "PC")
    monkeypatch.setattr(bandwidth, "read_bandwidth", lambda: 7e9)
    assert bandwidth.measured_bandwidth(cache_file) == 7e9


def test_a_place_that_cannot_be_written_does_not_hurt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setattr(bandwidth, "read_bandwidth", lambda: 7e9)
    assert bandwidth.measured_bandwidth(tmp_path / "file" / "bandwidth.json") == 7e9


def test_too_little_memory_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory() -> float:
        raise MemoryError

    monkeypatch.setattr(bandwidth, "read_bandwidth", no_memory)
    assert isinstance(bandwidth.measured_bandwidth(tmp_path / "bandwidth.json"), NotAvailable)


def test_the_buffers_are_far_larger_than_the_last_level_cache() -> None:
    assert bandwidth.last_level_cache_bytes(PCS / "core-ultra-7-155h") == 24 * 2**20  # one cache, listed by three CPUs
    assert bandwidth.buffer_bytes(PCS / "core-ultra-7-155h") == 96 * 2**20


def test_without_a_known_cache_the_usual_size_is_taken(tmp_path: Path) -> None:
    assert isinstance(bandwidth.last_level_cache_bytes(tmp_path), NotAvailable)
    assert bandwidth.buffer_bytes(tmp_path) == 128 * 2**20


def test_several_caches_add_up_to_a_bound(tmp_path: Path) -> None:
    for cpu in range(8):
        index = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cache/index3"
        index.mkdir(parents=True)
        (index / "size").write_text("98304K\n", encoding="utf-8")
        (index / "shared_cpu_list").write_text(f"{cpu // 4 * 4}-{cpu // 4 * 4 + 3}\n", encoding="utf-8")
    assert bandwidth.last_level_cache_bytes(tmp_path) == 192 * 2**20
    assert bandwidth.buffer_bytes(tmp_path) == 512 * 2**20
