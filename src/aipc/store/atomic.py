"""Writing a model's directory so that it is absent or whole, even when the process is killed or the disk
fills up.

Beside the destination NAME live `.NAME.lock` (held while writing; the system frees it when the process
dies, and the empty file stays), `.NAME.partial` (what is being written), `.NAME.old` (the model that
`force` replaces, for the instant between two renames) and `.NAME.removed` (a model on its way out).
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from aipc.errors import DiskSpaceError, IntegrityError, StoreBusyError, StoreError, UsageError
from aipc.store.checked_file import CONVERT_AGAIN, CheckedFile
from aipc.store.hashing import FileRecord, Progress, hash_file
from aipc.store.integrity import unlisted, verify_files, verify_sizes
from aipc.store.manifest import MANIFEST, Manifest, to_json
from aipc.store.names import validate_file_name
from aipc.store.replacement import refuse_replacement

_GRACE_S = 0.2  # a listing of the models holds a lock for an instant, to see whether it is free
SPARE_BYTES = 64 * 1024 * 1024  # left free for everybody else
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_RENAME_TRIES = 20 if os.name == "nt" else 1  # virus scanners hold fresh files open for a moment


class Writing:
    """A model being written into `directory`, which `commit` turns into the destination."""

    def __init__(self, destination: Path, *, force: bool = False) -> None:
        self.destination = destination
        self.directory = hidden(destination, "partial")
        self._force = force
        self.committed = False
        self._checked: dict[str, FileRecord] = {}

    @contextmanager
    def checked_file(self, name: str, size_bytes: int, *, progress: Progress | None = None) -> Iterator[CheckedFile]:
        """A large file, which `commit` need not read again. `progress` counts what is left to check at its end."""
        with CheckedFile(self.directory / name, size_bytes, progress) as file:
            yield file
        self._checked[name] = file.record

    def commit(self, manifest: Manifest, *, progress: Progress | None = None) -> Manifest:
        """Verify what was written, write the manifest last, and rename the directory into place.

        Each file in `manifest.files` that was not checked is read again in full and compared with its record; the
        other files in the directory are hashed and added. Returns the manifest as written. `progress` counts the
        bytes of the comparison. Raises `IntegrityError` when the disk does not hold what the records say.
        """
        _check_entries(self.directory)
        with ThreadPoolExecutor(1) as flushing:  # the disk works while the processor hashes
            flushed = flushing.submit(_flush_files, self.directory, self._checked)
            complete = replace(manifest, files=self._verified_files(manifest, progress))
            flushed.result()
        _write_flushed(self.directory / MANIFEST, to_json(complete).encode("utf-8"))
        _flush_directory(self.directory)
        self._move_into_place()
        self.committed = True
        return complete

    def _verified_files(self, manifest: Manifest, progress: Progress | None) -> dict[str, FileRecord]:
        files = manifest.files
        unchecked = {name: record for name, record in files.items() if self._checked.get(name) != record}
        with _advice_to_convert_again():
            verify_sizes(self.directory, files)
            verify_files(self.directory, unchecked, progress=progress)
        return {**files, **{name: hash_file(self.directory / name) for name in unlisted(self.directory, files)}}

    def _move_into_place(self) -> None:
        aside = hidden(self.destination, "old")
        refuse_replacement(self.destination, force=self._force)  # once more: a conversion takes minutes
        if self.destination.is_dir():
            rename(self.destination, aside)
        try:
            rename(self.directory, self.destination)
        except BaseException:
            if aside.is_dir():
                rename(aside, self.destination)  # the old model stays until the new one is there
            raise
        _flush_directory(self.destination.parent)
        # From here on the model is whole: what is left of the old one goes now, or with the next writing.
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _advice_to_convert_again() -> Iterator[None]:
    """For files that this process has just written."""
    try:
        yield
    except IntegrityError as error:
        raise IntegrityError(
            error.what,
            expected=error.expected,
            found=error.found,
            try_next=CONVERT_AGAIN,
        ) from error


@contextmanager
def writing(destination: Path, *, needed_bytes: int, force: bool = False, wait_s: float = 0.0) -> Iterator[Writing]:
    """Give a hidden directory beside `destination` to write a model into, and keep others out meanwhile.

    Before anything is written, raises `StoreBusyError` when another process still writes there after
    `wait_s` seconds, `DiskSpaceError` when the disk has less than `needed_bytes` and 64 MiB free, and
    `StoreError` when the destination cannot be written or exists. An empty directory counts as absent; with
    `force` a converted model is replaced, and stays in place until the new one is whole. Anything else is
    never replaced, nor is a model with a person's own files beside it (see `refuse_replacement`).

    Leaving without `Writing.commit`, by an exception or not, leaves nothing behind. A disk that fills up
    meanwhile raises `DiskSpaceError`.
    """
    destination = _absolute(destination)
    with locked(destination, wait_s=wait_s):
        clear_leftovers(destination)
        refuse_replacement(destination, force=force)
        refuse_full_disk(destination.parent, needed_bytes)
        task = Writing(destination, force=force)
        try:
            _make_directory(task.directory)
            yield task
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            # Freed first, so that the message tells what there is to work with.
            shutil.rmtree(task.directory, ignore_errors=True)
            raise _disk_full(destination.parent, needed_bytes) from error
        finally:
            if not task.committed:
                shutil.rmtree(task.directory, ignore_errors=True)


@contextmanager
def locked(destination: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing or removing `destination`. Raises `StoreBusyError`, `StoreError`."""
    from filelock import FileLock, Timeout

    _make_directory(destination.parent, parents=True)
    lock = FileLock(hidden(destination, "lock"))
    try:
        lock.acquire(timeout=max(wait_s, _GRACE_S))
    except Timeout as error:
        if not hidden(destination, "lock").exists():  # nobody holds what cannot even be made, as in /proc
            raise StoreError(
                f"no file can be made in {destination.parent}", try_next="give another directory"
            ) from error
        raise StoreBusyError(
            f"{destination} is being written by another process",
            try_next="wait until it is done, or end it; then run this again",
        ) from error
    except OSError as error:
        raise _refused(destination.parent, error) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(destination: Path) -> bool:
    """Whether another process is writing or removing `destination`; creates no file.

    Raises `StoreError` where that cannot be told, as the lock may not be opened.
    """
    if not hidden(destination, "lock").is_file():
        return False
    try:
        with locked(destination):
            return False
    except StoreBusyError:
        return True


