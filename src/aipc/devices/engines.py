"""What each engine makes of a processor: whether it has code for it at all, and what is in the way."""

from __future__ import annotations

from collections.abc import Sequence

from aipc.devices import other_npus
from aipc.devices.adapters import place_of
from aipc.devices.found import Found
from aipc.devices.known import NotAvailable
from aipc.devices.machine import Machine
from aipc.devices.nvidia import cuda_obstacles
from aipc.devices.packages import ONNX, onnx_obstacles, openvino_obstacles
from aipc.devices.runtimes import NOT_ASKED, Runtimes
from aipc.devices.verdict import Obstacle, Verdict, judged


def verdicts_of(
    machine: Machine, found: Found, device: str, gpus: Sequence[Found], runtimes: Runtimes
) -> tuple[Verdict, Verdict]:
    """`device` is the processor's id: CPU, GPU.1, NPU. `gpus` are all of the PC's."""
    openvino = _openvino(machine, found, device, runtimes)
    instead = f"--engine openvino --device {found.kind.lower()}" if openvino.can_run else "the same as for openvino"
    return openvino, _onnx(machine, found, gpus, runtimes, instead=instead)


def _openvino(machine: Machine, found: Found, device: str, runtimes: Runtimes) -> Verdict:
    foreign = _foreign_to_openvino(machine, found)
    if foreign:
        return Verdict("openvino", None, (foreign,), "")
    packages = openvino_obstacles(machine)
    # Without its packages the runtime sees nothing, which says nothing of the device.
    is_seen = None if packages else runtimes.sees(device)
    obstacles = [*packages, *found.obstacles, *found.openvino_obstacles]
    if not packages and isinstance(runtimes.openvino, NotAvailable) and runtimes.openvino.reason:
        obstacles += _silent(runtimes.openvino)
    return judged("openvino", device.lower(), obstacles, is_seen=is_seen)


def _silent(reason: NotAvailable) -> list[Obstacle]:
    """OpenVINO is installed, and its own process did not answer."""
    if reason == NOT_ASKED:
        return []
    return [Obstacle(f"OpenVINO does not answer: {reason.reason}", 'python -c "import openvino" shows the whole error')]


def _foreign_to_openvino(machine: Machine, found: Found) -> Obstacle | None:
    if found.kind == "CPU" or found.vendor == "Intel":
        return None
    if found.kind == "NPU":
        return other_npus.unsupported("openvino", str(found.vendor), machine.system)
    reason = f"OpenVINO runs on Intel's GPUs, not on {found.vendor}'s"
    kind = _provider(machine, found)
    fix = f"--engine onnx --device {kind}, or --device cpu" if kind else "--device cpu"
    return Obstacle(reason, fix, is_a_guess=False)


def _onnx(machine: Machine, found: Found, gpus: Sequence[Found], runtimes: Runtimes, *, instead: str) -> Verdict:
    """`instead` is what to do with a device of Intel's that only OpenVINO runs on."""
    if found.kind == "NPU":
        foreign = other_npus.unsupported("onnx", str(found.vendor), machine.system)
        fix = instead if found.vendor == "Intel" else foreign.fix
        return Verdict("onnx", None, (Obstacle(foreign.reason, fix, is_a_guess=False),), "")
    if found.kind == "CPU":
        return judged("onnx", "cpu", [*onnx_obstacles(machine, "cpu"), *found.obstacles], is_seen=None)
    kind = _provider(machine, found)
    if kind is None:
        reason = f"ONNX Runtime GenAI runs GPUs on Linux by CUDA alone, and this one is {found.vendor}'s"
        fix = instead if found.vendor == "Intel" else "--device cpu"
        return Verdict("onnx", None, (Obstacle(reason, fix, is_a_guess=False),), "")
    index, is_seen = _adapter(kind, found, gpus, runtimes)
    device = kind if index is None else f"{kind}.{index}"
    obstacles = [*onnx_obstacles(machine, kind), *found.obstacles]
    if kind == "cuda":
        obstacles += cuda_obstacles(str(found.driver), str(found.generation))
    return judged("onnx", device, obstacles, is_seen=is_seen)


def _provider(machine: Machine, found: Found) -> str | None:
    if machine.system == "Windows":
        has_cuda = found.vendor == "NVIDIA" and machine.package(ONNX["cuda"]) is not None
        return "cuda" if has_cuda else "directml"
    return "cuda" if found.vendor == "NVIDIA" else None


def _adapter(kind: str, found: Found, gpus: Sequence[Found], runtimes: Runtimes) -> tuple[int | None, bool | None]:
    """The adapter's place in the driver's own list, and whether it is in there (None: that is not known)."""
    names = runtimes.directx if kind == "directml" else runtimes.cuda
    if isinstance(names, NotAvailable):
        return None, None
    listed = [gpu for gpu in gpus if kind == "directml" or gpu.vendor == "NVIDIA"]
    place = next(index for index, gpu in enumerate(listed) if gpu is found)
    return place_of(place, [str(gpu.name) for gpu in listed], names)
