"""This PC's measurements: what is kept, what counts, and what a damaged file or a second writer does to it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from aipc.errors import StoreError
from aipc.monitor import measurements
from aipc.monitor.measurements import KEPT_OF_EACH, Measurement, decode_speeds, place_of, read, record

CPU = Measurement(
    model="a model",
    model_name="phi",
    recipe="int4",
    pc="a PC",
    engine="openvino",
    engine_version="2026.4.1.0",
    device="CPU",
    device_name="a CPU",
    driver=None,
    prompt_tokens=20,
    generated_tokens=50,
    decode_tokens_per_s=10.0,
)
GPU = replace(CPU, device="GPU.0", device_name="a GPU", driver="25.1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store" / "measurements.json"


def speeds(file: Path) -> dict[str, float]:
    """By device, of the one model on the one PC."""
    found = decode_speeds(read(file), model="a model", pc="a PC")
    return {device: speed for (_, device), speed in found.items()}


def with_speed(measurement: Measurement, speed: float, **changes: Any) -> Measurement:
    return replace(measurement, decode_tokens_per_s=speed, **changes)


def test_what_was_recorded_is_read_with_its_time(file: Path) -> None:
    record(file, CPU)
    record(file, GPU)
    assert [replace(entry, time="") for entry in read(file)] == [CPU, GPU]
    assert all(entry.time.endswith("+00:00") for entry in read(file))


def test_a_models_name_may_hold_what_is_no_unicode(file: Path) -> None:
    record(file, replace(CPU, model_name="mod\udce8le é"))
    assert [entry.model_name for entry in read(file)] == ["mod\udce8le é"]


def test_the_median_of_the_newest_counts(file: Path) -> None:
    for speed in (1000.0, 1000.0, 10.0, 11.0, 50.0, 12.0, 13.0):
        record(file, with_speed(CPU, speed))
    assert len(read(file)) == KEPT_OF_EACH
    assert speeds(file) == {"cpu": 12.0}


def test_the_first_of_a_kind_is_the_same_with_and_without_its_number(file: Path) -> None:
    record(file, GPU)
    record(file, replace(GPU, device="GPU.1"))
    assert speeds(file).keys() == {"gpu", "gpu.1"}
    assert place_of("openvino", "GPU.0") == place_of("openvino", "gpu")


@pytest.mark.parametrize("change", [{"engine_version": "2027.1"}, {"driver": "26.0"}, {"device_name": "another GPU"}])
def test_a_new_version_driver_or_card_begins_anew(file: Path, change: dict[str, str]) -> None:
    for _ in range(3):
        record(file, with_speed(GPU, 10.0))
    record(file, with_speed(GPU, 30.0, **change))
    assert speeds(file) == {"gpu": 30.0}


def test_a_benchmark_counts_instead_of_answers(file: Path) -> None:
    record(file, with_speed(CPU, 10.0, source="bench", prefill_tokens_per_s=200.0))
    for _ in range(KEPT_OF_EACH + 1):
        record(file, with_speed(CPU, 30.0))
    assert speeds(file) == {"cpu": 10.0}


def test_another_model_and_another_pc_do_not_count(file: Path) -> None:
    for change in ({"model": "another"}, {"pc": "another"}):
        record(file, replace(CPU, **change))
    assert speeds(file) == {}


def test_the_file_does_not_grow_without_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "KEPT", 4)
    for number in range(6):
        record(file, replace(CPU, model=f"model {number}"))
    assert [entry.model for entry in read(file)] == ["model 2", "model 3", "model 4", "model 5"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"format": "2", "measurements": []}', b'{"format": 1}', b"null"],
)
def test_a_damaged_file_counts_as_none_and_is_replaced(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    assert read(file) == []
    record(file, CPU)
    assert speeds(file) == {"cpu": 10.0}


@pytest.mark.parametrize("content", ['{"format": 2.0}', '{"format": 1, "measurements": []}' + " " * (5 << 20)])
def test_a_file_that_this_aipc_never_writes_stays(file: Path, content: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(content, encoding="utf-8")
    notes: list[str] = []
    record(file, CPU, note=notes.append)
    assert file.read_text(encoding="utf-8") == content
    assert len(notes) == 1 and "not kept" in notes[0]


def test_what_a_newer_aipc_wrote_is_not_read_and_stays(file: Path) -> None:
    file.parent.mkdir()
    newer = json.dumps({"format": 2, "measurements": [asdict(CPU)]})
    file.write_text(newer, encoding="utf-8")
    with pytest.raises(StoreError, match=r"measurements\.json was written by a newer aipc(.|\n)*try: pip install"):
        read(file)
    notes: list[str] = []
    record(file, CPU, note=notes.append)
    assert file.read_text(encoding="utf-8") == newer
    assert len(notes) == 1 and "not kept" in notes[0] and "a newer aipc" in notes[0]


@pytest.mark.parametrize(
    "damage",
    [
        {"decode_tokens_per_s": "fast"},
        {"decode_tokens_per_s": True},
        {"decode_tokens_per_s": 0},
        {"decode_tokens_per_s": float("nan")},
        {"decode_tokens_per_s": float("inf")},
        {"source": "rumour"},
        {"device": None},
        {"unknown": 1},
    ],
)
def test_a_damaged_entry_leaves_the_others(file: Path, damage: dict[str, object]) -> None:
    file.parent.mkdir()
    entries = [{**asdict(GPU), **damage}, 5, asdict(CPU)]
    file.write_text(json.dumps({"format": 1, "measurements": entries}), encoding="utf-8")
    assert read(file) == [CPU]


def test_two_processes_lose_nothing(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aipc.monitor.measurements import Measurement, record\n"
        f"for number in range(20): record(Path(sys.argv[1]), Measurement(**{{**{asdict(CPU)!r}, 'model':"
        " f'{sys.argv[2]} {number}'}))"
    )
    command = [sys.executable, "-c", code, str(file)]
    writers = [subprocess.Popen([*command, name]) for name in ("one", "two")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert {entry.model for entry in read(file)} == {
        f"{name} {number}" for name in ("one", "two") for number in range(20)
    }
    assert {path.name for path in file.parent.iterdir()} <= {file.name, f".{file.name}.lock"}


def test_a_place_that_cannot_be_written_keeps_nothing(read_only_directory: Path) -> None:
    record(read_only_directory / "measurements.json", CPU)
    assert read(read_only_directory / "measurements.json") == []
