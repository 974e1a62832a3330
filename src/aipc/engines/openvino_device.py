"""Which of OpenVINO's devices is meant, and which properties it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from aipc.engines.openvino_lengths import static_lengths
from aipc.engines.openvino_rehearsal import REHEARSAL, parts_elsewhere, stand_in
from aipc.errors import UsageError
from aipc.openvino_import import first_useful_line, import_openvino

# Properties of the runtime and of the pipelines, which no device lists as its own.
# https://docs.openvino.ai/2026/openvino-workflow/running-inference.html
RUNTIME_PROPERTIES = frozenset({"CACHE_DIR", "CACHE_MODE", "ENABLE_MMAP"})
NPU_PIPELINE_PROPERTIES = frozenset(
    {"MAX_PROMPT_LEN", "MIN_RESPONSE_LEN", "PREFILL_HINT", "GENERATE_HINT", "EXPORT_BLOB", "BLOB_PATH", "NPU_USE_NPUW"}
)

# Lengths have checks of their own; a cache's directory would be made; the others are openvino-genai's.
_CHECKED_ELSEWHERE = NPU_PIPELINE_PROPERTIES | {"CACHE_DIR"}
_NPU_REFUSES = "Failed to parse"

_PRECISION, _GROUP_SIZE = "INFERENCE_PRECISION_HINT", "DYNAMIC_QUANTIZATION_GROUP_SIZE"
_MODE = "EXECUTION_MODE_HINT"  # it sets those two, and the types of a KV cache, which a static pipeline has as inputs


def found_device(core: Any, device: str, properties: Mapping[str, str]) -> str:
    """OpenVINO's spelling of `device`. Raises `DeviceError` when it is not there: nothing is taken in its place."""
    wanted = device.upper()
    if wanted == "CPU" and _why_not(core, wanted) is None:
        return wanted  # without a look at the others, whose plugins and drivers would be loaded for it
    available = [str(name) for name in core.available_devices]
    is_there = wanted in available or any(name.startswith(f"{wanted}.") for name in available)
    if is_there or stand_in(wanted, properties) is not None:
        return wanted
    alone = wanted.removesuffix(".0")
    if alone in available:  # OpenVINO numbers a kind's devices only where there are several
        return alone
    from aipc.engines.openvino_absent import absent_device  # the doctor, whom nobody needs who has the device

    raise absent_device(device, available, _why_not(core, wanted))


def _why_not(core: Any, device: str) -> str | None:
    try:
        core.get_property(device, "FULL_DEVICE_NAME")
    except RuntimeError as error:
        return first_useful_line(error)
    return None


def full_name(core: Any, device: str, properties: Mapping[str, str]) -> str:
    """The name a person knows the device by, or its id when OpenVINO offers none; in a rehearsal, the stand-in's."""
    runs_on = stand_in(device, properties) or device
    try:
        return str(core.get_property(runs_on, "FULL_DEVICE_NAME")).strip()
    except RuntimeError:
        return runs_on


def checked_properties(core: Any, device: str, properties: Mapping[str, str]) -> dict[str, str | int]:
    """`properties` as OpenVINO takes them.

    Raises `UsageError` for one that the device does not have or cannot set, for a value that it does not take, and for
    one that leaves open what runs.
    """
    known = _settable(core, device)
    if stand_in(device, properties) is not None:
        known |= REHEARSAL.keys()  # some of these go on to the stand-in
    elif device == "NPU" and (elsewhere := parts_elsewhere(properties)) is not None:
        raise UsageError(
            f"{elsewhere} leaves open what runs",
            expected="the NPU alone, or in a rehearsal other devices alone",
            found="devices of which OpenVINO takes the next where one fails, without a word",
            try_next="leave it out; --rehearse runs all of it on the CPU",
        )
    for name, value in properties.items():
        if name not in known and not (device == "NPU" and name.startswith("NPUW_")):
            raise _unknown_property(device, name, known)
        if REHEARSAL.get(name) != value:
            _check_value(core, device, name, value)
    _check_stand_ins(core, properties)
    checked: dict[str, str | int] = dict(properties)
    if device == "NPU":
        checked.update(static_lengths(properties).as_properties())
    return checked


