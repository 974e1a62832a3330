"""One file from the hub into the hub's cache, going on where an earlier try stopped.

`hf_hub_download` of huggingface_hub 1.33 and later throws a cut-off file away. Weights are gigabytes, so
large files go through its `http_get` into a partial file that stays, and their sha256 is compared with the
hub's before they enter the cache, which `huggingface_hub` does not do. The cache's layout is
https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from aipc.errors import DownloadError
from aipc.store.names import validate_file_name

RESUMABLE_OVER_BYTES = 4 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. `sha256` is known of files in the hub's large file storage."""

    name: str
    size_bytes: int
    sha256: str | None = None

    @property
    def is_resumable(self) -> bool:
        """Whether the file is large, and its hash known."""
        return self.size_bytes > RESUMABLE_OVER_BYTES and _SHA256.fullmatch(self.sha256 or "") is not None


@dataclass(frozen=True)
class Repository:
    """A model repository at one commit, and its folder in the cache."""

    hub_id: str
    commit: str
    folder: Path
    endpoint: str | None = None

    def path(self, name: str) -> Path:
        """Where the file called `name` has its own name."""
        return self.folder / "snapshots" / self.commit / validate_file_name(name, where=self.hub_id)

    def partial(self, file: RemoteFile) -> Path:
        """Where a cut-off download of `file` lies."""
        return self.folder / "blobs" / f"{file.sha256}.incomplete"

    def is_here(self, file: RemoteFile) -> bool:
        """Whether `file` is in the cache, whole."""
        path = self.path(file.name)
        return path.is_file() and path.stat().st_size == file.size_bytes

    def missing_bytes(self, file: RemoteFile) -> int:
        """How many bytes of `file` are still to come."""
        if self.is_here(file):
            return 0
        partial = self.partial(file)
        done_bytes = partial.stat().st_size if file.is_resumable and partial.is_file() else 0
        return max(file.size_bytes - done_bytes, 0)


def fetch(repository: Repository, file: RemoteFile, advance: Callable[[int], None]) -> None:
    """Bring `file` into the cache unless it is there. `advance` is called with bytes; negative when some
    were lost.

    Raises `DownloadError` when what came is not what the hub lists, and what huggingface_hub raises.
    """
    if repository.is_here(file):
        advance(file.size_bytes)
    elif file.is_resumable:
        _fetch_large(repository, file, advance)
    else:
        _enter_cache(repository, file)
        advance(file.size_bytes)


def _enter_cache(repository: Repository, file: RemoteFile) -> None:
    """Have huggingface_hub fetch the file, or only name it when its bytes are in the cache already."""
    from huggingface_hub import hf_hub_download

    hf_hub_download(
        repository.hub_id,
        file.name,
        revision=repository.commit,
        cache_dir=repository.folder.parent,
        endpoint=repository.endpoint,
        library_name="aipc",
        **_silently(hf_hub_download),
    )


def _fetch_large(repository: Repository, file: RemoteFile, advance: Callable[[int], None]) -> None:
    from filelock import FileLock
    from huggingface_hub.file_download import are_symlinks_supported

    blob = repository.folder / "blobs" / str(file.sha256)
    lock = repository.folder.parent / ".locks" / repository.folder.name / f"{file.sha256}.lock"
    for directory in (blob.parent, lock.parent):
        directory.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # the one that huggingface_hub takes for this file
        if not blob.is_file():
            _fill_partial(repository, file, advance)
        else:
            advance(file.size_bytes)
        if not are_symlinks_supported(repository.folder.parent):
            # As on most Windows PCs: huggingface_hub would copy the blob and need the room twice.
            path = repository.path(file.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            (blob if blob.is_file() else repository.partial(file)).replace(path)
            return
        if not blob.is_file():
            repository.partial(file).replace(blob)
    _enter_cache(repository, file)


def _fill_partial(repository: Repository, file: RemoteFile, advance: Callable[[int], None]) -> None:
    partial = repository.partial(file)
    partial.touch()
    with partial.open("r+b") as opened:
        sink = _Sink(opened, advance)
        sink.read_existing(file.size_bytes)
        _receive(repository, file, sink)
    if sink.sha256.hexdigest() != file.sha256:
        partial.unlink()
        raise DownloadError(
            f"{file.name} of {repository.hub_id} came damaged",
            expected=f"sha256 {str(file.sha256)[:16]}…",
            found=f"{sink.sha256.hexdigest()[:16]}…",
            try_next="run this again: the file is fetched anew",
        )


def _receive(repository: Repository, file: RemoteFile, sink: _Sink) -> None:
    """Fetch the rest of `file`; a connection that breaks is made again for as long as each one brings bytes."""
    from huggingface_hub import errors, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    transport_error: type[Exception] = getattr(errors, "HTTPError", OSError)
    address = hf_hub_url(repository.hub_id, file.name, revision=repository.commit, endpoint=repository.endpoint)
    while (begin_bytes := sink.tell()) < file.size_bytes:
        try:
            http_get(
                address,
                sink,  # type: ignore[arg-type]  # has what http_get uses of a file
                resume_size=begin_bytes,
                headers=build_hf_headers(library_name="aipc"),
                expected_size=file.size_bytes,
                **_silently(http_get),
            )
        except (OSError, transport_error) as error:
            # A short answer is a plain OSError to http_get; one with a number is this computer's own trouble.
            if isinstance(error, errors.HfHubHTTPError) or getattr(error, "errno", None) is not None:
                raise
            if sink.tell() <= begin_bytes:
                raise


class _Sink:
    """The file that `http_get` writes to; hashes and counts on the way."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], None]) -> None:
        self._file = file
        self._advance = advance
        self._counted_bytes = 0
        self.sha256 = hashlib.sha256()

    def read_existing(self, size_bytes: int) -> int:
        """Take what an earlier try left; return its bytes. More than `size_bytes` cannot be of this file."""
        if self._file.seek(0, 2) > size_bytes:
            self._file.truncate(0)
        self._file.seek(0)
        while data := self._file.read(_READ_BYTES):
            self._count(data)
        return self._file.tell()

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._count(data)
        return len(data)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        """Start over: `http_get` does this when a server ignores where it was asked to go on."""
        self._advance(-self._counted_bytes)
        self._counted_bytes = 0
        self.sha256 = hashlib.sha256()
        self._file.seek(0)
        return self._file.truncate(0)

    def _count(self, data: bytes) -> None:
        self.sha256.update(data)
        self._counted_bytes += len(data)
        self._advance(len(data))


def _silently(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that keep a function of huggingface_hub from drawing: that is the command line's work."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
    from tqdm import tqdm  # type: ignore[import-untyped]

    if "tqdm_class" not in inspect.signature(function).parameters:  # huggingface_hub before 1.3
        disable_progress_bars()
        return {}

    class SilentBar(tqdm):  # type: ignore[misc]
        def __init__(self, *values: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*values, **{**options, "disable": True})

    return {"tqdm_class": SilentBar}
