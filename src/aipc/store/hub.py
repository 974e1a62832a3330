"""Checkpoints from the Hugging Face hub, in the hub's own cache, where other programs find them too.

The only module that turns a remote name into addresses; `huggingface_hub` makes them, speaks to the hub and
keeps the cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from aipc.errors import AipcError, DownloadError
from aipc.store.atomic import refuse_full_disk
from aipc.store.hashing import Progress
from aipc.store.hub_errors import UnreachableError, explained
from aipc.store.hub_files import INDEX, refuse_without_weights, small_files, weight_files
from aipc.store.hub_transfer import RemoteFile, Repository, fetch

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]*")
_LISTING_TIMEOUT_S = 30.0


def download(
    hub_id: str,
    revision: str | None = None,
    progress: Progress | None = None,
    *,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
) -> tuple[Path, str]:
    """Bring a checkpoint's files into the hub's cache; return its directory there and its commit.

    Only what a conversion reads: configuration, tokenizer, chat template and `*.safetensors` at the top of
    the repository. Files that are there are not fetched again, and a large file cut off goes on where it
    stopped. Without a network, or with `HF_HUB_OFFLINE=1`, a complete cached checkpoint is returned.
    `progress` counts bytes, those already there included. `cache_dir` and `endpoint` stand in for
    `HF_HUB_CACHE` and `HF_ENDPOINT`.

    Raises `DownloadError` saying what to type next, `ConfigError` or `WeightError` for a repository that
    aipc cannot read, before its weights are fetched, and `DiskSpaceError` before and while they are.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import constants

    revision = _checked_revision(revision or constants.DEFAULT_REVISION)
    folder = _cache_folder(hub_id, cache_dir or _hub_cache(constants.HF_HUB_CACHE))
    if _COMMIT.fullmatch(revision) and (here := _cached(folder, revision)):
        return here  # a commit never changes, so nothing is asked
    try:
        with explained(hub_id, revision, endpoint=endpoint, folder=folder):
            commit, files = _listing(hub_id, revision, endpoint)
    except UnreachableError:
        if here := _cached(folder, revision):
            return here
        raise
    repository = Repository(hub_id, commit, folder, endpoint)
    with explained(hub_id, revision, endpoint=endpoint, folder=folder):
        _fetch_all(repository, files, progress)
        _remember(folder, revision, commit)
    return folder / "snapshots" / commit, commit


def _listing(hub_id: str, revision: str, endpoint: str | None) -> tuple[str, dict[str, RemoteFile]]:
    """Ask the hub for the commit of `revision` and its files."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=endpoint, library_name="aipc").model_info(
        hub_id, revision=revision, files_metadata=True, timeout=_LISTING_TIMEOUT_S
    )
    if not _COMMIT.fullmatch(info.sha or ""):
        raise ValueError(f"no commit in the answer, but {info.sha!r:.60}")
    files = [
        RemoteFile(entry.rfilename, entry.size or 0, entry.lfs.sha256 if entry.lfs else None)
        for entry in info.siblings or []
    ]
    return str(info.sha), {file.name: file for file in files}


def _fetch_all(repository: Repository, files: dict[str, RemoteFile], progress: Progress | None) -> None:
    """Fetch the small files, then the weights: a snapshot with all its weights then lacks nothing."""
    small = small_files(files, where=repository.hub_id)
    refuse_without_weights(files, where=repository.hub_id)
    if INDEX in files:
        fetch(repository, files[INDEX], lambda step_bytes: None)
    weights = weight_files(files, index=repository.path(INDEX), where=repository.hub_id)
    wanted = [files[name] for name in [*small, *weights]]
    refuse_full_disk(repository.folder, sum(repository.missing_bytes(file) for file in wanted))
    advance = _counter(sum(file.size_bytes for file in wanted), progress)
    for file in wanted:
        fetch(repository, file, advance)


def _hub_cache(directory: str) -> Path:
    try:
        return Path(directory).expanduser()
    except RuntimeError as error:
        raise DownloadError(
            "The hub's cache is in the home directory of an account that is not on this computer",
            found=directory,
            try_next="set HF_HOME and HF_HUB_CACHE to directories that you can write to, or unset them",
        ) from error


def _checked_revision(revision: str) -> str:
    # It becomes a path below `refs`.
    if not _REVISION.fullmatch(revision) or ".." in revision or revision.endswith("/"):
        raise DownloadError(
            f"{revision!a} is no revision",
            expected="a branch, a tag or a commit",
            try_next="ORG/NAME@main",
        )
    return revision


def _cache_folder(hub_id: str, cache_dir: Path) -> Path:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(hub_id)
    except HFValidationError as error:
        raise DownloadError(f"{hub_id!a} is no hub id", try_next="give it as ORG/NAME") from error
    return cache_dir.absolute() / repo_folder_name(repo_id=hub_id, repo_type="model")


def _cached(folder: Path, revision: str) -> tuple[Path, str] | None:
    """Return the cached checkpoint of `revision` when nothing is missing in it."""
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
        except OSError:
            return None  # never downloaded
    snapshot = folder / "snapshots" / commit
    return (snapshot, commit) if _COMMIT.fullmatch(commit) and _is_complete(snapshot) else None


def _is_complete(snapshot: Path) -> bool:
    """Whether `snapshot` has a configuration, a tokenizer and every weight file that its index names."""
    if not all((snapshot / name).is_file() for name in ("config.json", "tokenizer.json")):
        return False
    names = [entry.name for entry in snapshot.iterdir() if entry.is_file()]  # not for a link to nothing
    try:
        return bool(weight_files(names, index=snapshot / INDEX, where=str(snapshot)))
    except AipcError:
        return False


def _remember(folder: Path, revision: str, commit: str) -> None:
    """Write which commit a branch or tag was, so that it is found again without a network."""
    if revision == commit:
        return
    path = folder / "refs" / revision
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_text(commit, encoding="utf-8")
    fresh.replace(path)


def _counter(total_bytes: int, progress: Progress | None) -> Callable[[int], None]:
    done_bytes = 0

    def advance(step_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += step_bytes
        if progress is not None:
            progress(done_bytes, total_bytes)

    return advance
