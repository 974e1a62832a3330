"""A processor that was found, before it has an id and the engines are judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from aipc.devices.device import DeviceMemory
from aipc.devices.known import NotAvailable
from aipc.devices.processor import Processor
from aipc.devices.verdict import Obstacle


@dataclass(frozen=True)
class Found:
    """`obstacles` stand in every engine's way that has code for this processor: drivers, permissions, firmware.

    `openvino_obstacles` stand in OpenVINO's alone.
    """

    kind: str  # CPU, GPU or NPU
    vendor: str | NotAvailable
    name: str | NotAvailable
    generation: str | NotAvailable
    driver: str | NotAvailable
    firmware: str | NotAvailable
    memory: DeviceMemory
    obstacles: list[Obstacle] = field(default_factory=list)
    openvino_obstacles: list[Obstacle] = field(default_factory=list)
    notes: tuple[Obstacle, ...] = ()
    processor: Processor | None = None
