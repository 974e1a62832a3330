"""What `--device` and `--require-device` take: a word, checked before anything is looked at."""

from __future__ import annotations

from difflib import get_close_matches

from aipc.devices.device import is_numbered, kind_of
from aipc.errors import UsageError
from aipc.targets import ONNX_DEVICES

AUTO = "auto"
ONNX_ALONE = tuple(device for device in ONNX_DEVICES if device != "cpu")
KINDS = ("cpu", "gpu", "npu", *ONNX_ALONE)
# OpenVINO's devices that are made of others, and take the CPU where another fails or is slow to start.
_COMPOSED = ("auto", "hetero", "multi", "batch")
_EXPECTED = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}; gpu.1 is the second of a kind"


def checked_device(device: str) -> str:
    """`device` as it was typed, and "auto" in lower case. Raises `UsageError` for a word that is no device's.

    DirectML's and CUDA's adapters have names as well as numbers; those are looked up where the adapters are known.
    """
    return AUTO if device.lower() == AUTO else _named_device(device, "--device", f"{AUTO}, {_EXPECTED}")


def _named_device(device: str, flag: str, expected: str) -> str:
    kind, colon, rest = device.lower().partition(":")
    if kind in _COMPOSED:
        raise UsageError(
            f"{flag} {device} leaves open what runs",
            expected=expected,
            found="a name that OpenVINO divides among devices, without a word when it takes the CPU",
            try_next=f"--device {AUTO}, which says what it took and why",
        )
    if colon or kind_of(device) not in KINDS or not (is_numbered(device) or kind_of(device) in ONNX_ALONE):
        near = get_close_matches(kind.partition(".")[0], KINDS, n=1, cutoff=0.7)
        index = f".{rest}" if rest.isdigit() else ""
        raise UsageError(
            f"{flag} {device}",
            expected=expected,
            found=repr(device),
            try_next=f"{flag} {near[0]}{index}" if near else "aipc devices",
        )
    return device


def checked_required(required: str, device: str | None) -> str:
    """`required` as it was typed. Raises `UsageError` for one that is no device's, or that `device` contradicts."""
    flag = "--require-device"
    is_auto = required.lower() == AUTO
    if is_auto or not is_numbered(_named_device(required, flag, _EXPECTED)):
        raise UsageError(
            f"{flag} {required}",
            expected=f"one device or a kind of them: {_EXPECTED}",
            try_next="aipc devices" if is_auto else f"{flag} {kind_of(required)}",
        )
    if device not in (None, AUTO) and not fulfils(kind_of(str(device)), kind_of(required)):
        raise UsageError(
            f"--require-device {required} with --device {device}",
            expected="the same device",
            try_next=f"--device {required}",
        )
    return required


def fulfils(device: str, required: str) -> bool:
    """Whether `device`, by whichever engine's name (GPU.1, DIRECTML.0), is `required`: one device, or any of a kind.

    DirectML and CUDA run on GPUs alone, so theirs fulfil "gpu". The first of a kind needs no number.
    """
    if "." in required:
        return device.lower().removesuffix(".0") == required.lower().removesuffix(".0")
    kinds = ("gpu", *ONNX_ALONE) if required.lower() == "gpu" else (required.lower(),)
    return kind_of(device) in kinds