def stand_ins_own(core: Any, properties: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """For each device that runs the NPU's pipeline in the NPU's place, those of `properties` that it can be told.

    A device that has none is left out, and one that is not there: OpenVINO says so when it compiles.
    """
    names = stand_in("NPU", properties)
    told = {}
    for device in names.split(", ") if names else ():
        settable = _own_settable(core, device)
        if own := {name: value for name, value in properties.items() if name in settable}:
            told[device] = own
    return told


def _own_settable(core: Any, device: str) -> frozenset[str]:
    try:
        supported = core.get_property(device, "SUPPORTED_PROPERTIES")
    except RuntimeError:
        return frozenset()
    return frozenset(name for name, access in supported.items() if access == "RW")


def lost_in_blob(core: Any, told: Any, properties: Mapping[str, str]) -> str | None:
    """What a stand-in of the NPU's would do otherwise once it has loaded a blob, for a person; None if nothing.

    A blob brings a stand-in's part of the model without the properties it was compiled with. `core` is told nothing;
    `told`, another core, is told them, and so says what they amount to on this PC.
    """
    for device, own in stand_ins_own(core, properties).items():
        told.set_property(device, own)
        names = (own.keys() | {_PRECISION, _GROUP_SIZE}) - {_MODE}
        for name in sorted(names & _own_settable(core, device)):
            without, wanted = _setting(core, device, name), _setting(told, device, name)
            if without != wanted:
                return f"loaded again, it would run on the {device} with {name} {without}, not {wanted}"
    return None


def _setting(core: Any, device: str, name: str) -> str:
    value = core.get_property(device, name)
    if name != _PRECISION:
        return str(value)
    return str(value.get_type_name()).replace("dynamic", "f32")  # "dynamic" is the models' own, FP32


def _settable(core: Any, device: str) -> frozenset[str]:
    supported = core.get_property(device, "SUPPORTED_PROPERTIES")
    own = frozenset(name for name, access in supported.items() if access != "RO")
    return own | RUNTIME_PROPERTIES | (NPU_PIPELINE_PROPERTIES if device == "NPU" else frozenset())


def _check_value(core: Any, device: str, name: str, value: str) -> None:
    """Raises `UsageError` for a value that the plugin refuses at once; some it refuses only with a model."""
    if name in _CHECKED_ELSEWHERE:
        return
    try:
        core.set_property(device, {name: value})  # of this core alone, which loads no model with other properties
    except RuntimeError as error:
        if device == "NPU" and _NPU_REFUSES not in str(error):
            return  # the compiler is asked about all others, and is not on every PC
        raise UsageError(
            f"{device} does not take the property {name}={value}",
            found=first_useful_line(error),
            try_next=f"another value, or leave {name} out",
        ) from error


def _check_stand_ins(core: Any, properties: Mapping[str, str]) -> None:
    for device, own in stand_ins_own(core, properties).items():
        if typed := own.items() - REHEARSAL.items():
            apart = import_openvino().Core()  # so that `core` goes on with none of them
            apart.get_property(device, "FULL_DEVICE_NAME")  # loads the plugin, which alone knows its values
            for name, value in typed:
                _check_value(apart, device, name, value)


def _unknown_property(device: str, name: str, known: Iterable[str]) -> UsageError:
    if name in NPU_PIPELINE_PROPERTIES:
        return UsageError(f"{device} has no property {name}", expected="the NPU, whose it is", try_next="--device npu")
    wanted = name.upper()
    near = [wanted] if wanted in known else get_close_matches(wanted, sorted(known), n=3, cutoff=0.5)
    meant = get_close_matches(wanted, near, n=1, cutoff=0.8)
    return UsageError(
        f"{device} has no property {name!r} that can be set",
        expected=" or ".join(near) if near else ", ".join(sorted(known)),
        try_next=f"--ov-config {meant[0]}=VALUE" if meant else None,
    )
