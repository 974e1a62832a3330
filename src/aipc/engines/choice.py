"""Which engine runs a model: the one that was asked for, the one that has the device, or the one it was made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from aipc.devices.device import kind_of
from aipc.engines.device_names import AUTO, ONNX_ALONE, checked_device
from aipc.engines.onnx_device import found_device, listed_adapters, onnx_kind_of
from aipc.engines.openvino_rehearsal import stand_in
from aipc.errors import EngineError, UsageError
from aipc.onnx_import import import_genai
from aipc.store.manifest import source_of
from aipc.targets import FORMATS, Target, target_of

USUAL_DEVICE = "cpu"


def chosen_engine(engine: str | None, *, device: str | None, properties: Mapping[str, str]) -> str | None:
    """The engine that `engine` and `device` ask for, None where they leave it to the model.

    Raises `UsageError` for an unknown one, or when engine, device and properties contradict each other; for the ONNX
    engine on a device that was named, whose conversion would else come first, `MissingPackageError` and `DeviceError`
    as its `load` does.
    """
    if engine is not None and engine not in FORMATS:
        raise UsageError(f"--engine {engine}", expected=" or ".join(FORMATS), found=repr(engine))
    device = USUAL_DEVICE if device is None else checked_device(device)
    if kind_of(device) in ONNX_ALONE:
        if engine == "openvino":
            raise UsageError(
                f"--engine openvino with --device {device}",
                expected="--engine onnx, or a device of OpenVINO's: cpu, gpu, npu",
                try_next="leave --engine out",
            )
        engine = "onnx"
    if engine == "onnx":
        if properties:
            raise UsageError(
                "--ov-config" if stand_in("NPU", properties) is None else "--rehearse",
                expected="the openvino engine",
                found="the onnx engine",
                try_next="leave --engine out",
            )
        if device != AUTO:
            kind = onnx_kind_of(device)
            if kind == "cuda":
                listed_adapters(kind)  # without a GPU no package would help
            found_device(import_genai(kind), device)
    return engine


def target_for(engine: str | None, device: str | None) -> Target:
    """What a checkpoint is converted to, so that `engine` runs it on `device`; None are OpenVINO and the CPU."""
    return target_of("onnx", onnx_kind_of(device or USUAL_DEVICE)) if engine == "onnx" else target_of("openvino")


def usual_device(module: ModuleType, path: Path) -> str:
    """The device of a model where none is asked for: the one that it was made for, or else the CPU."""
    return str(module.made_for(path)) if hasattr(module, "made_for") else USUAL_DEVICE


def engine_of(path: Path, engine: str | None = None) -> ModuleType:
    """The module of the engine whose kind of directory this is.

    Raises `UsageError` when that is not `engine`, and `EngineError` when it is no engine's.
    """
    from aipc.engines import fake, onnx, openvino

    if (path / fake.MODEL_FILE).is_file():  # a script for the fake engine may lie beside a model
        return fake
    modules = {module.name: module for module in (openvino, onnx) if (path / module.MODEL_FILE).is_file()}
    if not modules:
        raise EngineError(
            f"{path} holds no model that an engine can load",
            expected=f"{openvino.MODEL_FILE} or {onnx.MODEL_FILE}",
            try_next=f"aipc convert {source_of(path)} OUT",
        )
    if engine is None:
        return next(iter(modules.values()))
    if engine not in modules:
        raise UsageError(
            f"{path} is no model for the {engine} engine",
            expected={"openvino": openvino, "onnx": onnx}[engine].MODEL_FILE,
            found=f"a model for {' and '.join(modules)}",
            try_next=f"aipc convert {source_of(path)} OUT --to {engine}",
        )
    return modules[engine]
