"""What went wrong with the hub, in words that end in the next thing to type."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aipc.errors import AipcError, DiskSpaceError, DownloadError

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


class UnreachableError(DownloadError):
    """The hub did not answer, so a cached checkpoint may stand in."""


@contextmanager
def explained(hub_id: str, revision: str, *, endpoint: str | None, folder: Path) -> Iterator[None]:
    """Turn what huggingface_hub raises inside into `DownloadError`, or `DiskSpaceError` for a full disk."""
    from huggingface_hub import errors

    # The base class of every transport error of the HTTP library that this huggingface_hub uses.
    transport_error: type[Exception] = getattr(errors, "HTTPError", OSError)
    try:
        yield
    except AipcError:
        raise
    except (OSError, ValueError, transport_error) as error:
        raise _explain(error, hub_id, revision, endpoint=endpoint, folder=folder) from error


def _explain(
    error: Exception, hub_id: str, revision: str, *, endpoint: str | None, folder: Path
) -> DownloadError | DiskSpaceError:
    from huggingface_hub import constants, errors

    address = f"{endpoint or constants.ENDPOINT}/{hub_id}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DiskSpaceError(
            f"The disk of {folder} filled up while {hub_id} was downloaded",
            try_next="free some space, or set HF_HOME to a larger disk; run this again: it goes on from there",
        )
    if isinstance(error, OSError) and error.errno in _REFUSED and error.filename is not None:
        return DownloadError(
            f"{error.filename} cannot be read or written: {error.strerror}",
            try_next="set HF_HOME to a directory that you can write to, or change its permissions",
        )
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{hub_id} is gated: its owner asks for consent first",
            try_next=f"agree to the terms at {address}, then type: hf auth login",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DownloadError(
            f"{hub_id} has no revision {revision}", try_next=f"{address}/tree/main lists branches and tags"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return DownloadError(
            f"{hub_id} is not on the hub, or private, and there is no directory of that name",
            try_next=f"check the spelling at {address}; for a private model type: hf auth login",
        )
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error.response.status_code, error, hub_id)
    return _explain_silence(error, hub_id, address)


def _explain_status(status: int, error: Exception, hub_id: str) -> DownloadError:
    first_line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if status in {401, 403}:
        return DownloadError(
            f"The hub does not let you read {hub_id}", found=first_line, try_next="type: hf auth login"
        )
    kind = UnreachableError if status >= 500 or status == 429 else DownloadError
    return kind(
        f"The hub answered {status} for {hub_id}",
        found=first_line,
        try_next="wait a little and run this again: it goes on where it stopped",
    )


def _explain_silence(error: Exception, hub_id: str, address: str) -> DownloadError:
    from huggingface_hub import errors

    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        return UnreachableError(
            f"{hub_id} is not complete in the hub's cache, and HF_HUB_OFFLINE forbids fetching it",
            try_next="unset HF_HUB_OFFLINE and run this again while online",
        )
    first_line = next((line for line in str(error).splitlines() if line.strip()), "")
    return UnreachableError(
        f"No usable answer from {address}",
        found=f"{type(error).__name__}: {first_line}".rstrip(": "),
        try_next="check the network (HTTPS_PROXY behind a proxy, HF_ENDPOINT for a mirror) "
        "and run this again: it goes on where it stopped",
    )
