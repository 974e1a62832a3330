"""ONNX Runtime GenAI's Python package, imported late and without its telemetry."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from aipc.errors import DeviceError, MissingPackageError

NAME = "onnxruntime_genai"
_BEFORE_THE_MESSAGE = re.compile(r".*\[ONNXRuntimeError\] : \d+ : \w+ : ")
_LONGEST_MESSAGE = 300  # characters
# One name to import, three packages that offer it: they cannot be installed beside each other.
INSTALL = {
    "cpu": 'pip install "aipc[onnx]"',
    "directml": 'pip uninstall -y onnxruntime-genai onnxruntime && pip install "aipc[directml]"',
    "cuda": 'pip uninstall -y onnxruntime-genai onnxruntime && pip install "aipc[cuda]"',
}


FOR_THE_CPU = "--device cpu, with a model that was not converted for another device"


def refuse_elsewhere(device: str) -> None:
    """Raise `DeviceError` for a device that no package brings to this system."""
    if device == "directml" and sys.platform != "win32":
        raise DeviceError("DirectML is only on Windows", try_next=FOR_THE_CPU)


def import_genai(device: str = "cpu") -> Any:
    """The `onnxruntime_genai` module, imported so that it sends nothing and writes nothing.

    A plain `import onnxruntime_genai` sends events to Microsoft and writes ~/.cache/Microsoft. ORT_DISABLE_TELEMETRY is
    the documented switch, and must be set before. A program that set it itself, or imported the package before aipc,
    has made its own choice.

    Raises `MissingPackageError` naming the package that `device` needs, `DeviceError` where there is none.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if (module := sys.modules.get(NAME)) is not None:
        return module
    try:
        genai = import_module(NAME)
    except (ImportError, OSError) as error:  # OSError: a library that it loads itself
        refuse_elsewhere(device)
        raise MissingPackageError(
            f"{NAME} cannot be imported",
            found=str(error) or type(error).__name__,
            try_next=_first_install(device),
        ) from error
    with suppress(AttributeError):  # not in every version
        genai.disable_telemetry_events()
    return genai


def _first_install(device: str) -> str:
    """Where no such package is there yet."""
    return INSTALL[device].rpartition("&& ")[2]


def first_useful_line(error: BaseException) -> str:
    """What ONNX Runtime's error text says, without the source positions and the code that stand before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = _BEFORE_THE_MESSAGE.sub("", next(iter(lines), "")).strip()
    shown = text or next(iter(lines), "") or type(error).__name__
    return shown if len(shown) <= _LONGEST_MESSAGE else f"{shown[: _LONGEST_MESSAGE - 1]}…"