def hidden(destination: Path, role: str) -> Path:
    """Return the hidden neighbour of `destination` for `role`."""
    return destination.with_name(f".{destination.name}.{role}")


def clear_leftovers(destination: Path) -> None:
    """Remove what killed processes left beside `destination`. The caller holds the lock."""
    aside = hidden(destination, "old")
    if aside.is_dir() and not destination.exists():
        rename(aside, destination)  # killed between the two renames of a replacement
    for role in ("old", "partial", "removed"):
        delete(hidden(destination, role))


def delete(directory: Path) -> None:
    """Delete a directory and all in it, if it is there. Raises `StoreError`."""
    if not os.path.lexists(directory):
        return
    try:
        if directory.is_symlink():
            directory.unlink()  # what it points to is not the store's
        else:
            shutil.rmtree(directory)
    except OSError as error:
        raise _refused(directory, error) from error


def rename(source: Path, target: Path) -> None:
    """Rename a directory; on Windows, with patience for programs that look at new files. Raises
    `StoreError`."""
    for attempt in range(_RENAME_TRIES):
        try:
            source.replace(target)
        except OSError as error:
            if not isinstance(error, PermissionError) or attempt + 1 == _RENAME_TRIES:
                raise _refused(target, error) from error
            time.sleep(0.1)
        else:
            return


def refuse_full_disk(directory: Path, needed_bytes: int) -> None:
    """Raise `DiskSpaceError` when the disk of `directory` has less than `needed_bytes` and 64 MiB free.

    `directory` need not exist. Raises `StoreError` when its disk does not.
    """
    there = next((path for path in (directory, *directory.parents) if path.exists()), None)
    if there is None:
        raise StoreError(f"{directory} cannot be made", found="no such disk", try_next="give another directory")
    directory = there
    if shutil.disk_usage(directory).free < needed_bytes + SPARE_BYTES:
        raise _disk_full(directory, needed_bytes)


def _disk_full(directory: Path, needed_bytes: int) -> DiskSpaceError:
    free_bytes = shutil.disk_usage(directory).free
    return DiskSpaceError(
        f"The disk of {directory} is too full",
        expected=f"{needed_bytes + SPARE_BYTES:,} bytes free",
        found=f"{free_bytes:,} bytes free",
        try_next="free some space (aipc models lists what the store holds), or choose another disk",
    )


def _refused(path: Path, error: OSError) -> StoreError:
    if error.errno in _DISK_FULL:
        return DiskSpaceError(f"The disk of {path} is full", try_next="free some space, then run this again")
    return StoreError(
        f"{path} cannot be written: {error.strerror}",
        try_next="give another directory, change its permissions, or close the programs that use it "
        "(AIPC_HOME moves the model store)",
    )


def _absolute(destination: Path) -> Path:
    absolute = Path(os.path.abspath(destination))  # noqa: PTH100 - resolve() would write through a symbolic link
    if not absolute.name:
        raise UsageError(f"{destination} cannot be a model's directory", try_next="name a new directory")
    return absolute


def _make_directory(directory: Path, *, parents: bool = False) -> None:
    try:
        directory.mkdir(parents=parents, exist_ok=parents)
    except OSError as error:
        raise _refused(directory, error) from error


def _check_entries(directory: Path) -> None:
    for entry in directory.iterdir():
        validate_file_name(entry.name, where=str(directory))
        if entry.is_symlink() or not entry.is_file():
            raise StoreError(f"{entry} cannot be part of a model", expected="a file")


def _flush_files(directory: Path, already: Collection[str]) -> None:
    for path in directory.iterdir():
        if path.name not in already:
            _flush(path)


def _flush(path: Path) -> None:
    """Have the disk hold the bytes, so that a power cut after the rename does not leave a model of zeros."""
    with path.open("r+b") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def _write_flushed(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(directory: Path) -> None:
    if os.name == "nt":
        return  # Windows cannot; NTFS journals names by itself
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot either
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
