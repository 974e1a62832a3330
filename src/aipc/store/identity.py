"""What tells a model from others, so that its compiled form and its measurements are found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from aipc.errors import StoreError
from aipc.store.manifest import MANIFEST, read_manifest
from aipc.store.model_files import OPENVINO_BIN, OPENVINO_XML


def model_identity(model_dir: Path) -> str:
    """The sha256s of the manifest. Another tool's directory has none, and is known by its place, and by its files'
    sizes and times.

    Of an OpenVINO directory the network's files alone count: neither a compiled model nor a speed changes with the
    tokenizer. Of others all files do. Raises `StoreError` when one cannot be read.
    """
    recorded = read_manifest(model_dir).files if (model_dir / MANIFEST).is_file() else {}
    try:
        names = _counting(model_dir, recorded)
        if recorded.keys() >= set(names):
            return f"sha256 {_digest(''.join(recorded[name].sha256 for name in names))}"
        found = [(model_dir / name).stat() for name in names]
    except OSError as error:
        raise StoreError(f"{model_dir} cannot be read: {error.strerror}") from error
    place = str(model_dir.resolve())
    return f"files {_digest(json.dumps([place, *((status.st_size, status.st_mtime_ns) for status in found)]))}"


def _counting(model_dir: Path, recorded: Iterable[str]) -> list[str]:
    if (model_dir / OPENVINO_XML).is_file():
        return [OPENVINO_XML, OPENVINO_BIN]
    return sorted(recorded) or sorted(entry.name for entry in model_dir.iterdir() if entry.is_file())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
