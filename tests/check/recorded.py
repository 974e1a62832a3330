"""Models that other programs made, as directories: recorded graphs beside empty files of weights."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from aipc.check.onnx_model import read_onnx
from aipc.check.openvino_ir import read_ir

FIXTURES = Path(__file__).parent / "fixtures"


def unpack(name: str, parent: Path) -> Path:
    """A directory to check, and to damage. An ONNX one needs the onnx package."""
    directory = parent / name
    directory.mkdir(parents=True)
    for file in (FIXTURES / name).iterdir():
        if file.suffix == ".gz":
            (directory / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        else:
            shutil.copyfile(file, directory / file.name)
    return directory if name.startswith("optimum") else _with_data(directory)


def unpack_ir(name: str, parent: Path) -> Path:
    directory = unpack(name, parent)
    end = max(constant.offset + constant.size_bytes for constant in read_ir(directory).constants)
    _empty_file(directory / "openvino_model.bin", end)
    for tokenizer in ("openvino_tokenizer.xml", "openvino_detokenizer.xml"):
        (directory / tokenizer).touch()
    return directory


def _with_data(directory: Path) -> Path:
    external = read_onnx(directory / "model.onnx").external
    for location in {entry.location for entry in external}:
        ends = [entry.offset + (entry.length or 0) for entry in external if entry.location == location]
        _empty_file(directory / location, max(ends))
    return directory


def _empty_file(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)
