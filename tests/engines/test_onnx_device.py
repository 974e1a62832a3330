"""Devices that are not here, by a stand-in for GenAI: what is found, what is refused, and what GenAI is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from onnx_models import FakeGenai, convert_to_onnx
from tiny_checkpoint import write_checkpoint

from aipc.devices.known import NotAvailable
from aipc.engines import LoadOptions, onnx_device
from aipc.engines import onnx as engine
from aipc.engines.onnx_device import OnnxDevice, found_device
from aipc.errors import DeviceError

ADAPTERS = ["AMD Radeon RX 7600", "Intel(R) Arc(TM) Graphics"]


@pytest.fixture(autouse=True)
def _other_pc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnx_device.ADAPTERS, "directml", lambda: ADAPTERS)
    monkeypatch.setitem(onnx_device.ADAPTERS, "cuda", lambda: ["NVIDIA GeForce RTX 4060"])
    monkeypatch.setattr(engine, "_opened_adapters", {})


EVERYTHING = FakeGenai(dml=True, cuda=True)


@pytest.mark.parametrize(
    ("device", "id_", "name"),
    [
        ("directml", "DIRECTML.0", ADAPTERS[0]),
        ("DirectML.1", "DIRECTML.1", ADAPTERS[1]),
        ("directml.arc", "DIRECTML.1", ADAPTERS[1]),
        ("cuda", "CUDA.0", "NVIDIA GeForce RTX 4060"),
        ("cuda.0", "CUDA.0", "NVIDIA GeForce RTX 4060"),
    ],
)
def test_an_adapter_is_found_by_its_place_or_its_name(device: str, id_: str, name: str) -> None:
    found = found_device(EVERYTHING, device)
    assert (found.id, found.name) == (id_, name)


@pytest.mark.parametrize(
    "device", ["directml.2", "directml.", "directml.geforce", "directml.r", "directml.-1", "cuda.1"]
)
def test_an_adapter_that_is_not_there_or_not_the_only_one_is_an_error_that_lists_them(device: str) -> None:
    with pytest.raises(DeviceError, match=r"not there: expected one that is \(\w+\.0 \("):
        found_device(EVERYTHING, device)


@pytest.mark.parametrize("device", ["npu", "gpu", "gpu.1", "webgpu", "", "auto", "dml", "CPUExecutionProvider"])
def test_an_unknown_provider_is_never_the_cpu(device: str) -> None:
    with pytest.raises(DeviceError, match="cpu or directml or cuda"):
        found_device(EVERYTHING, device)


def test_a_provider_that_the_package_lacks_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"pip install .aipc\[cuda\]"):
        found_device(FakeGenai(dml=True), "cuda")
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(DeviceError, match=r'pip install "aipc\[directml\]"'):
        found_device(FakeGenai(cuda=True), "directml")
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(DeviceError, match="only on Windows"):
        found_device(FakeGenai(), "directml")


def test_an_adapter_that_cannot_be_listed_is_taken_by_its_index_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnx_device.ADAPTERS, "directml", lambda: NotAvailable("an old Windows"))
    assert found_device(EVERYTHING, "directml") == OnnxDevice("directml", None, "an adapter whose name is not known")
    assert found_device(EVERYTHING, "directml.1").index == 1
    with pytest.raises(DeviceError, match="an old Windows"):
        found_device(EVERYTHING, "directml.arc")
    monkeypatch.setitem(onnx_device.ADAPTERS, "cuda", lambda: NotAvailable("no driver"))
    with pytest.raises(DeviceError, match="no driver"):
        found_device(EVERYTHING, "cuda")
    with pytest.raises(DeviceError, match="no NVIDIA GPU is there: found no driver"):
        found_device(FakeGenai(), "cuda")  # another package would not help


def loaded(monkeypatch: pytest.MonkeyPatch, genai: FakeGenai, model_dir: Path, device: str) -> engine.OnnxSession:
    monkeypatch.setattr(engine, "import_genai", lambda *_: genai)
    return engine.load(model_dir, device, LoadOptions(rope_switch_tokens=64))


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("onnx", reason='onnx is missing: pip install ".[onnx]"')
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("onnx") / "checkpoint", "phi-3-mini-128k")
    return {
        device: convert_to_onnx(checkpoint, checkpoint.parent / device, "int4", device, group_size=32)
        for device in ("cpu", "directml", "cuda")
    }


def test_genai_is_told_the_provider_its_adapter_and_the_directorys_options(
    monkeypatch: pytest.MonkeyPatch, directories: dict[str, Path]
) -> None:
    genai = FakeGenai(dml=True, cuda=True)
    by_directml = loaded(monkeypatch, genai, directories["directml"], "directml.1")
    by_cuda = loaded(monkeypatch, genai, directories["cuda"], "cuda")
    by_cpu = loaded(monkeypatch, genai, directories["cpu"], "cpu")
    assert [config.providers for config in genai.configs] == [["dml"], ["cuda"], []]
    assert [config.options for config in genai.configs] == [
        {("dml", "enable_graph_capture"): "1", ("dml", "device_index"): "1"},
        {("cuda", "enable_cuda_graph"): "0", ("cuda", "device_id"): "0"},
        {},
    ]
    assert {json.loads(config.overlays[0])["model"]["type"] for config in genai.configs} == {"llama"}
    assert [one.device for one in (by_directml, by_cuda, by_cpu)] == ["DIRECTML.1", "CUDA.0", "CPU"]
    assert [one.device_name for one in (by_directml, by_cuda)] == [ADAPTERS[1], "NVIDIA GeForce RTX 4060"]
    # DirectML takes a prompt whole; the others in pieces.
    assert [one._chunk_tokens(60) for one in (by_directml, by_cuda, by_cpu)] == [None, 1024, 128]


def test_a_device_other_than_the_one_asked_for_is_an_error(
    monkeypatch: pytest.MonkeyPatch, directories: dict[str, Path]
) -> None:
    with pytest.raises(DeviceError, match=r"took another device than CUDA\.0: found CPU"):
        loaded(monkeypatch, FakeGenai(cuda=True, device_type="CPU"), directories["cuda"], "cuda")


@pytest.mark.parametrize("made_for", ["cpu", "directml", "cuda"])
@pytest.mark.parametrize("device", ["cpu", "directml", "cuda"])
def test_a_directory_for_another_device_is_refused_with_the_command_that_makes_the_right_one(
    monkeypatch: pytest.MonkeyPatch, directories: dict[str, Path], made_for: str, device: str
) -> None:
    if made_for == device:
        return
    with pytest.raises(DeviceError, match=f"made for {made_for}(.|\n)*convert .* OUT --to onnx --device {device}"):
        loaded(monkeypatch, FakeGenai(dml=True, cuda=True), directories[made_for], device)


def test_a_second_directml_adapter_in_one_process_is_refused(
    monkeypatch: pytest.MonkeyPatch, directories: dict[str, Path]
) -> None:
    genai = FakeGenai(dml=True)
    loaded(monkeypatch, genai, directories["directml"], "directml.0")
    loaded(monkeypatch, genai, directories["directml"], "directml")
    with pytest.raises(DeviceError, match="one adapter in a process"):
        loaded(monkeypatch, genai, directories["directml"], "directml.1")
