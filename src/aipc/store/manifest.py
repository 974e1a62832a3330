"""The manifest `aipc.json`: what a converted model was made from, how, and a size and sha256 for every file.

It is written last, so a directory without one is not a whole model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from aipc import __version__
from aipc.errors import IntegrityError, StoreError
from aipc.quoting import quoted
from aipc.store.hashing import SAMPLE_OVER_BYTES, FileRecord
from aipc.store.names import validate_file_name

MANIFEST = "aipc.json"
FORMAT = 1

_LARGEST_BYTES = 4 * 1024 * 1024  # a manifest of a thousand files takes 200 KB
_SHA256 = re.compile(r"[0-9a-f]{64}")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Origin:
    """The checkpoint a model was converted from.

    `location` is a hub id such as `microsoft/Phi-3-mini-4k-instruct`, or an absolute path. `revision` is
    the commit of a hub checkpoint. `fingerprint` is the sha256 of a local checkpoint's file names, sizes
    and times, so that new weights in the same directory are not taken for the old ones.
    """

    name: str
    location: str
    revision: str | None = None
    config_sha256: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Manifest:
    """All that is recorded of a converted model. `recipe` is any JSON object.

    `weight_bytes_per_token` is how many bytes of weights one decoded token reads.
    """

    origin: Origin
    recipe: Mapping[str, Any]
    model_type: str
    context_tokens: int
    weight_bytes_per_token: int
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    aipc_version: str = __version__
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(record.size_bytes for record in self.files.values())


def to_json(manifest: Manifest) -> str:
    """Return the manifest as the text of `aipc.json`."""
    origin = manifest.origin
    document = {
        "format": FORMAT,
        "aipc_version": manifest.aipc_version,
        "created": manifest.created,
        "source": {key: value for key, value in vars(origin).items() if value is not None},
        "recipe": dict(manifest.recipe),
        "model_type": manifest.model_type,
        "context_tokens": manifest.context_tokens,
        "weight_bytes_per_token": manifest.weight_bytes_per_token,
        "files": {name: _file_to_json(record) for name, record in sorted(manifest.files.items())},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_manifest(model_dir: Path) -> Manifest:
    """Read `aipc.json` of `model_dir`.

    Raises `IntegrityError` when it is missing, is no JSON, lacks a key, holds a value of a wrong type or
    names a file outside the directory; `StoreError` when it cannot be read or a newer aipc wrote it.
    """
    path = model_dir / MANIFEST
    fields = _Fields(path, _load(path))
    version = fields.get("format", int)
    if version != FORMAT:
        raise StoreError(
            f"{path} has another format",
            expected=FORMAT,
            found=version,
            try_next="pip install --upgrade aipc",
        )
    return Manifest(
        origin=_origin(fields.within("source")),
        recipe=fields.get("recipe", dict),
        model_type=fields.get("model_type", str),
        context_tokens=fields.get("context_tokens", int),
        weight_bytes_per_token=fields.get("weight_bytes_per_token", int),
        files=_files(fields.within("files")),
        aipc_version=fields.get("aipc_version", str),
        created=fields.get("created", str),
    )


def source_of(model_dir: Path) -> str:
    """What a command would convert to make this model again: where aipc's own came from, the word SOURCE for others."""
    with suppress(StoreError):  # a manifest that cannot be read says nothing about the source
        if (model_dir / MANIFEST).is_file():
            return quoted(read_manifest(model_dir).origin.location)
    return "SOURCE"


def _load(path: Path) -> object:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
        if len(data) > _LARGEST_BYTES:
            raise _corrupt(path, expected=f"at most {_LARGEST_BYTES:,} bytes", found="more")
        return json.loads(data.decode("utf-8"))
    except FileNotFoundError as error:
        raise _corrupt(path, expected="the manifest of a whole model", found="no such file") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", try_next="check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, expected="JSON", found=error) from error


class _Fields:
    """Typed reads of one JSON object; `prefix` is its place in the file."""

    def __init__(self, path: Path, document: object, prefix: str = "") -> None:
        self.path = path
        self.prefix = prefix
        if not isinstance(document, dict):
            raise _corrupt(path, key=prefix, expected="an object", found=type(document).__name__)
        self.document: dict[str, object] = document

    def get(self, key: str, kind: type[_Value]) -> _Value:
        value = self.document.get(key)
        # bool is a kind of int to Python, not to JSON.
        if not isinstance(value, kind) or isinstance(value, bool):
            found = "nothing" if key not in self.document else f"{value!r:.60}"
            raise self.fault(key, expected=kind.__name__, found=found)
        if isinstance(value, int) and value < 0:
            raise self.fault(key, expected="0 or more", found=value)
        return value

    def optional(self, key: str, kind: type[_Value]) -> _Value | None:
        return self.get(key, kind) if key in self.document else None

    def within(self, key: str) -> _Fields:
        return _Fields(self.path, self.get(key, dict), f"{self.prefix}{key}.")

    def sha256(self, key: str) -> str:
        value = self.get(key, str)
        if not _SHA256.fullmatch(value):
            raise self.fault(key, expected="64 hexadecimal digits", found=f"{value!r:.80}")
        return value

    def fault(self, key: str, *, expected: object, found: object) -> IntegrityError:
        return _corrupt(self.path, key=f"{self.prefix}{key}", expected=expected, found=found)


def _origin(fields: _Fields) -> Origin:
    return Origin(
        name=fields.get("name", str),
        location=fields.get("location", str),
        revision=fields.optional("revision", str),
        config_sha256=fields.optional("config_sha256", str),
        fingerprint=fields.optional("fingerprint", str),
    )


def _files(fields: _Fields) -> dict[str, FileRecord]:
    names = [validate_file_name(name, where=str(fields.path), error=IntegrityError) for name in fields.document]
    if not names:
        raise _corrupt(fields.path, key="files", expected="at least one file", found="none")
    return {name: _record(fields.within(name)) for name in names}


def _record(fields: _Fields) -> FileRecord:
    size_bytes = fields.get("size", int)
    # Required, not optional: without it a load would let any change of a large file's middle pass.
    sampled = size_bytes > SAMPLE_OVER_BYTES
    return FileRecord(size_bytes, fields.sha256("sha256"), fields.sha256("sample_sha256") if sampled else None)


def _file_to_json(record: FileRecord) -> dict[str, object]:
    sample = {} if record.sample_sha256 is None else {"sample_sha256": record.sample_sha256}
    return {"size": record.size_bytes, "sha256": record.sha256, **sample}


def _corrupt(path: Path, *, expected: object, found: object, key: str = "") -> IntegrityError:
    return IntegrityError(
        f"{path}, {key.rstrip('.')}" if key else str(path),
        expected=expected,
        found=found,
        try_next="convert the model again",
    )
