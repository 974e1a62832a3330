"""OpenVINO's Python packages, imported late and without their telemetry."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from aipc.errors import EngineError, MissingPackageError

TELEMETRY = "openvino_telemetry"
_STATUS = re.compile(r"^\[ [A-Z_]+ \] *")  # such as "[ NOT_FOUND ] "
_WRAPPING = re.compile(r"^Check '|(^| )Exception from ")


def import_openvino() -> Any:
    """The `openvino` module, imported so that it sends nothing and writes nothing.

    A plain `import openvino` imports `openvino.tools.ovc`, which posts an "import" event to Google Analytics and
    writes ~/intel/openvino_ga_cid and ~/intel/stats. Its only documented switch is a consent file in the home
    directory. Without the `openvino_telemetry` package it falls back to a stub of its own, so that package is
    hidden while openvino is imported. A program that imported openvino before aipc has made its own choice.

    Raises `MissingPackageError`.
    """
    return _import_without_telemetry("openvino")


def import_genai() -> Any:
    """The `openvino_genai` module, imported as `import_openvino` imports `openvino`. Raises `MissingPackageError`."""
    import_openvino()
    return _import_without_telemetry("openvino_genai")


def _import_without_telemetry(name: str) -> Any:
    if (module := sys.modules.get(name)) is not None:
        return module
    already_imported = TELEMETRY in sys.modules
    if not already_imported:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # how Python spells "not importable"
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"{name} cannot be imported",
            found=str(error) or type(error).__name__,
            try_next=f"pip install {name.replace('_', '-')}",
        ) from error
    finally:
        if not already_imported:
            sys.modules.pop(TELEMETRY, None)


@contextmanager
def engine_errors(what: str, *, try_next: str | None = None) -> Iterator[None]:
    """What OpenVINO raises inside becomes an `EngineError` that says `what` failed."""
    try:
        yield
    except RuntimeError as error:
        raise EngineError(what, found=first_useful_line(error), try_next=try_next) from error


def first_useful_line(error: BaseException) -> str:
    """What OpenVINO's error text says, without the source positions and checks that it is wrapped in."""
    lines = [_STATUS.sub("", line.strip()) for line in str(error).splitlines()]
    useful = [line for line in lines if line and not _WRAPPING.search(line)]
    return next(iter(useful or lines), "") or type(error).__name__
