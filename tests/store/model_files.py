"""Small models in the store, written as a conversion writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aipc.store import FileHasher, Manifest, Origin, writing
from aipc.store.hashing import SAMPLE_OVER_BYTES

XML = b"<net/>"
WEIGHTS = bytes(range(256)) * 40
LARGE_BYTES = SAMPLE_OVER_BYTES + 3_000_017


def manifest_of(name: str = "tiny", **files: object) -> Manifest:
    return Manifest(
        origin=Origin(name, f"/checkpoints/{name}"),
        recipe={"weights": "int4", "group_size": 128},
        model_type="phi3",
        context_tokens=4096,
        weight_bytes_per_token=123,
        **files,  # type: ignore[arg-type]
    )


def write_model(
    destination: Path, *, contents: Mapping[str, bytes] | None = None, force: bool = False, manifest=None
) -> Path:
    contents = contents or {"openvino_model.xml": XML, "openvino_model.bin": WEIGHTS}
    with writing(destination, needed_bytes=100_000, force=force) as task:
        for name, data in contents.items():
            (task.directory / name).write_bytes(data)
        task.commit(manifest or manifest_of())
    return destination


def hasher_of(data: bytes) -> FileHasher:
    hasher = FileHasher(len(data))
    hasher.update(data)
    return hasher


def record_of(data: bytes):
    return hasher_of(data).result()
