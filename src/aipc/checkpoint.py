"""A Hugging Face checkpoint: config.json and *.safetensors, read a window at a time through a memory map.

No code of a checkpoint runs and no pickle is opened. A window is unmapped as soon as its rows are used, so the pages
of a large checkpoint never count as this process's memory.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aipc.config import ConfigFile
from aipc.errors import CheckpointError, WeightError
from aipc.floats import FloatType, Rows
from aipc.store.names import validate_file_name
from aipc.weight import Weight

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_AGAIN = "download the checkpoint again"
_OTHER_MODEL = "check that config.json and the weights are of one model, or download the checkpoint again"


@dataclass(frozen=True)
class StoredWeight:
    """Where a weight lies: `offset` is from the start of its file, in bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    offset: int
    size_bytes: int


class Checkpoint:
    """An opened checkpoint directory. A context manager; its methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        """Read the config and every file's header.

        Raises `ConfigError` for config.json, `WeightError` for a missing, truncated or inconsistent weight file,
        `CheckpointError` when there are no safetensors.
        """
        self.path = path
        self.config = ConfigFile.load(path / "config.json")
        self._files: dict[Path, BinaryIO] = {}
        try:
            self.weights: Mapping[str, StoredWeight] = self._read_headers()
        except BaseException:
            self.close()
            raise

    @property
    def size_bytes(self) -> int:
        return sum(weight.size_bytes for weight in self.weights.values())

    def stored(self, weight: Weight) -> StoredWeight:
        """The entry of `weight`, checked: raises `WeightError` when it is missing or has another shape or dtype."""
        found = self.weights.get(weight.name)
        if found is None:
            raise WeightError(
                f"{self.path}: weight {weight.name}",
                expected=f"shape {list(weight.shape)}",
                found="no such weight",
                try_next=_OTHER_MODEL,
            )
        if found.shape != weight.shape:
            raise WeightError(
                f"{found.file}: weight {weight.name}",
                expected=f"shape {list(weight.shape)} as config.json says",
                found=list(found.shape),
                try_next=_OTHER_MODEL,
            )
        if found.dtype not in FloatType.__members__:
            raise WeightError(
                f"{found.file}: weight {weight.name}",
                expected="dtype F32, F16 or BF16",
                found=found.dtype,
                try_next="the unquantised checkpoint; aipc quantises it itself",
            )
        return found

    def rows(self, weight: Weight, start: int = 0, stop: int | None = None) -> Rows:
        """Rows `start` to `stop` of a weight, (rows, columns), a view into the file; a vector is one row."""
        stored = self.stored(weight)
        float_type = FloatType(stored.dtype)
        row_count, columns = (1, stored.shape[0]) if len(stored.shape) == 1 else stored.shape
        stop = row_count if stop is None else stop
        row_bytes = columns * float_type.bits_type.itemsize
        window = self._map(stored.file, stored.offset + start * row_bytes, (stop - start) * row_bytes)
        return Rows(window.view(float_type.bits_type).reshape(stop - start, columns), float_type)

    def _map(self, file: Path, offset: int, size_bytes: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        margin = offset % mmap.ALLOCATIONGRANULARITY
        handle = self._files[file]
        try:
            window = mmap.mmap(handle.fileno(), size_bytes + margin, access=mmap.ACCESS_READ, offset=offset - margin)
        except (OSError, ValueError) as error:
            raise WeightError(
                f"{file}: cannot be mapped at {offset} for {size_bytes} bytes: {error}", try_next=_AGAIN
            ) from None
        # The array keeps the map alive; the last view to go unmaps it.
        data = np.frombuffer(window, dtype=np.uint8)[margin:]
        if data.ctypes.data % 4 == 0:
            return data
        return data.copy()  # safetensors aligns its data, but an unaligned header is not forbidden

    def close(self) -> None:
        for handle in self._files.values():
            handle.close()
        self._files.clear()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read_headers(self) -> dict[str, StoredWeight]:
        index = self.path / INDEX_NAME
        if index.exists():
            return self._read_shards(index)
        if not (self.path / SINGLE_NAME).exists():
            self._refuse_without_safetensors()
        return self._read_header(self.path / SINGLE_NAME)

    def _read_shards(self, index: Path) -> dict[str, StoredWeight]:
        weight_map = ConfigFile.load(index).section("weight_map")
        if weight_map is None or not weight_map.values:
            raise WeightError(
                f"{index}: weight_map", expected="weight names with file names", found="none", try_next=_AGAIN
            )
        headers: dict[str, dict[str, StoredWeight]] = {}
        weights = {}
        for name in weight_map.values:
            file_name = _checked_file_name(index, weight_map.text(name))
            if file_name not in headers:
                headers[file_name] = self._read_header(self.path / file_name)
            if name not in headers[file_name]:
                raise WeightError(
                    f"{index}: weight {name}", expected=f"in {file_name}", found="no such weight there", try_next=_AGAIN
                )
            weights[name] = headers[file_name][name]
        return weights

    def _read_header(self, file: Path) -> dict[str, StoredWeight]:
        """The weights of one file. The safetensors library checks the header; the offsets are read beside it."""
        import safetensors

        try:
            handle = self._files[file] = file.open("rb")
            with safetensors.safe_open(str(file), framework="numpy"):
                pass
            header_bytes = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(header_bytes))
        except FileNotFoundError:
            raise WeightError(
                f"{file}: no such file", try_next="download the checkpoint again: a shard is missing"
            ) from None
        except OSError as error:
            raise WeightError(
                f"{file} cannot be read: {error.strerror or error}", try_next="check the disk and its permissions"
            ) from None
        except (ValueError, safetensors.SafetensorError) as error:
            raise WeightError(
                f"{file}",
                expected="a whole safetensors file",
                found=str(error),
                try_next="download this file again",
            ) from None
        data_start = 8 + header_bytes
        return {
            name: StoredWeight(
                name=name,
                shape=tuple(entry["shape"]),
                dtype=entry["dtype"],
                file=file,
                offset=data_start + entry["data_offsets"][0],
                size_bytes=entry["data_offsets"][1] - entry["data_offsets"][0],
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }

    def _refuse_without_safetensors(self) -> None:
        pickles = sorted(file.name for file in self.path.iterdir() if file.suffix in _PICKLES)
        if pickles:
            raise CheckpointError(
                f"{self.path}: {pickles[0]} is a pickle, which can run any code when it is opened",
                expected=f"{SINGLE_NAME} or {INDEX_NAME}",
                try_next="the safetensors revision of this checkpoint on the hub",
            )
        raise CheckpointError(
            f"{self.path}", expected=f"{SINGLE_NAME} or {INDEX_NAME}", found="neither", try_next=_AGAIN
        )


def _checked_file_name(index: Path, name: str) -> str:
    """A shard is a plain file name ending in .safetensors; anything that could leave the directory is refused."""
    validate_file_name(name, where=str(index), error=WeightError)
    if not name.endswith(".safetensors"):
        raise WeightError(
            f"{index}: weight_map", expected="names of .safetensors files", found=repr(name), try_next=_AGAIN
        )
    return name
