"""Which engine runs a model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from onnx_models import FakeGenai

from aipc.devices.known import NotAvailable
from aipc.engines import choice, fake, onnx, onnx_device, openvino
from aipc.engines.choice import chosen_engine, engine_of, target_for
from aipc.errors import DeviceError, EngineError, UsageError
from aipc.quant.recipe import Recipe


@pytest.fixture(autouse=True)
def _other_pc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "import_genai", lambda *_: FakeGenai(dml=True, cuda=True))
    for kind in ("directml", "cuda"):
        monkeypatch.setitem(onnx_device.ADAPTERS, kind, lambda: ["an adapter"])


@pytest.mark.parametrize(
    ("engine", "device", "expected"),
    [
        (None, "cpu", None),
        (None, "directml", "onnx"),
        (None, "DirectML.0", "onnx"),
        (None, "cuda", "onnx"),
        ("onnx", "cpu", "onnx"),
        ("onnx", "directml", "onnx"),
        ("openvino", "gpu.1", "openvino"),
    ],
)
def test_a_device_that_one_engine_has_chooses_it(engine: str | None, device: str, expected: str | None) -> None:
    assert chosen_engine(engine, device=device, properties={}) == expected


def test_without_an_nvidia_gpu_no_package_for_it_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnx_device.ADAPTERS, "cuda", lambda: NotAvailable("no driver"))
    monkeypatch.setattr(choice, "import_genai", lambda *_: pytest.fail("imported"))
    with pytest.raises(DeviceError, match="no NVIDIA GPU is there: found no driver\ntry: --device cpu"):
        chosen_engine(None, device="cuda", properties={})


def test_contradictions_are_wrong_usage_before_any_work() -> None:
    with pytest.raises(UsageError, match="openvino or onnx"):
        chosen_engine("llama", device="cpu", properties={})
    with pytest.raises(UsageError, match="--engine openvino with --device directml"):
        chosen_engine("openvino", device="directml", properties={})
    for engine, device in (("onnx", "cpu"), (None, "cuda")):
        with pytest.raises(UsageError, match="--ov-config"):
            chosen_engine(engine, device=device, properties={"NUM_STREAMS": "1"})
    with pytest.raises(DeviceError, match="none of ONNX Runtime's"):
        chosen_engine("onnx", device="npu", properties={})


def test_a_device_that_is_not_there_is_found_out_before_a_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "import_genai", lambda *_: FakeGenai())
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(DeviceError, match=r"aipc\[directml\]"):
        chosen_engine(None, device="directml", properties={})


def test_a_checkpoint_is_converted_for_the_engine_and_its_device() -> None:
    labels = [
        target_for(*one).label(Recipe("int8")) for one in ((None, "npu"), ("openvino", "cpu"), ("onnx", "cuda.1"))
    ]
    assert labels == ["int8-asym", "int8-asym", "onnx-cuda-int8-asym"]


def test_a_directory_runs_by_the_engine_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"openvino_model\.xml or genai_config\.json"):
        engine_of(tmp_path)
    (tmp_path / "genai_config.json").touch()
    assert engine_of(tmp_path) is engine_of(tmp_path, "onnx") is onnx
    with pytest.raises(UsageError, match=r"no model for the openvino engine(.|\n)*--to openvino"):
        engine_of(tmp_path, "openvino")
    (tmp_path / "openvino_model.xml").touch()
    assert engine_of(tmp_path) is openvino
    assert engine_of(tmp_path, "onnx") is onnx
    (tmp_path / "fake_engine.json").touch()
    assert engine_of(tmp_path) is fake
