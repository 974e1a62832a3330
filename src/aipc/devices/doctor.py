"""The doctor: every processor of a PC, and for each engine whether it can run there, why not, and what helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aipc.devices.absent import why_absent
from aipc.devices.device import Device, DeviceMemory, is_numbered, kind_of
from aipc.devices.engines import verdicts_of
from aipc.devices.found import Found
from aipc.devices.known import NotAvailable
from aipc.devices.linux_devices import found_on_linux
from aipc.devices.machine import Machine, ThisPc
from aipc.devices.processor import Processor
from aipc.devices.runtimes import Runtimes, ask
from aipc.devices.verdict import Obstacle
from aipc.devices.windows_devices import found_on_windows
from aipc.errors import UsageError

KINDS = ("CPU", "GPU", "NPU")


@dataclass(frozen=True)
class Report:
    """`absent` says of each kind of which there is no device, why."""

    devices: tuple[Device, ...]
    absent: Mapping[str, Obstacle]

    def of(self, device: str) -> Report:
        """What it says of `device`: "npu", "gpu" (all of them), "gpu.1", "cpu".

        Raises `UsageError` for a word that is no device's.
        """
        refuse_other_words(device)
        kind, numbered = kind_of(device).upper(), device.upper().removesuffix(".0")
        same = [found for found in self.devices if found.kind == kind]
        shown = [found for found in same if found.id.removesuffix(".0") == numbered] if "." in device else same
        return Report(tuple(shown), {one: why for one, why in self.absent.items() if one == kind})


def refuse_other_words(device: str) -> None:
    """Raise `UsageError` for a word that is no device's."""
    if kind_of(device).upper() not in KINDS or not is_numbered(device):
        raise UsageError("the device", expected="cpu, gpu, gpu.1 or npu", found=repr(device))


def examine(machine: Machine | None = None) -> Report:
    """Look at a PC, this one by default. Raises nothing: what cannot be found out is `NotAvailable` with its reason."""
    machine = machine or ThisPc()
    runtimes = ask(machine)
    found = _with_unlisted(_found(machine, runtimes), runtimes)
    gpus = [one for one in found if one.kind == "GPU"]
    devices = [_device(machine, one, device_id, gpus, runtimes) for one, device_id in _numbered(found)]
    kinds = {one.kind for one in found}
    return Report(tuple(devices), {kind: why_absent(machine, kind, found[0]) for kind in KINDS if kind not in kinds})


def _found(machine: Machine, runtimes: Runtimes) -> list[Found]:
    if machine.system == "Linux":
        return found_on_linux(machine)
    if machine.system == "Windows":
        return found_on_windows(machine, runtimes)
    return [_unexplored(machine)]


def _unexplored(machine: Machine) -> Found:
    """The CPU of a system that aipc does not examine."""
    unknown = NotAvailable(f"aipc does not examine {machine.system or 'this system'}")
    processor = Processor(unknown, machine.architecture, unknown, unknown, {})
    memory = DeviceMemory(unknown, is_shared=True)
    return Found("CPU", unknown, unknown, unknown, unknown, unknown, memory, processor=processor)


def _with_unlisted(found: list[Found], runtimes: Runtimes) -> list[Found]:
    """And what OpenVINO sees though the system lists none of Intel's of its kind, such as a GPU under WSL.

    Before those of other makers, as OpenVINO counts its own alone.
    """
    listed = {"CPU", *(one.kind for one in found if one.vendor == "Intel")}
    seen = () if isinstance(runtimes.openvino, NotAvailable) else runtimes.openvino
    unlisted = [device for device in seen if (kind := device.id.partition(".")[0]) in KINDS and kind not in listed]
    unknown = NotAvailable("the system does not list it")
    memory = DeviceMemory(unknown, is_shared=True)
    extra = [
        Found(device.id.partition(".")[0], "Intel", device.name, unknown, device.driver_version, unknown, memory)
        for device in unlisted
    ]
    return [found[0], *extra, *found[1:]]


def _numbered(found: list[Found]) -> list[tuple[Found, str]]:
    """Each with its id: a number only where there are several of a kind, as OpenVINO counts them."""
    numbered = []
    for kind in KINDS:
        same = [one for one in found if one.kind == kind]
        numbered += [(one, kind if len(same) == 1 else f"{kind}.{index}") for index, one in enumerate(same)]
    return numbered


def _device(machine: Machine, found: Found, device_id: str, gpus: list[Found], runtimes: Runtimes) -> Device:
    return Device(
        id=device_id,
        name=found.name,
        vendor=found.vendor,
        generation=found.generation,
        driver=found.driver,
        firmware=found.firmware,
        memory=found.memory,
        verdicts=verdicts_of(machine, found, device_id, gpus, runtimes),
        capabilities=_capabilities(found, device_id, runtimes),
        processor=found.processor,
        notes=found.notes,
    )


def _capabilities(found: Found, device_id: str, runtimes: Runtimes) -> tuple[str, ...] | NotAvailable:
    if found.kind != "CPU" and found.vendor != "Intel":
        return NotAvailable("OpenVINO does not run on it")
    seen = runtimes.seen(device_id)
    return seen if isinstance(seen, NotAvailable) else seen.capabilities
