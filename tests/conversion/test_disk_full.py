"""A disk without room: refused before any work, and when it fills up meanwhile, nothing is left."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aipc.conversion import convert
from aipc.errors import DiskSpaceError
from aipc.graph import data_file
from aipc.store import verify


def left_in(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()} - {".out.lock"}


def test_too_little_room_is_refused_before_any_byte_with_needed_and_free(
    tiny_checkpoint_dir: Path, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=123_456))
    monkeypatch.setattr("aipc.conversion.write_data", lambda *values, **options: pytest.fail("work began"))
    with pytest.raises(DiskSpaceError, match="123,456 bytes free") as error:
        convert(tiny_checkpoint_dir, tmp_path / "models" / "out", weights="int8")
    assert left_in(tmp_path / "models") == set()
    needed_bytes = int(re.search(r"expected ([\d,]+) bytes free", str(error.value))[1].replace(",", ""))
    written_bytes = sum(file.stat().st_size for file in tiny_model_dir.iterdir())
    assert written_bytes <= needed_bytes <= written_bytes + 65 * 1024 * 1024


@pytest.mark.parametrize("after_bytes", [0, 100_000, 400_000])
def test_a_disk_that_fills_up_under_the_weights_leaves_nothing(
    tiny_checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_bytes: int
) -> None:
    real_write = data_file._Writer.write

    def write(self: Any, data: bytes | memoryview) -> None:
        if self._position + len(memoryview(data)) > after_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_write(self, data)

    monkeypatch.setattr(data_file._Writer, "write", write)
    with pytest.raises(DiskSpaceError, match="too full"):
        convert(tiny_checkpoint_dir, tmp_path / "out", weights="int8")
    assert left_in(tmp_path) == set()


def test_a_file_that_takes_only_a_part_of_each_write_gets_every_byte(
    tiny_checkpoint_dir: Path, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SmallSteps(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(memoryview(data)[:1000])

    real_open = Path.open

    def small_steps(path: Path, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        unbuffered = path.name == "openvino_model.bin" and "w" in mode and buffering == 0
        return SmallSteps(path, "wb") if unbuffered else real_open(path, mode, buffering, **options)

    monkeypatch.setattr(Path, "open", small_steps)
    out = convert(tiny_checkpoint_dir, tmp_path / "out", weights="int8").path
    assert (out / "openvino_model.bin").read_bytes() == (tiny_model_dir / "openvino_model.bin").read_bytes()


FILL_DISKS = """
import subprocess, sys
from pathlib import Path
import aipc.store.atomic
from aipc.conversion import convert
from aipc.errors import DiskSpaceError
from aipc.store import verify

checkpoint, disk = map(Path, sys.argv[1:3])
aipc.store.atomic.refuse_full_disk = lambda *values: None  # as if others took the room afterwards
for size in sys.argv[3:]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=True)
    try:
        verify(convert(checkpoint, disk / "out", weights="int8").path)
        outcome = "whole"
    except DiskSpaceError:
        outcome = ",".join(sorted(entry.name for entry in disk.iterdir()))
    print(size, outcome)
    subprocess.run(["umount", disk], check=True)
"""
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


def test_real_disks_that_fill_up_at_any_file_leave_nothing(
    tiny_checkpoint_dir: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    if not shutil.which("unshare") or subprocess.run([*OWN_MOUNTS, "true"], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    (tmp_path / "disk").mkdir()
    pages = sum(-(-file.stat().st_size // 4096) for file in tiny_model_dir.iterdir())
    sizes = [4096 * count for count in (4, pages // 2, *range(pages - 60, pages, 6), pages + 40)]
    command = [*OWN_MOUNTS, sys.executable, "-c", FILL_DISKS, tiny_checkpoint_dir, tmp_path / "disk", *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()]
    assert outcomes == [".out.lock"] * (len(sizes) - 1) + ["whole"]


def test_the_rerun_on_a_disk_with_room_finishes(
    tiny_checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full, pytest.raises(DiskSpaceError):
        full.setattr("aipc.graph.data_file._Writer.write", lambda *values: _raise_full())
        convert(tiny_checkpoint_dir, tmp_path / "out")
    verify(convert(tiny_checkpoint_dir, tmp_path / "out").path)


def _raise_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
