"""By what a model is known again, and what makes it another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from model_files import WEIGHTS, XML, write_model

from aipc.errors import StoreError
from aipc.store.identity import model_identity

OPENVINO = {"openvino_model.xml": XML, "openvino_model.bin": WEIGHTS}
ONNX = {"genai_config.json": b"{}", "model.onnx": b"graph", "model.onnx.data": WEIGHTS}


def identity(directory: Path, contents: dict[str, bytes]) -> str:
    return model_identity(write_model(directory, contents=contents))


def test_a_converted_model_is_known_by_its_network_wherever_it_lies(tmp_path: Path) -> None:
    first = identity(tmp_path / "first", OPENVINO)
    assert identity(tmp_path / "copy", {**OPENVINO, "tokenizer.json": b"another"}) == first
    assert identity(tmp_path / "other", {**OPENVINO, "openvino_model.bin": b"other weights"}) != first


def test_a_model_of_onnx_runtime_is_known_by_all_its_files(tmp_path: Path) -> None:
    first = identity(tmp_path / "first", ONNX)
    assert identity(tmp_path / "copy", ONNX) == first
    for name in ONNX:
        assert identity(tmp_path / name, {**ONNX, name: b"other"}) != first


@pytest.mark.parametrize("files", [OPENVINO, ONNX])
def test_without_a_manifest_place_sizes_and_times_count(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
            os.utime(tmp_path / name / file, (4, 4))
    by_place = [model_identity(tmp_path / name) for name in ("one", "two", "one")]
    assert by_place[0] == by_place[2] != by_place[1]
    for file in files:
        before = model_identity(tmp_path / "one")
        os.utime(tmp_path / "one" / file, (5, 5))
        touched = model_identity(tmp_path / "one")
        assert touched != before
        (tmp_path / "one" / file).write_bytes(b"another size")
        os.utime(tmp_path / "one" / file, (5, 5))
        assert model_identity(tmp_path / "one") not in {before, touched}


def test_a_network_beside_the_manifest_of_another_counts(tmp_path: Path) -> None:
    """As where optimum-cli writes into aipc's directory for ONNX Runtime."""
    directory = write_model(tmp_path / "both", contents=ONNX)
    before = model_identity(directory)
    for file, content in OPENVINO.items():
        (directory / file).write_bytes(content)
    added = model_identity(directory)
    os.utime(directory / "openvino_model.bin", (5, 5))
    assert len({before, added, model_identity(directory)}) == 3


def test_a_directory_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        model_identity(tmp_path / "none")
