"""Will this device take this model? Answered from the model's files alone, on a PC that need not have the device.

An OpenVINO directory or one of ONNX Runtime GenAI, whoever made it, is compared with the rules of a device: formats of
the weights, operators, names, providers. Nothing is compiled or run, and no byte of the weights is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aipc.check.report import Finding, Report

__all__ = ["DEVICES", "Finding", "Report", "check"]

DEVICES: Sequence[str] = ("cpu", "gpu", "npu", "directml", "cuda")


def check(model_dir: str | Path, device: str) -> Report:
    """Compare the model in `model_dir` with what `device` takes.

    `device` is one of `DEVICES`: cpu; gpu and npu are Intel's, by OpenVINO; directml and cuda are ONNX Runtime's. In a
    directory that holds both formats the device decides which is looked at, and cpu looks at the OpenVINO one.

    Raises `UsageError` for another device, `ModelNotFoundError` for a directory of neither format, `IntegrityError`
    for a file that is not of its format, `StoreError` for one that cannot be read, and `MissingPackageError` where an
    ONNX model is to be read without the onnx package.
    """
    from aipc.check.directory import report_of  # importing aipc.check for its names costs nothing so

    return report_of(Path(model_dir), device)
