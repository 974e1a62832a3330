"""The devices that an engine runs on, in the order in which they are tried."""

from __future__ import annotations

from dataclasses import dataclass

from aipc.devices.device import Device
from aipc.devices.doctor import Report
from aipc.devices.verdict import Obstacle
from aipc.errors import DeviceError
from aipc.monitor.measurements import place_of

CARD, GPU_ON_THE_DIE, NPU, CPU, OTHER_GPU = range(5)
_FAST_ON_THE_DIE = ("Xe-LPG", "Xe2", "Xe3", "RDNA 3")  # how their generations begin


@dataclass(frozen=True, eq=False)  # compared by identity, as a device holds what cannot be hashed
class Candidate:
    """A device that an engine runs on. `name` is what `--device` takes there, `rank` its place in the rule."""

    engine: str
    name: str
    device: Device
    rank: int

    @property
    def place(self) -> tuple[str, str]:
        """By which its measurements are found."""
        return place_of(self.engine, self.name)


def candidates(report: Report, engine: str | None) -> list[Candidate]:
    """Every device that `engine`, or any, runs on, in the order of the rule; OpenVINO first where both run.

    Raises `DeviceError` with the CPU's obstacle when there is none.
    """
    found = [
        Candidate(verdict.engine, verdict.device, device, rank(device))
        for device in report.devices
        for verdict in device.verdicts
        if verdict.can_run and verdict.device is not None and engine in (None, verdict.engine)
    ]
    if not found:
        obstacle = obstacle_of(report.devices[0], engine)
        raise DeviceError(
            f"no device of this PC runs {engine or 'any engine'}",
            found=obstacle.reason,
            try_next=obstacle.fix,
        )
    return sorted(found, key=lambda one: (one.rank, -_own_memory_bytes(one.device), one.engine != "openvino"))


def rank(device: Device) -> int:
    """The device's place in the rule."""
    if device.kind != "GPU":
        return NPU if device.kind == "NPU" else CPU
    if not device.memory.is_shared:
        return CARD
    is_fast = str(device.generation).startswith(_FAST_ON_THE_DIE) or "Arc" in str(device.name)
    return GPU_ON_THE_DIE if is_fast else OTHER_GPU


def _own_memory_bytes(device: Device) -> int:
    total = device.memory.total_bytes
    return total if isinstance(total, int) and not device.memory.is_shared else 0


def obstacle_of(device: Device, engine: str | None) -> Obstacle:
    """What keeps `engine`, or the one that has code for the device, from running there."""
    verdicts = [verdict for verdict in device.verdicts if engine in (None, verdict.engine) and verdict.obstacles]
    verdicts.sort(key=lambda verdict: verdict.device is None)
    return verdicts[0].obstacles[0]
