"""The models in the store: listing, finding, naming and removing them."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aipc.errors import AipcError, ModelNotFoundError, StoreError
from aipc.store.atomic import clear_leftovers, hidden, is_locked, locked, rename
from aipc.store.blobs import remove_blobs
from aipc.store.integrity import verify_sizes
from aipc.store.manifest import Manifest, Origin, read_manifest
from aipc.store.names import LONGEST_MODEL_NAME, is_model_name, model_path, slug
from aipc.store.root import models_directory

_HASH_DIGITS = 8


@dataclass(frozen=True)
class StoredModel:
    """A model in the store. `state` is `ok` when the manifest is whole and every file has its size.

    `incomplete` has its reason in `problem`; `writing` is being written by another process right now.
    """

    name: str
    path: Path
    state: Literal["ok", "incomplete", "writing"]
    size_bytes: int
    manifest: Manifest | None = None
    problem: str | None = None


def models(root: Path | None = None) -> list[StoredModel]:
    """Return the models in the store, sorted by name; what is no model's directory is passed over.

    What a killed conversion left is listed as incomplete, so that its bytes can be seen and removed. Raises
    `StoreError` when the store cannot be read.
    """
    models_dir = models_directory(root)
    try:
        entries = [entry for entry in models_dir.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            f"{models_dir} cannot be read: {error.strerror}",
            try_next="set AIPC_HOME to a directory that you can read and write",
        ) from error
    names = {entry.name for entry in entries if is_model_name(entry.name)}
    names |= {name for entry in entries if (name := _name_of_leftover(entry)) is not None}
    return [_stored(model_path(name, models_dir=models_dir)) for name in sorted(names)]


def remove(name: str, root: Path | None = None) -> int:
    """Remove a stored model, what was compiled of it, and what killed conversions left; return the bytes they took.

    It is gone at once or not at all. Raises `UsageError` for an impossible name, `ModelNotFoundError` when
    there is no such model, `StoreBusyError` while another process writes it, and `StoreError` when the
    system refuses.
    """
    path = model_path(name, models_dir=models_directory(root))
    leftovers = [hidden(path, role) for role in ("old", "partial", "removed")]
    present = [entry for entry in (path, *leftovers) if entry.is_dir()]
    if not present:
        raise ModelNotFoundError(f"No model called {name} in {path.parent}", try_next="aipc models lists them")
    with locked(path):
        freed_bytes = sum(_directory_bytes(entry) for entry in present)
        clear_leftovers(path)
        if path.is_dir():
            rename(path, hidden(path, "removed"))
        clear_leftovers(path)
    return freed_bytes + remove_blobs(path, root)


def name_for(origin: Origin, recipe_slug: str, root: Path | None = None) -> str:
    """Return the name under which a checkpoint converted by a recipe is stored.

    `phi-3-mini-4k-instruct-int4-g128-sym`, unless a model from another checkpoint has that name: then a
    hash of the origin follows. The same origin and recipe give the same name for as long as the store does
    not change.
    """
    plain, hashed = _candidates(origin, recipe_slug)
    path = model_path(plain, models_dir=models_directory(root))
    return plain if not path.exists() or _origin_of_stored(path) == origin else hashed


def find_stored(origin: Origin, recipe_slug: str, root: Path | None = None) -> StoredModel | None:
    """Return the whole stored model made from `origin` by a recipe, or None. Needs no network.

    A hub origin without a revision matches any revision; the newest conversion wins.
    """
    plain, _ = _candidates(origin, recipe_slug)
    found = [
        model
        for model in models(root)
        if model.state == "ok"
        and model.manifest is not None
        and (model.name == plain or _is_hashed(model.name, plain))
        and _matches(model.manifest.origin, origin)
    ]
    return max(found, key=lambda model: model.manifest.created if model.manifest else "", default=None)


def _candidates(origin: Origin, recipe_slug: str) -> tuple[str, str]:
    room = LONGEST_MODEL_NAME - len(recipe_slug) - _HASH_DIGITS - 2 - len("model-")
    plain = f"{slug(slug(origin.name)[:room])}-{recipe_slug}"
    if not is_model_name(plain):  # such as `con.x-int4`, which Windows takes for a device
        plain = f"model-{plain}"
    identity = "\n".join(
        str(part) for part in (origin.location, origin.revision, origin.config_sha256, origin.fingerprint)
    )
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    return plain, f"{plain}-{digest[:_HASH_DIGITS]}"


def _is_hashed(name: str, plain: str) -> bool:
    return name.startswith(f"{plain}-") and len(name) == len(plain) + 1 + _HASH_DIGITS


def _matches(stored: Origin, asked: Origin) -> bool:
    if asked.revision is None and asked.config_sha256 is None:  # a hub id whose commit is not known yet
        return stored.location == asked.location
    if asked.config_sha256 is None:
        return (stored.location, stored.revision) == (asked.location, asked.revision)
    return stored == asked


def _origin_of_stored(path: Path) -> Origin | None:
    try:
        return read_manifest(path).origin
    except StoreError:
        return None


def _stored(path: Path) -> StoredModel:
    if not path.is_dir():
        return _half_made(path)
    try:
        manifest = read_manifest(path)
        verify_sizes(path, manifest.files)
    except AipcError as error:
        problem = str(error).splitlines()[0]
        return StoredModel(path.name, path, "incomplete", _directory_bytes(path), problem=problem)
    return StoredModel(path.name, path, "ok", manifest.size_bytes, manifest)


def _half_made(path: Path) -> StoredModel:
    size_bytes = _directory_bytes(hidden(path, "partial"))
    try:
        if is_locked(path):
            return StoredModel(path.name, path, "writing", size_bytes)
        problem = "its conversion was interrupted"
    except StoreError as error:  # of another account, or on a read-only disk
        reason = error.what.rpartition(": ")[2]
        problem = f"half-made; whether it is being written cannot be told: {reason}"
    return StoredModel(path.name, path, "incomplete", size_bytes, problem=problem)


def _name_of_leftover(entry: Path) -> str | None:
    for role in (".partial", ".old", ".removed"):
        name = entry.name.removeprefix(".").removesuffix(role)
        if entry.name == f".{name}{role}" and is_model_name(name):
            return name
    return None


def _directory_bytes(directory: Path) -> int:
    """Bytes of the files in it, however deep; what goes away meanwhile or may not be looked at counts nothing."""
    total_bytes = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                status = Path(folder, name).lstat()
                total_bytes += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total_bytes
