"""The rehearsal: the NPU's static pipeline with all of its parts on the CPU, for a PC without an NPU.

Shapes, limits and text are those of the NPU's pipeline; speed, memory and formats of the weights are not. Nothing that
was rehearsed counts as a run on the NPU.
"""

from __future__ import annotations

from collections.abc import Mapping

from aipc.errors import UsageError

_STAND_INS = "NPUW_DEVICES"  # which devices take the parts of the NPU's pipeline, most wanted first
_PARTS = "NPUW_SUBMODEL_DEVICE"  # which device takes one part, as "0:CPU"
# Every part on the CPU, unpartitioned. In FP32, so that nearly all text is the CPU's own (the cache is FP16).
REHEARSAL = {
    _STAND_INS: "CPU",
    "NPUW_ONLINE_PIPELINE": "NONE",
    "NPU_USE_NPUW": "YES",
    "EXECUTION_MODE_HINT": "ACCURACY",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "32",
}

INSTEAD = "--rehearse (in Python rehearse=True) runs the NPU's pipeline on the CPU"  # for a person without an NPU


def with_rehearsal(properties: Mapping[str, str], device: str | None, *, rehearse: bool) -> dict[str, str]:
    """`properties` and, to `rehearse`, the rehearsal's.

    Raises `UsageError` for properties that are no texts, for another device than the NPU, and for a property that would
    have the NPU run it.
    """
    texts = [*properties, *properties.values()] if isinstance(properties, Mapping) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(
            "properties", expected="a mapping of names to values, all texts, such as '512'", found=repr(properties)
        )
    if not rehearse:
        return dict(properties)
    if not isinstance(device, str) or device.upper() != "NPU":
        raise UsageError(
            "rehearse", expected="the device npu", found=device or "no device", try_next="--device npu --rehearse"
        )
    together = {**REHEARSAL, **properties}
    if stand_in("NPU", together) is None:
        raise UsageError(
            "rehearse",
            expected=f"another device than the NPU in {_STAND_INS}",
            found=repr(together[_STAND_INS]),
            try_next=f"leave {_STAND_INS} out",
        )
    return together


def stand_in(device: str, properties: Mapping[str, str]) -> str | None:
    """The device that runs the NPU's pipeline in the NPU's place, such as "CPU"; None when the NPU itself may run it.

    OpenVINO says "NPU" of a pipeline that ran on the CPU, so its word proves nothing.
    """
    names = [name.strip().upper() for name in properties.get(_STAND_INS, "").split(",")]
    if device != "NPU" or "NPU" in names or not any(names):
        return None
    return ", ".join(name for name in names if name)


def parts_elsewhere(properties: Mapping[str, str]) -> str | None:
    """The property by which a part of the NPU's pipeline may run on another device, as it was typed; None without."""
    for name in (_STAND_INS, _PARTS):
        devices = [one.rpartition(":")[2].strip().upper() for one in properties.get(name, "").split(",")]
        if set(devices) - {"", "NPU"}:
            return f"{name}={properties[name]}"
    return None


def shown_device(device: str, properties: Mapping[str, str]) -> str:
    """`device`, or what everybody who reads a result must be told instead, such as "NPU rehearsal on the CPU"."""
    other = stand_in(device, properties)
    return device if other is None else f"NPU rehearsal on the {other}"
