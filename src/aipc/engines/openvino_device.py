"""Which of OpenVINO's devices is meant, and which properties it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from aipc.errors import UsageError
from aipc.openvino_import import first_useful_line

# Properties of the runtime and of the pipelines, which no device lists as its own.
# https://docs.openvino.ai/2026/openvino-workflow/running-inference.html
RUNTIME_PROPERTIES = frozenset({"CACHE_DIR", "CACHE_MODE", "ENABLE_MMAP"})
NPU_PIPELINE_PROPERTIES = frozenset(
    {"MAX_PROMPT_LEN", "MIN_RESPONSE_LEN", "PREFILL_HINT", "GENERATE_HINT", "EXPORT_BLOB", "BLOB_PATH", "NPU_USE_NPUW"}
)
NPU_REHEARSAL = "NPUW_DEVICES"  # runs the NPU's static pipeline on another device, for rehearsals without an NPU
NPU_LENGTHS = {"MAX_PROMPT_LEN": 1024, "MIN_RESPONSE_LEN": 128}  # tokens, openvino-genai's own defaults


def found_device(core: Any, device: str, properties: Mapping[str, str]) -> str:
    """OpenVINO's spelling of `device`. Raises `DeviceError` when it is not there: nothing is taken in its place."""
    wanted = device.upper()
    if wanted == "CPU" and _why_not(core, wanted) is None:
        return wanted  # without a look at the others, whose plugins and drivers would be loaded for it
    available = [str(name) for name in core.available_devices]
    is_there = wanted in available or any(name.startswith(f"{wanted}.") for name in available)
    if is_there or (wanted == "NPU" and NPU_REHEARSAL in properties):
        return wanted
    from aipc.engines.openvino_absent import absent_device  # the doctor, whom nobody needs who has the device

    raise absent_device(device, available, _why_not(core, wanted))


def _why_not(core: Any, device: str) -> str | None:
    try:
        core.get_property(device, "FULL_DEVICE_NAME")
    except RuntimeError as error:
        return first_useful_line(error)
    return None


def full_name(core: Any, device: str, properties: Mapping[str, str]) -> str:
    """The name a person knows the device by, or its id when OpenVINO offers none.

    An NPU's pipeline that runs on another device is called what it is, so that no number passes for the NPU's.
    """
    if device == "NPU" and NPU_REHEARSAL in properties:
        stand_ins = [name.strip() for name in properties[NPU_REHEARSAL].split(",")]
        is_there = any(str(name).startswith("NPU") for name in core.available_devices)
        if "NPU" not in stand_ins or not is_there:
            others = ", ".join(name for name in stand_ins if name != "NPU")
            return f"rehearsal of the NPU's pipeline on the {others}"
    try:
        return str(core.get_property(device, "FULL_DEVICE_NAME"))
    except RuntimeError:
        return device


def checked_properties(core: Any, device: str, properties: Mapping[str, str]) -> dict[str, str | int]:
    """`properties` as OpenVINO takes them. Raises `UsageError` for one that the device does not have or cannot set."""
    known = _settable(core, device)
    for name in properties:
        if name not in known and not (device == "NPU" and name.startswith("NPUW_")):
            raise _unknown_property(device, name, known)
    checked: dict[str, str | int] = dict(properties)
    if device == "NPU":
        checked.update(npu_lengths(properties))
    return checked


def npu_lengths(properties: Mapping[str, str]) -> dict[str, int]:
    """The static lengths of an NPU pipeline, in tokens. Raises `UsageError` when one is no positive whole number."""
    return {name: _tokens(name, properties.get(name, str(default))) for name, default in NPU_LENGTHS.items()}


def _tokens(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise UsageError(f"property {name}", expected="a number of tokens, 1 or more", found=repr(text))
    return int(text)


def _settable(core: Any, device: str) -> frozenset[str]:
    supported = core.get_property(device, "SUPPORTED_PROPERTIES")
    own = frozenset(name for name, access in supported.items() if access != "RO")
    return own | RUNTIME_PROPERTIES | (NPU_PIPELINE_PROPERTIES if device == "NPU" else frozenset())


def _unknown_property(device: str, name: str, known: Iterable[str]) -> UsageError:
    near = get_close_matches(name.upper(), sorted(known), n=3, cutoff=0.5)
    return UsageError(
        f"{device} has no property {name!r} that can be set",
        expected=" or ".join(near) if near else ", ".join(sorted(known)),
    )
