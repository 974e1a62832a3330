"""Where a model runs: what was asked for, and the directory, engine and device that it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from aipc.devices.device import kind_of
from aipc.engines import Session
from aipc.engines.choice import USUAL_DEVICE, chosen_engine, engine_of, target_for, usual_device
from aipc.engines.device_names import AUTO, checked_device, checked_required, fulfils
from aipc.engines.openvino_rehearsal import parts_elsewhere, stand_in
from aipc.errors import DeviceError, UsageError
from aipc.progress import Progress
from aipc.quant.recipe import Recipe
from aipc.ready import ReadyModel, ready_model
from aipc.store import resolve


@dataclass(frozen=True)
class Wanted:
    """What was asked for; None leaves it open. Nothing may run but on the device `required`."""

    device: str | None
    engine: str | None
    required: str | None
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Placed:
    """A directory that can be loaded, and where. `device_choice` is why `--device auto` took the device."""

    ready: ReadyModel
    wanted: Wanted
    device: str | None
    engine: str | None
    device_choice: str | None = None

    def device_for(self, module: ModuleType) -> str:
        """The device, where none was named the usual one of the directory or else the required one."""
        if self.device is not None:
            return self.device
        usual, required = usual_device(module, self.ready.path), self.wanted.required
        return usual if required is None or fulfils(usual, required) else required


def wanted_place(
    device: str | None, *, engine: str | None, require_device: str | None, properties: Mapping[str, str]
) -> Wanted:
    """The arguments of `aipc.load`, compared with each other before any work. Raises as `chosen_engine`."""
    device = None if device is None else checked_device(device)
    if require_device is not None:
        require_device = checked_required(require_device, device)
        _refuse_other_parts(require_device, properties)
    engine = chosen_engine(engine, device=device or require_device, properties=properties)
    return Wanted(device, engine, require_device, properties)


def _refuse_other_parts(required: str, properties: Mapping[str, str]) -> None:
    """Before a model is compiled for it: a rehearsal, and a pipeline of which OpenVINO may put parts elsewhere."""
    elsewhere, other = parts_elsewhere(properties), stand_in("NPU", properties)
    if kind_of(required) == "npu" and elsewhere is not None:
        raise UsageError(
            f"--require-device {required}",
            expected=f"a run on the {required}",
            found=f"a rehearsal on the {other}" if other else f"{elsewhere}, which may place parts on another device",
            try_next="leave one of the two out",
        )


def placed(model: str | Path | None, recipe: Recipe | None, wanted: Wanted, *, progress: Progress) -> Placed:
    """Find MODEL as `ready_model` does, and its device. Raises a leaf of `AipcError`."""
    if wanted.device == AUTO:
        return _placed_by_itself(model, recipe, wanted, progress)
    device = wanted.device or wanted.required
    if wanted.engine != "onnx" and resolve(model).is_to_be_converted:
        _check_there(device or USUAL_DEVICE, wanted.properties)
        _check_recipe(device, recipe)
    ready = ready_model(model, recipe, target_for(wanted.engine, device), progress=progress)
    return Placed(ready, wanted, wanted.device, wanted.engine)


def _check_there(device: str, properties: Mapping[str, str]) -> None:
    """Before gigabytes are downloaded and converted for what OpenVINO does not see, or does not take."""
    if kind_of(device) in ("gpu", "npu") or properties:
        from aipc.engines.openvino_device import checked_properties, found_device
        from aipc.openvino_import import import_openvino

        core = import_openvino().Core()
        checked_properties(core, found_device(core, device, properties), properties)


def _check_recipe(device: str | None, recipe: Recipe | None) -> None:
    """Before a model is made that the NPU does not take."""
    if device is None or recipe is None or kind_of(device) != "npu":
        return
    from aipc.check.rules_npu import refused_choice

    refused = refused_choice(recipe)
    if refused is not None:
        expected, found = refused
        raise DeviceError("the NPU does not take this recipe", expected=expected, found=found, try_next=expected)


def _placed_by_itself(model: str | Path | None, recipe: Recipe | None, wanted: Wanted, progress: Progress) -> Placed:
    from aipc.automatic import candidates, pick
    from aipc.devices.doctor import examine

    progress("devices", 0, 0)
    report = examine()
    engine = "openvino" if wanted.properties else wanted.engine
    possible = candidates(report, engine)
    if wanted.required is not None and not any(fulfils(one.name, wanted.required) for one in possible):
        raise _auto_takes(possible[0].name, wanted.required, why="none of these here on which an engine runs")
    first = possible[0]
    ready = ready_model(model, recipe, target_for(first.engine, first.name), progress=progress)
    engine_of(ready.path, engine)  # a directory that is no model for the engine that was asked for
    picked = pick(report, possible, ready)
    if wanted.required is not None and not fulfils(picked.device, wanted.required):
        raise _auto_takes(picked.device, wanted.required, why=picked.why)
    chosen = chosen_engine(picked.engine, device=picked.device, properties=wanted.properties)
    return Placed(ready, wanted, picked.device, chosen, picked.why)


def _auto_takes(device: str, required: str, *, why: str) -> DeviceError:
    return DeviceError(
        f"--device auto takes {device}",
        expected=f"--require-device {required}",
        found=why,
        try_next=_doctor(required),
    )


def check_required(session: Session, required: str | None) -> None:
    """Raise `DeviceError` when `session` runs elsewhere, or is a rehearsal, which is no run on the device it names."""
    if required is None or (fulfils(session.device, required) and not session.is_rehearsal):
        return
    raise DeviceError(
        "another device would run",
        expected=f"--require-device {required}",
        found=f"{session.device} ({session.device_name})",
        try_next=_doctor(required),
    )


def _doctor(device: str) -> str:
    return f"aipc devices {device.lower()}" if kind_of(device) in ("cpu", "gpu", "npu") else "aipc devices"
