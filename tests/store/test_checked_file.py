from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aipc.errors import IntegrityError, StoreError
from aipc.store import CheckedFile, checked_file, hash_file

PIECES = [os.urandom(5000 + 7 * index) for index in range(60)]
WHOLE = b"".join(PIECES)


@pytest.fixture(autouse=True)
def flush_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked_file, "_FLUSHED_AT_ONCE_BYTES", 20000)
    monkeypatch.setattr(checked_file, "_READ_AT_ONCE_BYTES", 7000)


def write(path: Path, *, size_bytes: int = len(WHOLE)) -> CheckedFile:
    with CheckedFile(path, size_bytes) as file:
        for piece in PIECES:
            assert file.write(memoryview(piece)) == len(piece)
    return file


def test_the_record_is_of_what_lies_on_the_disk(tmp_path: Path) -> None:
    file = write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == WHOLE
    assert file.record.sha256 == hashlib.sha256(WHOLE).hexdigest()
    assert file.record == hash_file(tmp_path / "file")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("hash", "flush"))]


def test_the_disk_is_told_while_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    write(tmp_path / "file")
    assert len(flushed) > 1 and flushed[0] < len(WHOLE) == flushed[-1]


def test_progress_counts_what_is_left_at_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with CheckedFile(tmp_path / "file", len(WHOLE), lambda done, total: seen.append((done, total))) as file:
        for piece in PIECES:
            file.write(memoryview(piece))
        assert not seen
    assert seen == sorted(seen) and seen[-1] == (len(WHOLE), len(WHOLE))


def test_waiting_for_a_slow_disk_is_told_when_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    disk_is_done = threading.Event()

    def slow(descriptor: int) -> None:
        assert disk_is_done.wait(20)
        order.append("flushed")

    def progress(done_bytes: int, total_bytes: int) -> None:
        order.append(f"{done_bytes} of {total_bytes}")
        disk_is_done.set()

    monkeypatch.setattr(os, "fsync", slow)
    with CheckedFile(tmp_path / "file", len(WHOLE), progress) as file:
        for piece in PIECES:  # written without waiting, though the disk holds none of it yet
            file.write(memoryview(piece))
    assert order[:2] == [f"0 of {len(WHOLE)}", "flushed"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError])
def test_whoever_stops_waits_for_the_threads_and_finds_the_file_closed(
    interruption: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushing = threading.Event()

    def slow(descriptor: int) -> None:
        flushing.set()
        threading.Event().wait(0.2)
        os.fstat(descriptor)  # is still open

    monkeypatch.setattr(os, "fsync", slow)
    file = CheckedFile(tmp_path / "file", len(WHOLE))
    with pytest.raises(interruption), file:
        for piece in PIECES:
            file.write(memoryview(piece))
        assert flushing.wait(20)
        raise interruption
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("hash", "flush"))]
    assert file._file.closed and file._reader.closed
    assert file._reading_back is not None and file._reading_back.exception() is None


def test_a_file_that_cannot_be_read_back_is_held_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a virus scanner on Windows may do to a new file."""
    opened, real = [], Path.open

    def only_once(path: Path, *arguments: Any, **options: Any) -> Any:
        if opened:
            raise PermissionError(13, "used by another process")
        opened.append(real(path, *arguments, **options))
        return opened[0]

    monkeypatch.setattr(Path, "open", only_once)
    with pytest.raises(PermissionError), CheckedFile(tmp_path / "file", 1):
        pass
    assert opened[0].closed


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"\0" * len(WHOLE)),
        lambda path: path.write_bytes(WHOLE[:-1] + bytes([WHOLE[-1] ^ 1])),
        lambda path: path.write_bytes(WHOLE[:-1]),
        lambda path: path.write_bytes(WHOLE + b"x"),
        lambda path: path.write_bytes(b""),
    ],
)
def test_a_disk_that_does_not_hold_what_was_written_is_noticed(
    damage: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked_file, "_FLUSHED_AT_ONCE_BYTES", 10 * len(WHOLE))  # all of it is read back at the end
    with (
        pytest.raises(IntegrityError, match=r"does not hold what was written(?s:.*)try: convert again"),
        CheckedFile(tmp_path / "file", len(WHOLE)) as file,
    ):
        for piece in PIECES:
            file.write(memoryview(piece))
        damage(tmp_path / "file")


def test_a_bit_that_changes_while_more_is_written_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change_a_bit(descriptor: int) -> None:
        monkeypatch.undo()
        with (tmp_path / "file").open("r+b") as other:
            other.write(bytes([WHOLE[0] ^ 4]))

    monkeypatch.setattr(os, "fsync", change_a_bit)  # called before the first bytes are read back
    with pytest.raises(IntegrityError, match="CRC-32"):
        write(tmp_path / "file")


def test_a_disk_that_turns_out_full_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "file")


@pytest.mark.parametrize("size_bytes", [len(WHOLE) - 1, len(WHOLE) + 1])
def test_another_size_than_announced_is_an_error(size_bytes: int, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="announced"):
        write(tmp_path / "file", size_bytes=size_bytes)


def test_an_error_of_the_writer_is_the_one_that_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), CheckedFile(tmp_path / "file", 10) as file:
        file.write(memoryview(bytes(11)))  # refused, on its own thread
        raise ZeroDivisionError
    (tmp_path / "file").unlink()  # nobody holds it
