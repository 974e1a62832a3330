"""The Python packages that an engine needs, and whether their versions fit together.

openvino-genai and openvino-tokenizers load libraries that are built against one release of openvino: their own
metadata ask for `openvino_tokenizers~=2026.4.1.0` and `openvino~=2026.4.1` (read from the wheels of 2026.4.1). pip
leaves a mix behind when one of them is upgraded with --no-deps or from another index.
"""

from __future__ import annotations

from aipc.devices.machine import Machine
from aipc.devices.verdict import Obstacle
from aipc.devices.versions import numbers
from aipc.onnx_import import INSTALL

OPENVINO = ("openvino", "openvino-genai", "openvino-tokenizers")
OPENVINO_RANGE = "2026.4.*"  # what pyproject.toml asks for
ONNX = {"cpu": "onnxruntime-genai", "directml": "onnxruntime-genai-directml", "cuda": "onnxruntime-genai-cuda"}


def openvino_obstacles(machine: Machine) -> list[Obstacle]:
    """A package of OpenVINO that is missing, or their versions that do not fit together."""
    versions = {name: machine.package(name) for name in OPENVINO}
    missing = [name for name, version in versions.items() if version is None]
    if missing and _is_windows_on_arm(machine):
        reason = "OpenVINO has no Python package for Windows on ARM"
        return [Obstacle(reason, "--engine onnx --device cpu, with aipc[onnx]", is_a_guess=False)]
    if missing:
        install = " ".join(f'"{name}=={OPENVINO_RANGE}"' for name in missing)
        return [Obstacle(f"not installed: {', '.join(missing)}", f"pip install {install}", is_a_guess=False)]
    if _fit(*(numbers(version or "")[:3] for version in versions.values())):
        return []
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    install = " ".join(f'"{name}=={OPENVINO_RANGE}"' for name in OPENVINO)
    reason = f"the versions of OpenVINO's packages clash: {shown}"
    return [Obstacle(reason, f"pip install --upgrade {install}", is_a_guess=False)]


def _fit(runtime: tuple[int, ...], *built_against: tuple[int, ...]) -> bool:
    """By the rule `openvino~=2026.4.1`: of the same year and release, and no older patch."""
    return all(runtime[:2] == other[:2] and runtime >= other for other in built_against)


def onnx_obstacles(machine: Machine, kind: str) -> list[Obstacle]:
    """Why the installed ONNX Runtime GenAI does not run on `kind`: cpu, directml or cuda."""
    installed = {kind: version for kind, name in ONNX.items() if (version := machine.package(name)) is not None}
    if len(installed) > 1:
        names = ", ".join(ONNX[kind] for kind in installed)
        # Each overwrites the others' module onnxruntime_genai; which one is left depends on the order.
        fix = f"pip uninstall -y {names.replace(',', '')} onnxruntime && {_install(kind)}"
        return [Obstacle(f"installed over one another: {names}", fix, is_a_guess=False)]
    if kind in installed or (kind == "cpu" and installed):
        return []
    if kind == "directml" and _is_windows_on_arm(machine):
        reason = f"{ONNX[kind]} has no Python package for Windows on ARM"
        fix = (
            'install Python for x86-64, which Windows emulates, and there pip install "aipc[directml]"; or --device cpu'
        )
        return [Obstacle(reason, fix, is_a_guess=False)]
    if not installed:
        return [Obstacle(f"not installed: {ONNX[kind]}", _install(kind), is_a_guess=False)]
    (other,) = installed
    return [Obstacle(f"the installed {ONNX[other]} does not run on {kind}", INSTALL[kind], is_a_guess=False)]


def _install(kind: str) -> str:
    """The command where no other package of the kind is in the way."""
    return INSTALL[kind].rpartition("&& ")[2]


def _is_windows_on_arm(machine: Machine) -> bool:
    """Neither openvino 2026.4 nor onnxruntime-genai-directml 0.13 has a wheel for win_arm64; onnxruntime-genai has."""
    return machine.system == "Windows" and machine.architecture == "arm64"
