"""What a checkpoint is converted to, and where it runs, when the device is auto's to choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx_models import FakeGenai
from recorded_machine import RecordedMachine

from aipc.check import check
from aipc.conversion import convert
from aipc.devices import doctor
from aipc.engines import choice, onnx, onnx_device, openvino
from aipc.engines.openvino_rehearsal import REHEARSAL
from aipc.errors import DeviceError, UsageError
from aipc.placing import Placed, placed, wanted_place
from aipc.progress import silent
from aipc.quant.recipe import Recipe
from aipc.store import models

pytest.importorskip("onnx", reason='onnx is missing: pip install ".[onnx]"')


def place(machine: str, model: Path, monkeypatch: pytest.MonkeyPatch, engine: str | None = None) -> Placed:
    """`--device auto` on a recorded PC, whose packages have every provider."""
    monkeypatch.setattr(doctor, "ThisPc", lambda: RecordedMachine(machine))
    monkeypatch.setattr(choice, "import_genai", lambda *_: FakeGenai(dml=True, cuda=True))
    for kind in ("directml", "cuda"):
        monkeypatch.setitem(onnx_device.ADAPTERS, kind, lambda: ["an adapter", "another"])
    wanted = wanted_place("auto", engine=engine, require_device=None, properties={})
    return placed(model, None, wanted, progress=silent)


@pytest.mark.parametrize(
    ("machine", "engine", "device", "file"),
    [
        ("meteor-lake-linux", "openvino", "gpu", openvino.MODEL_FILE),
        ("nvidia-linux", "onnx", "cuda.0", onnx.MODEL_FILE),
        ("meteor-lake-windows", "onnx", "directml.0", onnx.MODEL_FILE),
        ("snapdragon-x-windows", "onnx", "cpu", onnx.MODEL_FILE),
        ("xeon-vm-linux", "openvino", "cpu", openvino.MODEL_FILE),
    ],
)
def test_a_checkpoint_is_converted_for_the_first_device_of_the_rule(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_dir: Path, machine: str, engine: str, device: str, file: str
) -> None:
    found = place(machine, tiny_checkpoint_dir, monkeypatch)
    assert (found.engine, found.device) == (engine, device)
    assert (found.ready.path / file).is_file()
    assert found.device_choice is not None and f" by {engine}: " in found.device_choice


def test_an_engine_that_was_named_is_kept(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_dir: Path) -> None:
    found = place("meteor-lake-windows", tiny_checkpoint_dir, monkeypatch, engine="openvino")
    assert (found.engine, found.device) == ("openvino", "gpu.0")


def test_a_directory_for_one_device_runs_there_or_nowhere(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_dir: Path
) -> None:
    directml = place("meteor-lake-windows", tiny_checkpoint_dir, monkeypatch).ready.path
    assert place("meteor-lake-windows", directml, monkeypatch).device == "directml.0"
    with pytest.raises(DeviceError, match=r"the model was made for directml(.|\n)*try: aipc convert .*--to openvino"):
        place("xeon-vm-linux", directml, monkeypatch)


def test_auto_converts_nothing_for_a_required_device_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_dir: Path
) -> None:
    monkeypatch.setattr(doctor, "ThisPc", lambda: RecordedMachine("xeon-vm-linux"))
    wanted = wanted_place("auto", engine=None, require_device="npu", properties={})
    with pytest.raises(DeviceError, match=r"--device auto takes cpu: expected --require-device npu"):
        placed(tiny_checkpoint_dir, None, wanted, progress=silent)
    assert models() == []


def test_a_property_that_openvino_refuses_is_told_before_a_conversion(tiny_checkpoint_dir: Path) -> None:
    wanted = wanted_place(None, engine=None, require_device=None, properties={"NUM_STREAMS": "banana"})
    with pytest.raises(UsageError, match="NUM_STREAMS=banana"):
        placed(tiny_checkpoint_dir, None, wanted, progress=silent)
    assert models() == []


@pytest.mark.parametrize(
    "choice",
    [
        {"weights": "fp16"},
        {"weights": "int8"},
        {"weights": "int8", "symmetric": True},
        {"weights": "int4", "group_size": 32},
        {"weights": "int4", "group_size": 64},
        {"weights": "int4", "group_size": -1},
        {"weights": "int4", "group_size": 64, "symmetric": False},
        {"weights": "int4", "group_size": 64, "ratio": 0.5},
        {"weights": "int4", "group_size": 64, "ratio": 0.0},
        {"weights": "int4", "group_size": 64, "all_layers": True},
    ],
)
def test_a_recipe_that_the_npu_refuses_is_told_before_a_conversion(
    tiny_checkpoint_dir: Path, tmp_path: Path, choice: dict[str, Any]
) -> None:
    """As the check says of what the conversion would have made."""
    convert(tiny_checkpoint_dir, tmp_path / "made", **choice)
    wanted = wanted_place("npu", engine=None, require_device=None, properties=REHEARSAL)
    try:
        placed(tiny_checkpoint_dir, Recipe(**choice), wanted, progress=silent)
    except DeviceError as error:
        assert "does not take this recipe" in error.what
    assert bool(models()) == check(tmp_path / "made", "npu").passes
