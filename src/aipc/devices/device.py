"""One processor of a PC, as the doctor describes it, and what its name says."""

from __future__ import annotations

from dataclasses import dataclass

from aipc.devices.known import NotAvailable
from aipc.devices.processor import Processor
from aipc.devices.verdict import Obstacle, Verdict

NOT_SAID = NotAvailable("the system does not say")


def kind_of(device: str) -> str:
    """Such as "gpu" of "GPU.1"."""
    return device.partition(".")[0].lower()


def is_numbered(device: str) -> bool:
    """Whether what follows the kind is a number, or nothing does."""
    _, dot, number = device.partition(".")
    return not dot or (number.isascii() and number.isdigit())


@dataclass(frozen=True)
class DeviceMemory:
    """`is_shared`: it is the PC's memory, which the CPU uses too; else the device has its own."""

    total_bytes: int | NotAvailable
    is_shared: bool
    available_bytes: int | NotAvailable = NOT_SAID  # what a program could take of it now


@dataclass(frozen=True)
class Device:
    """`notes` are what is wrong with the device whichever engine is asked, where no engine of aipc's runs on it."""

    id: str  # CPU, GPU, GPU.1, NPU
    name: str | NotAvailable
    vendor: str | NotAvailable
    generation: str | NotAvailable
    driver: str | NotAvailable
    firmware: str | NotAvailable
    memory: DeviceMemory
    verdicts: tuple[Verdict, ...]
    capabilities: tuple[str, ...] | NotAvailable  # precisions and features, in OpenVINO's words
    processor: Processor | None = None
    notes: tuple[Obstacle, ...] = ()

    @property
    def kind(self) -> str:
        """CPU, GPU or NPU."""
        return self.id.partition(".")[0]

    @property
    def can_run(self) -> bool:
        """Whether any engine runs on it."""
        return any(verdict.can_run for verdict in self.verdicts)
