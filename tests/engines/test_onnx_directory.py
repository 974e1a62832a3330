"""What is refused before ONNX Runtime sees it. None of this needs its packages but where a model is converted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import convert_to_onnx, genai_or_skip
from tiny_checkpoint import write_checkpoint

from aipc.engines.onnx_directory import read_directory
from aipc.engines.onnx_file import read_onnx
from aipc.errors import EngineError

genai_or_skip()

import onnx  # noqa: E402

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint_dir: Path) -> Path:
    return convert_to_onnx(tiny_checkpoint_dir, tmp_path_factory.mktemp("onnx") / "model", "int4", group_size=32)


@pytest.fixture
def model_dir(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def change(model_dir: Path, edit: Change) -> None:
    path = model_dir / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    edit(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def change_model(model_dir: Path, edit: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(model_dir / "model.onnx", load_external_data=False)
    edit(model)
    (model_dir / "model.onnx").write_bytes(model.SerializeToString())


def test_a_whole_directory_says_what_running_it_needs(model_dir: Path) -> None:
    found = read_directory(model_dir)
    assert (found.device, found.context_tokens, found.vocabulary_tokens) == ("cpu", 256, 512)
    assert (found.kv_element_bytes, found.options) == (4, {})


@pytest.mark.parametrize(
    ("device", "options"), [("directml", {"enable_graph_capture": "1"}), ("cuda", {"enable_cuda_graph": "0"})]
)
def test_a_directory_says_which_device_it_was_made_for(
    tiny_checkpoint_dir: Path, tmp_path: Path, device: str, options: dict[str, str]
) -> None:
    found = read_directory(convert_to_onnx(tiny_checkpoint_dir, tmp_path / "model", "fp16", device))
    assert (found.device, found.options, found.kv_element_bytes) == (device, options, 2)


@pytest.mark.parametrize("shape", ["phi-3-mini-128k", "phi-4"])
def test_the_reader_finds_what_the_onnx_package_finds(shape: str, tmp_path: Path) -> None:
    out = convert_to_onnx(write_checkpoint(tmp_path / "checkpoint", shape), tmp_path / "model", "int8")
    model = onnx.load(out / "model.onnx", load_external_data=False)
    found = read_onnx(out / "model.onnx")
    assert found.inputs == {one.name: one.type.tensor_type.elem_type for one in model.graph.input}
    tensors = [one for one in model.graph.initializer if one.external_data]
    assert [one.tensor for one in found.external] == [one.name for one in tensors]
    for one, tensor in zip(found.external, tensors, strict=True):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert (one.location, one.offset, one.size_bytes) == (
            entries["location"],
            int(entries["offset"]),
            int(entries["length"]),
        )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_graph_is_read_or_refused_and_nothing_else(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    graph = bytearray((whole / "model.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        graph[data.draw(st.integers(0, len(graph) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(graph[: data.draw(st.integers(0, len(graph)))])
    try:
        read_onnx(path)
    except EngineError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_a_truncated_graph_is_named(model_dir: Path, size: int) -> None:
    os.truncate(model_dir / "model.onnx", size)
    with pytest.raises(EngineError, match=r"model\.onnx is no whole ONNX model"):
        read_directory(model_dir)


def test_a_missing_graph_and_a_graph_that_is_text_are_named(model_dir: Path) -> None:
    (model_dir / "model.onnx").write_text("<html>404</html>", encoding="utf-8")
    with pytest.raises(EngineError, match=r"model\.onnx is no whole ONNX model"):
        read_directory(model_dir)
    (model_dir / "model.onnx").unlink()
    with pytest.raises(EngineError, match=r"model\.onnx cannot be read"):
        read_directory(model_dir)


def test_short_and_missing_data_is_named(model_dir: Path) -> None:
    data = model_dir / "model.onnx.data"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(EngineError, match=r"model\.onnx\.data is too short: expected \d+ bytes, where tensor .* ends"):
        read_directory(model_dir)
    data.unlink()
    with pytest.raises(EngineError, match=r"model\.onnx\.data cannot be read"):
        read_directory(model_dir)


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "C:\\secret", "sub/file", "*/_ORT_MEM_ADDR_/*", "..", "", "nul"]
)
def test_data_outside_of_the_directory_is_refused(model_dir: Path, location: str) -> None:
    (model_dir.parent / "secret").write_bytes(bytes(10_000_000))

    def edit(model: onnx.ModelProto) -> None:
        entry = next(one for one in model.graph.initializer if one.external_data).external_data[0]
        assert entry.key == "location"
        entry.value = location

    change_model(model_dir, edit)
    with pytest.raises(EngineError, match="not safe to open"):
        read_directory(model_dir)


def test_data_outside_is_found_in_the_branches_of_an_if_too(model_dir: Path) -> None:
    tensor = onnx.TensorProto(name="hidden", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    inner = onnx.helper.make_graph([], "branch", [], [], initializer=[tensor])
    node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    change_model(model_dir, lambda model: model.graph.node.append(node))
    with pytest.raises(EngineError, match="hidden names a file that is not safe"):
        read_directory(model_dir)


@pytest.mark.parametrize("number", ["-1", "1e3", "9" * 5000, "x", ""])
def test_an_offset_that_is_no_number_is_refused(model_dir: Path, number: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        entries = next(one for one in model.graph.initializer if one.external_data).external_data
        next(entry for entry in entries if entry.key == "offset").value = number

    change_model(model_dir, edit)
    with pytest.raises(EngineError, match="offset"):
        read_directory(model_dir)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ufeff{}", '{"model": 3}', "{}", '{"model": {}}'])
def test_a_config_that_is_no_json_or_lacks_its_parts_is_named(model_dir: Path, text: str) -> None:
    (model_dir / "genai_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(EngineError, match=r"genai_config\.json"):
        read_directory(model_dir)


def set_session(key: str, value: object) -> Change:
    return lambda config: config["model"]["decoder"]["session_options"].update({key: value})


def set_decoder(key: str, value: object) -> Change:
    return lambda config: config["model"]["decoder"].update({key: value})


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (set_session("custom_ops_library", "evil.so"), "custom_ops_library"),
        (set_session("enable_profiling", "/tmp/anywhere"), "enable_profiling"),
        (set_session("session.optimized_model_filepath", "x"), "optimized_model_filepath"),
        (set_session("provider_options", [{"QNN": {"backend_path": "evil.dll"}}]), "provider_options"),
        (set_session("provider_options", [{"cuda": {"gpu_external_alloc": "1"}}]), "provider_options"),
        (set_session("provider_options", [{"cuda": {}}, {"dml": {}}]), "provider_options"),
        (set_session("provider_options", "cuda"), "provider_options"),
        (set_session("provider_options", [{"dml": 3}]), "provider_options"),
        (set_decoder("filename", "../other/model.onnx"), "not safe to open"),
        (set_decoder("filename", "/etc/passwd"), "not safe to open"),
        (set_decoder("filename", 3), "filename"),
        (set_decoder("filename", "other.onnx"), r"other\.onnx cannot be read"),
        (set_decoder("pipeline", [{"embeds": {"filename": "x"}}]), "pipeline"),
        (lambda config: config["model"].update(vision={"filename": "x"}), "vision"),
        (lambda config: config["model"].update(context_length=0), "context_length"),
        (lambda config: config["model"].pop("vocab_size"), "vocab_size"),
        (lambda config: config["model"].update(decoder=[]), "decoder"),
    ],
)
def test_a_config_that_would_load_or_write_something_else_is_refused(model_dir: Path, edit: Change, named: str) -> None:
    change(model_dir, edit)
    with pytest.raises(EngineError, match=named):
        read_directory(model_dir)


def test_a_directory_without_a_model_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"convert .* --to onnx"):
        read_directory(tmp_path)
