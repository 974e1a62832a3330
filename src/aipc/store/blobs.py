"""Compiled models, kept so that a device's compiler, which takes minutes, runs once.

`blobs/` in the store has one directory per key, with the blob and a small manifest. It is written under a hidden name
and renamed, so it is there whole or not at all, and no blob is handed on whose sha256 is another: what a compiler does
with a damaged one is its own affair. Nothing here is a model: all of it can be deleted, and is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aipc.errors import IntegrityError, StoreBusyError, StoreError
from aipc.progress import Note
from aipc.store.atomic import clear_leftovers, delete, hidden, locked, refuse_full_disk, rename
from aipc.store.hashing import hash_file
from aipc.store.root import store_root

BLOB = "model.blob"  # openvino-genai wants this ending
_KEY = "key.json"
_MODEL = "model"
_PROPERTIES = "properties"  # the part that a person chooses, as the shape: others do not make a blob stale
BLOBS_KEPT = 4  # of one model: shapes, and properties such as a rehearsal's
_TURN_S, _MOST_TURNS = 10.0, 360  # an hour for another process that compiles the same model


@dataclass(frozen=True)
class BlobKey:
    """What a compiled model depends on, each part in plain text.

    `parts` are model, plugin, driver, platform, properties and whatever else the compiler is given; `shape` are the
    lengths. `model_dir` says whose blob it is, and is no part of the key: a model may be moved.
    """

    model_dir: Path
    shape: str
    parts: Mapping[str, str]

    @property
    def name(self) -> str:
        text = json.dumps([self.shape, dict(self.parts)], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True)
class _Kept:
    """A blob's directory and what its manifest says; `used_s` is when it was last looked up, by the epoch."""

    path: Path
    model_dir: str
    shape: str
    parts: Mapping[str, str]
    size_bytes: int
    sha256: str
    used_s: float

    def is_of(self, key: BlobKey) -> bool:
        return self.model_dir == _absolute(key.model_dir) or self.parts.get(_MODEL) == key.parts[_MODEL]

    def is_stale(self, key: BlobKey) -> bool:
        """Whether `key` takes its place: what is not a person's choice has changed."""
        return self.parts != key.parts and self.parts.get(_PROPERTIES) == key.parts.get(_PROPERTIES)


def find_blob(key: BlobKey) -> Path | None:
    """The blob of this key, read whole and compared; None when there is none. Raises `IntegrityError`, `StoreError`."""
    directory = _directory() / key.name
    if not directory.is_dir():
        return None
    kept, blob = _read(directory), directory / BLOB
    if kept is None:
        raise _damaged(directory / _KEY, expected="a manifest", found="none that can be read")
    if (kept.shape, kept.parts) != (key.shape, key.parts):
        raise _damaged(directory / _KEY, expected=f"the key {key.name}", found="another one")
    try:
        record = hash_file(blob)
    except OSError as error:
        raise _damaged(blob, expected=f"{kept.size_bytes:,} bytes", found=error.strerror) from error
    if record.size_bytes != kept.size_bytes:
        raise _damaged(blob, expected=f"{kept.size_bytes:,} bytes", found=f"{record.size_bytes:,} bytes")
    if record.sha256 != kept.sha256:
        raise _damaged(blob, expected=f"sha256 {kept.sha256[:16]}…", found=f"{record.sha256[:16]}…")
    with suppress(OSError):
        os.utime(directory / _KEY)
    return blob


def drop_blob(key: BlobKey) -> None:
    """Remove a blob that proved useless."""
    _remove(_directory() / key.name)


def why_stale(key: BlobKey) -> str | None:
    """How the kept blob that is nearest to `key` differs, as "the driver changed from A to B"; None without one."""
    others = [kept for kept in _all() if kept.is_of(key) and kept.shape == key.shape and kept.is_stale(key)]
    if not others:
        return None
    nearest = min(others, key=lambda kept: len(_differences(kept, key)))
    return ", ".join(_change(name, nearest.parts, key.parts) for name in _differences(nearest, key))


