"""Whether a model's files are still the ones that were written."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from aipc.errors import IntegrityError, StoreError
from aipc.quoting import quoted
from aipc.store.hashing import (
    SAMPLE_BLOCK_BYTES,
    SAMPLE_BLOCKS,
    FileRecord,
    Progress,
    hash_file,
    hash_sample,
)
from aipc.store.manifest import MANIFEST, Manifest, read_manifest

_THREADS = 4  # hashlib frees the interpreter's lock; more threads than large files gain nothing
_STEP_S = 0.1


@dataclass(frozen=True)
class Verification:
    """What was checked. `unlisted` are names in the directory that the manifest does not know: ignored."""

    manifest: Manifest
    read_bytes: int
    unlisted: tuple[str, ...]


def verify(model_dir: Path, *, full: bool = True, progress: Progress | None = None) -> Verification:
    """Compare the files of `model_dir` with its manifest.

    `full` hashes every byte and so catches any change, down to one flipped bit.

    Without `full`, the check made before each load, it compares the size of every file, the sha256 of every
    file of up to 16 MiB, and of each larger file the sha256 of 64 blocks of 64 KiB, evenly spread, the
    first and the last included: at most 4 MiB read per large file. Caught with certainty: a missing,
    truncated, over-long, zeroed or exchanged file, any change to a small file, and in a file of n bytes any
    region of n/63 bytes or more whose bytes were all changed (10 MB of 600 MB). Not caught: a change that
    lies between the blocks, such as one flipped bit in a large file. `aipc models verify` catches that.

    Raises `IntegrityError` naming the file, what was expected and what was found; `StoreError` when a file
    cannot be read.
    """
    manifest = read_manifest(model_dir)
    read_bytes = verify_files(model_dir, manifest.files, full=full, progress=progress)
    return Verification(manifest, read_bytes, unlisted(model_dir, manifest.files))


def verify_files(
    model_dir: Path, files: Mapping[str, FileRecord], *, full: bool = True, progress: Progress | None = None
) -> int:
    """Do what `verify` does with records that are in memory; return the bytes read."""
    verify_sizes(model_dir, files)
    plan = [(name, record, full or record.sample_sha256 is None) for name, record in files.items()]
    total_bytes = sum(_cost_bytes(record, whole) for _, record, whole in plan)
    stopped = threading.Event()
    advance = _counter(total_bytes, progress, stopped)
    with ThreadPoolExecutor(_THREADS) as threads:
        try:
            _wait_for(
                [
                    threads.submit(_verify_file, model_dir / name, record, whole=whole, advance=advance)
                    for name, record, whole in plan
                ]
            )
        except BaseException:
            stopped.set()
            threads.shutdown(cancel_futures=True)
            raise
    return total_bytes


def _wait_for(checks: Sequence[Future[None]]) -> None:
    """Raise what the first check to fail raised. In steps, as Windows lets Ctrl-C in between waits only."""
    waiting = set(checks)
    while waiting:
        done, waiting = wait(waiting, timeout=_STEP_S, return_when=FIRST_EXCEPTION)
        for check in done:
            check.result()


def verify_sizes(model_dir: Path, files: Mapping[str, FileRecord]) -> None:
    """Raise `IntegrityError` for the first of the files that is missing or has another size."""
    for name, record in files.items():
        path = model_dir / name
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise _corrupt(path, expected=f"{record.size_bytes:,} bytes", found="no such file") from error
        except OSError as error:
            raise _unreadable(path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise _corrupt(path, expected="a file", found="something else")
        if status.st_size != record.size_bytes:
            raise _corrupt(path, expected=f"{record.size_bytes:,} bytes", found=f"{status.st_size:,} bytes")


def unlisted(model_dir: Path, files: Iterable[str]) -> tuple[str, ...]:
    """Return the names in `model_dir` that are neither in `files` nor the manifest, sorted."""
    return tuple(sorted({entry.name for entry in model_dir.iterdir()} - {*files, MANIFEST}))


def _verify_file(path: Path, record: FileRecord, *, whole: bool, advance: Callable[[int], None]) -> None:
    try:
        if whole:
            expected, found = record.sha256, hash_file(path, advance).sha256
        else:
            expected, found = record.sample_sha256 or "", hash_sample(path)
            advance(_cost_bytes(record, whole))
    except OSError as error:
        raise _unreadable(path, error) from error
    if found != expected:
        kind = "sha256" if whole else "sha256 of the sample"
        raise _corrupt(path, expected=f"{kind} {expected[:16]}…", found=f"{found[:16]}…")


def _cost_bytes(record: FileRecord, whole: bool) -> int:
    return record.size_bytes if whole else SAMPLE_BLOCKS * SAMPLE_BLOCK_BYTES


class _StoppedError(Exception):
    """Nobody waits for this check any more."""


def _counter(total_bytes: int, progress: Progress | None, stopped: threading.Event) -> Callable[[int], None]:
    """Return a function for several threads that adds up their bytes and passes the sum on.

    It ends a thread by `_StoppedError` once `stopped` is set: a person who stops a verification waits for no file.
    """
    lock = threading.Lock()
    done_bytes = 0

    def advance(step_bytes: int) -> None:
        nonlocal done_bytes
        if stopped.is_set():
            raise _StoppedError
        with lock:
            done_bytes += step_bytes
            if progress is not None:
                progress(done_bytes, total_bytes)

    return advance


def _corrupt(path: Path, *, expected: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is not the file that was written",
        expected=expected,
        found=found,
        try_next=f"aipc models verify {quoted(path.parent)} checks every byte; then convert the model again",
    )


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be read: {error.strerror}", try_next="check the disk and its permissions")
