"""The processors on the PCI bus of a Linux PC: NPUs and GPUs, with their driver and their device nodes.

/sys/bus/pci/devices/ADDRESS/{vendor,device,class,revision,uevent,drm/,accel/}:
https://docs.kernel.org/PCI/sysfs-pci.html. Classes and names: https://pci-ids.ucw.cz.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aipc.devices.known import NotAvailable
from aipc.devices.machine import Machine

ROOT = "/sys/bus/pci/devices"
NAME_FILES = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
VENDORS = {
    0x8086: "Intel",
    0x1002: "AMD",
    0x1022: "AMD",
    0x10DE: "NVIDIA",
    0x17CB: "Qualcomm",
    0x5143: "Qualcomm",
    0x1AF4: "Red Hat (virtio)",
    0x15AD: "VMware",
    0x1414: "Microsoft",
    0x1234: "QEMU",
}
# The vendors of ours that make processors for models; a VM's display adapter is none.
PROCESSOR_VENDORS = {"Intel", "AMD", "NVIDIA", "Qualcomm"}
DISPLAY, ACCELERATOR, SIGNAL = 0x03, 0x12, 0x11  # base classes; AMD's NPU calls itself a signal processor


@dataclass(frozen=True)
class PciDevice:
    """One function of a device. `driver` is None where no kernel driver has taken it."""

    address: str
    vendor: int
    device: int
    revision: int
    base_class: int
    driver: str | None
    nodes: tuple[str, ...]  # below /dev, such as /dev/accel/accel0 or /dev/dri/renderD128

    @property
    def path(self) -> str:
        return f"{ROOT}/{self.address}"

    @property
    def vendor_name(self) -> str:
        return VENDORS.get(self.vendor, f"PCI vendor {self.vendor:04x}")

    @property
    def ids(self) -> str:
        """Such as 8086:7d1d."""
        return f"{self.vendor:04x}:{self.device:04x}"


def pci_devices(machine: Machine) -> list[PciDevice]:
    """Every device whose files can be understood, in the order of their addresses."""
    found = (_device(machine, address) for address in machine.list(ROOT))
    return [device for device in found if device is not None]


def _device(machine: Machine, address: str) -> PciDevice | None:
    path = f"{ROOT}/{address}"
    vendor, device, revision, pci_class = (
        _hexadecimal(machine.read(f"{path}/{name}")) for name in ("vendor", "device", "revision", "class")
    )
    if vendor is None or device is None or pci_class is None:
        return None
    uevent = machine.read(f"{path}/uevent")
    driver = None if isinstance(uevent, NotAvailable) else re.search(r"^DRIVER=(\S+)$", uevent, re.MULTILINE)
    return PciDevice(
        address=address,
        vendor=vendor,
        device=device,
        revision=revision or 0,
        base_class=pci_class >> 16,
        driver=driver[1] if driver else None,
        nodes=(
            *(f"/dev/accel/{name}" for name in machine.list(f"{path}/accel") if name.startswith("accel")),
            *(f"/dev/dri/{name}" for name in machine.list(f"{path}/drm") if name.startswith("renderD")),
        ),
    )


def _hexadecimal(text: str | NotAvailable) -> int | None:
    found = None if isinstance(text, NotAvailable) else re.fullmatch(r"0x([0-9a-f]{1,8})", text.strip())
    return int(found[1], 16) if found else None


def pci_names(machine: Machine, devices: Iterable[PciDevice]) -> dict[str, str]:
    """The names of devices by their ids, from the system's list of all PCI devices where it has one."""
    wanted = {device.ids for device in devices}
    text = next((text for path in NAME_FILES if isinstance(text := machine.read(path), str)), "") if wanted else ""
    names: dict[str, str] = {}
    vendor = ""
    for line in text.splitlines():
        if not line.startswith("\t"):
            vendor = line[:4]
        elif not line.startswith("\t\t") and (ids := f"{vendor}:{line[1:5]}") in wanted:
            names[ids] = line[5:].strip()
    return names