def _change(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    if name == _MODEL:
        return "the model changed"  # from one sha256 to another, which say nothing to a person
    return f"the {name} changed from {before.get(name, 'none')} to {after.get(name, 'none')}"


def _differences(kept: _Kept, key: BlobKey) -> list[str]:
    return [name for name in {**key.parts, **kept.parts} if kept.parts.get(name) != key.parts.get(name)]


@contextmanager
def writing_blob(key: BlobKey, *, needed_bytes: int, note: Note) -> Iterator[BlobWriting]:
    """Keep other processes from compiling the same; where one does so already, say so by `note` and wait for its end.

    Raises `StoreBusyError` after an hour, `DiskSpaceError`, `StoreError`. What was not committed is removed.
    """
    destination = _directory() / key.name
    with _locked_in_turn(destination, note):
        clear_leftovers(destination)
        task = BlobWriting(key, destination, needed_bytes=needed_bytes)
        try:
            yield task
        finally:
            task.discard()


@contextmanager
def _locked_in_turn(destination: Path, note: Note) -> Iterator[None]:
    with ExitStack() as held:
        for turn in range(_MOST_TURNS):
            try:
                held.enter_context(locked(destination, wait_s=_TURN_S if turn else 0.0))
                break
            except StoreBusyError:
                if turn + 1 == _MOST_TURNS:
                    raise
                if turn == 0:
                    note("another process is compiling this model: waiting for it")
        yield


class BlobWriting:
    """A blob on its way into the store. Whoever holds it also holds the lock of its key."""

    def __init__(self, key: BlobKey, destination: Path, *, needed_bytes: int) -> None:
        self._key = key
        self._destination = destination
        self._directory = hidden(destination, "partial")
        self._needed_bytes = needed_bytes

    def begin(self) -> Path:
        """Where the compiler writes the blob. Raises `DiskSpaceError`, `StoreError`."""
        refuse_full_disk(self._directory.parent, self._needed_bytes)
        try:
            self._directory.mkdir()
        except OSError as error:
            raise StoreError(f"{self._directory} cannot be made: {error.strerror}") from error
        return self._directory / BLOB

    def commit(self) -> list[str]:
        """Make it visible, and drop what it replaces: blobs of the model that are stale, and those used longest ago.

        Returns the shapes of the latter, which were good. Raises `StoreError` when the system refuses.
        """
        record = hash_file(self._directory / BLOB)
        document = {
            "model_dir": _absolute(self._key.model_dir),
            "shape": self._key.shape,
            "parts": dict(self._key.parts),
            "size": record.size_bytes,
            "sha256": record.sha256,
        }
        try:
            text = json.dumps(document, indent=2) + "\n"
            (self._directory / _KEY).write_text(text, encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{self._directory} cannot be written: {error.strerror}") from error
        delete(self._destination)  # a damaged one
        rename(self._directory, self._destination)
        return _prune(self._key, self._destination)

    def discard(self) -> None:
        with suppress(StoreError):
            delete(self._directory)


def _prune(key: BlobKey, newest: Path) -> list[str]:
    others = [kept for kept in _all() if kept.is_of(key) and kept.path != newest]
    current = sorted((kept for kept in others if not kept.is_stale(key)), key=lambda kept: -kept.used_s)
    too_many = current[BLOBS_KEPT - 1 :]
    for kept in [*(kept for kept in others if kept.is_stale(key)), *too_many]:
        _remove(kept.path)
    _clear_abandoned(newest)
    return [kept.shape for kept in too_many if not kept.path.exists()]  # what is in use stays


def _clear_abandoned(newest: Path) -> None:
    """What killed processes left of other keys, which may never be compiled again. `newest` is locked already."""
    for role in ("partial", "removed"):
        for left in newest.parent.glob(f".*.{role}"):
            destination = left.with_name(left.name.removeprefix(".").removesuffix(f".{role}"))
            if destination != newest:
                with suppress(StoreError), locked(destination):
                    clear_leftovers(destination)


def blob_bytes(root: Path | None = None) -> dict[Path, int]:
    """What the compiled models take, by the directory in which the model is, or was."""
    total_bytes: dict[Path, int] = {}
    for kept in _all(root):
        path = Path(kept.model_dir)
        total_bytes[path] = total_bytes.get(path, 0) + kept.size_bytes
    return total_bytes


def bytes_compiled_of(model_dir: Path, root: Path | None = None) -> int:
    """What the compiled models take of the model that is, or was, in `model_dir`."""
    return blob_bytes(root).get(Path(_absolute(model_dir)), 0)


def remove_blobs(model_dir: Path, root: Path | None = None) -> int:
    """Remove the blobs of the model that is, or was, in `model_dir`; return the bytes they took."""
    mine = [kept for kept in _all(root) if Path(kept.model_dir) == Path(_absolute(model_dir))]
    for kept in mine:
        _remove(kept.path)
    return sum(kept.size_bytes for kept in mine if not kept.path.exists())


def _remove(path: Path) -> None:
    """Gone at once for others; what another program holds open stays."""
    with suppress(StoreError), locked(path):
        delete(hidden(path, "removed"))  # what a killed process left, in the way of the next
        rename(path, hidden(path, "removed"))
        delete(hidden(path, "removed"))


def _all(root: Path | None = None) -> list[_Kept]:
    try:
        entries = sorted(entry for entry in _directory(root).iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
    return [kept for entry in entries if (kept := _read(entry)) is not None]


def _read(directory: Path) -> _Kept | None:
    """None for what is no blob's directory, or is damaged."""
    path = directory / _KEY
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        parts = {str(name): str(value) for name, value in found["parts"].items()}
        used_s = path.stat().st_mtime
        model_dir, shape, sha256 = (str(found[name]) for name in ("model_dir", "shape", "sha256"))
        return _Kept(directory, model_dir, shape, parts, int(found["size"]), sha256, used_s)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _directory(root: Path | None = None) -> Path:
    return (store_root() if root is None else root) / "blobs"


def _absolute(path: Path) -> str:
    return os.path.realpath(path)  # resolve() fails at a link to itself


def _damaged(path: Path, *, expected: str, found: object) -> IntegrityError:
    return IntegrityError(f"{path} is not the file that was written", expected=expected, found=found)
