"""The NPUs that no engine of aipc's runs on: AMD's XDNA and Qualcomm's Hexagon. What they are, and their state.

AMD: ids of drivers/accel/amdxdna/amdxdna_pci_drv.c, sysfs of amdxdna_sysfs.c; the first Linux with the driver is 6.14
(https://github.com/amd/xdna-driver). Qualcomm: ACPI\\QCOM0D0A is the Hexagon of the Snapdragon X (qcnspmcdm8380.inf).
"""

from __future__ import annotations

from aipc.devices import linux
from aipc.devices.known import NotAvailable
from aipc.devices.machine import Machine
from aipc.devices.pci import PciDevice
from aipc.devices.verdict import Obstacle
from aipc.devices.versions import is_older

OLDEST_KERNEL = "6.14"
ENOUGH_LOCKED_BYTES = 1 << 30  # weights of a small model lie in locked memory; 8 MiB is what distributions give
# By device and revision; None is any revision.
XDNA = {
    (0x1502, None): "XDNA (Phoenix, Hawk Point)",
    (0x17F0, 0x00): "XDNA 2 (Strix Point)",
    (0x17F0, 0x10): "XDNA 2 (Strix Point)",
    (0x17F0, 0x11): "XDNA 2 (Strix Halo)",
    (0x17F0, 0x20): "XDNA 2 (Krackan Point)",
}
# And newer ones, which the driver knows by their numbers alone.
DEVICES = tuple(dict.fromkeys((*(device for device, _ in XDNA), 0x17F2, 0x17F3, 0x1B0B, 0x1B0C)))


def xdna_generation(device: int, revision: int) -> str | NotAvailable:
    """Such as "XDNA 2 (Strix Point)"."""
    known = XDNA.get((device, revision)) or XDNA.get((device, None))
    return known or NotAvailable(f"PCI device {device:04x} revision {revision:02x} is not known")


def is_xdna(device: int) -> bool:
    return device in DEVICES


def unsupported(engine: str, vendor: str, system: str) -> Obstacle:
    """No driver helps here: the engine has no code for such an NPU, and the fix is another device."""
    reason = {
        "openvino": f"OpenVINO runs on Intel's NPUs, not on {vendor}'s",
        "onnx": f"aipc's ONNX engine runs on the CPU, DirectML and CUDA; it has no provider for {vendor}'s NPU",
    }[engine]
    gpu = "--engine onnx --device directml for a GPU, or " if system == "Windows" else ""
    return Obstacle(reason, f"{gpu}--device cpu", is_a_guess=False)


def xdna_notes(machine: Machine, npu: PciDevice) -> tuple[Obstacle, ...]:
    """What any program would meet that uses the NPU on Linux."""
    release = str(linux.kernel_release(machine))
    if npu.driver != "amdxdna" or not npu.nodes:
        return (_not_loaded(machine, release),)
    notes = [linux.access_obstacle(machine, node) for node in npu.nodes if node.startswith("/dev/accel/")]
    locked = linux.locked_memory_bytes(machine)
    if isinstance(locked, int) and locked < ENOUGH_LOCKED_BYTES:
        notes.append(
            Obstacle(
                f"this process may lock {locked / 2**20:.0f} MiB of memory, and the NPU's buffers are locked",
                "put '* soft memlock unlimited' and '* hard memlock unlimited' into "
                "/etc/security/limits.d/99-amdxdna.conf, then log out and log in again",
            )
        )
    return tuple(note for note in notes if note)


def _not_loaded(machine: Machine, release: str) -> Obstacle:
    if linux.has_module(machine, "drivers/accel/amdxdna", "amdxdna"):
        return Obstacle("the kernel module amdxdna is not loaded", "sudo modprobe amdxdna")
    if is_older(release, OLDEST_KERNEL):
        reason = f"the kernel {release} has no driver amdxdna, which came with Linux {OLDEST_KERNEL}"
        return Obstacle(reason, "install a newer kernel, or the driver from https://github.com/amd/xdna-driver")
    return Obstacle(
        f"the kernel {release} has no module amdxdna",
        "install the kernel's extra modules (Ubuntu: sudo apt install linux-modules-extra-$(uname -r))",
    )


def xdna_firmware(machine: Machine, npu: PciDevice) -> str | NotAvailable:
    """Such as 1.1.2.64."""
    text = machine.read(f"{npu.path}/fw_version")
    return text if isinstance(text, NotAvailable) else text.strip()
