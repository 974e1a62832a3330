from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from aipc.store import FileHasher, Following
from aipc.store import following as module

PIECES = [os.urandom(5000 + 7 * index) for index in range(60)]
WHOLE = b"".join(PIECES)


def write(path: Path, hasher: FileHasher) -> None:
    with path.open("wb", buffering=0) as file, Following(file, hasher) as following:
        for piece in PIECES:
            file.write(piece)
            following.wrote(memoryview(piece))


def test_all_bytes_are_hashed_in_order(tmp_path: Path) -> None:
    hasher = FileHasher(len(WHOLE))
    write(tmp_path / "file", hasher)
    assert hasher.result().sha256 == hashlib.sha256(WHOLE).hexdigest()
    assert threading.active_count() == 1 or all("hash" not in thread.name for thread in threading.enumerate())


def test_the_disk_is_told_while_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(module, "_FLUSHED_AT_ONCE_BYTES", 20000)
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    write(tmp_path / "file", FileHasher(len(WHOLE)))
    assert flushed and flushed[0] < len(WHOLE)


def test_a_disk_that_turns_out_full_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_FLUSHED_AT_ONCE_BYTES", 20000)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "file", FileHasher(len(WHOLE)))


def test_what_the_hasher_refuses_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="longer than announced"):
        write(tmp_path / "file", FileHasher(len(WHOLE) - 1))


def test_an_error_of_the_writer_is_the_one_that_is_raised(tmp_path: Path) -> None:
    hasher = FileHasher(10)
    with (
        pytest.raises(ZeroDivisionError),
        (tmp_path / "file").open("wb", buffering=0) as file,
        Following(file, hasher) as following,
    ):
        following.wrote(memoryview(bytes(11)))  # refused, on its own thread
        raise ZeroDivisionError
