"""Why OpenVINO does not see a device, in the doctor's words: the reason on this PC, and what helps."""

from __future__ import annotations

from collections.abc import Sequence

from aipc.devices.doctor import Report, examine
from aipc.devices.machine import Machine
from aipc.devices.verdict import Obstacle
from aipc.engines.openvino_rehearsal import INSTEAD
from aipc.errors import DeviceError, UsageError


def absent_device(
    device: str, available: Sequence[str], said: str | None, *, machine: Machine | None = None
) -> DeviceError:
    """The error for `device`, where OpenVINO sees only `available`, and `said` why.

    What the doctor finds goes before what OpenVINO said, which is a library that it could not load, or no reason at
    all. `machine` stands in for this PC.
    """
    obstacle = _obstacle(examine(machine), device)
    instead = f"\nor: {INSTEAD}" if device.upper() == "NPU" else ""
    expected = f"one that OpenVINO sees here ({', '.join(available) or 'none'})"
    what = f"device {device!r} cannot be used"
    if obstacle is None:
        return DeviceError(what, expected=expected, found=said, try_next=f"aipc devices{instead}")
    more = f"\nor: aipc devices {device.lower()} tells more"
    return DeviceError(what, expected=expected, found=obstacle.reason, try_next=f"{obstacle.fix}{more}{instead}")


def _obstacle(report: Report, device: str) -> Obstacle | None:
    """The first that is in OpenVINO's way; None for a word or a number that the doctor does not know."""
    try:
        asked = report.of(device)
    except UsageError:
        return None
    obstacles = [
        obstacle
        for one in asked.devices
        for verdict in one.verdicts
        if verdict.engine == "openvino"
        for obstacle in verdict.obstacles
    ]
    return next(iter([*obstacles, *asked.absent.values()]), None)
