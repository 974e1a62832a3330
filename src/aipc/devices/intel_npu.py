"""Intel's NPUs: which one it is, and what stands between it and OpenVINO.

PCI ids and the firmware's names: drivers/accel/ivpu/ivpu_drv.h and ivpu_fw.c of the Linux kernel. Libraries and
packages: https://github.com/intel/linux-npu-driver/blob/main/docs/overview.md. Platforms: OpenVINO's NPU_PLATFORM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aipc.devices import linux
from aipc.devices.known import NotAvailable
from aipc.devices.machine import Machine
from aipc.devices.pci import PciDevice
from aipc.devices.verdict import Obstacle
from aipc.devices.versions import is_older

RELEASES = "https://github.com/intel/linux-npu-driver/releases"
WINDOWS_DRIVER = "https://www.intel.com/content/www/us/en/download/794734/intel-npu-driver-windows.html"
# Microsoft's minimum for OpenVINO on the NPU; 32.0.100.3104 has been seen to hide the NPU from OpenVINO 2026.3.
# https://learn.microsoft.com/windows/ai/new-windows-ml/supported-execution-providers
OLDEST_WINDOWS_DRIVER = "32.0.100.4239"


# Of intel-driver-compiler-npu: the first since release 1.35, the second before it and in it.
COMPILERS = ("libopenvino_intel_npu_compiler_loader.so", "libnpu_driver_compiler.so")


@dataclass(frozen=True)
class Generation:
    """`kernel` is the first Linux with the PCI id, or the oldest that Intel tested; `driver` the oldest release for it.

    OpenVINO asks for Linux 6.6 (its page "Configurations for Intel NPU"); Arrow and Lunar Lake were first tested with
    6.8 (release notes of driver 1.5.1); 1.10.1 is the first for language models on Lunar Lake, 1.28.0 the first for
    Panther Lake, 1.32.0 for Wildcat Lake, 1.39.1 for Nova Lake, tested with 7.0. The ids of Panther and Wildcat Lake
    came with Linux 6.13 and 6.17.
    """

    name: str
    platform: str
    firmware: str  # the beginning of the file's name in /lib/firmware/intel/vpu
    kernel: str
    driver: str


GENERATIONS = {
    0x7D1D: Generation("Meteor Lake", "3720", "vpu_37xx", "6.6", "1.5.1"),
    0xAD1D: Generation("Arrow Lake", "3720", "vpu_37xx", "6.8", "1.5.1"),
    0x643E: Generation("Lunar Lake", "4000", "vpu_40xx", "6.8", "1.10.1"),
    0xB03E: Generation("Panther Lake", "5010", "vpu_50xx", "6.13", "1.28.0"),
    0xFD3E: Generation("Wildcat Lake", "5020", "vpu_50xx", "6.17", "1.32.0"),
    0xD71D: Generation("Nova Lake", "60xx", "vpu_60xx", "7.0", "1.39.1"),
}


def generation_of(device: int) -> str | NotAvailable:
    """Such as "NPU 3720 (Meteor Lake)"."""
    known = GENERATIONS.get(device)
    return f"NPU {known.platform} ({known.name})" if known else NotAvailable(f"PCI device {device:04x} is not known")


def on_linux(machine: Machine, npu: PciDevice) -> list[Obstacle]:
    """What is in the way, the kernel's part first; where that fails, what lies above it is not looked at."""
    in_kernel = _kernel_obstacle(machine, npu)
    return [in_kernel] if in_kernel else [*_access(machine, npu), *_libraries(machine, npu)]


def _kernel_obstacle(machine: Machine, npu: PciDevice) -> Obstacle | None:
    if npu.driver == "intel_vpu" and npu.nodes:
        return None
    known, release = GENERATIONS.get(npu.device), str(linux.kernel_release(machine))
    if known and is_older(release, known.kernel):
        return Obstacle(
            f"the kernel {release} is too old for the NPU of {known.name}, which needs Linux {known.kernel} or newer",
            linux.NEWER_KERNEL,
        )
    if npu.driver not in (None, "intel_vpu"):
        return Obstacle(f"the kernel driver {npu.driver} holds the NPU", _rebind(npu))
    if known and not linux.has_firmware(machine, "intel/vpu", known.firmware):
        return Obstacle(
            f"the NPU's firmware /lib/firmware/intel/vpu/{known.firmware}_v1.bin is not there",
            f"install intel-fw-npu from {RELEASES} (or a newer linux-firmware), then sudo modprobe -r intel_vpu && "
            "sudo modprobe intel_vpu",
        )
    if linux.is_loaded(machine, "intel_vpu"):
        return Obstacle(
            "the kernel module intel_vpu is loaded but did not start the NPU",
            "sudo dmesg | grep intel_vpu says why; often the firmware: install intel-fw-npu and restart the PC",
        )
    if linux.has_module(machine, "drivers/accel/ivpu", "intel_vpu"):
        return Obstacle("the kernel module intel_vpu is not loaded", "sudo modprobe intel_vpu")
    return Obstacle(
        f"the kernel {release} has no module intel_vpu",
        "install the kernel's extra modules (Ubuntu: sudo apt install linux-modules-extra-$(uname -r)), or a kernel "
        "with CONFIG_DRM_ACCEL_IVPU",
    )


def _rebind(npu: PciDevice) -> str:
    free = f"echo {npu.address} | sudo tee /sys/bus/pci/drivers/{npu.driver}/unbind"
    return f"{free} && sudo modprobe intel_vpu && echo {npu.address} | sudo tee /sys/bus/pci/drivers_probe"


def _access(machine: Machine, npu: PciDevice) -> list[Obstacle]:
    found = (linux.access_obstacle(machine, node) for node in npu.nodes if node.startswith("/dev/accel/"))
    return [obstacle for obstacle in found if obstacle]


def _libraries(machine: Machine, npu: PciDevice) -> list[Obstacle]:
    obstacles = []
    if linux.library(machine, "libze_loader.so") is None:
        fix = "sudo apt install libze1 (Ubuntu 24.04 or newer), or level-zero from its releases on GitHub"
        obstacles.append(Obstacle("the Level Zero loader libze_loader.so.1 is not installed", fix))
    driver = user_driver(machine)
    if driver is None:
        fix = f"install intel-level-zero-npu from {RELEASES}"
        obstacles.append(Obstacle("the NPU's driver library libze_intel_npu.so is not installed", fix))
    elif old := _too_old(npu, linux.library_version(driver)):
        obstacles.append(old)
    if all(linux.library(machine, name) is None for name in COMPILERS):
        # OpenVINO sees an NPU without it, and fails when it compiles the model.
        obstacles.append(
            Obstacle(
                f"the NPU's compiler {COMPILERS[0]} is not installed, and OpenVINO's Linux wheel has none",
                f"install intel-driver-compiler-npu from {RELEASES}, of the same release as intel-level-zero-npu",
                is_a_guess=False,
            )
        )
    return obstacles


def user_driver(machine: Machine) -> str | None:
    """The path of the driver's library; it was libze_intel_vpu.so before release 1.16."""
    return linux.library(machine, "libze_intel_npu.so") or linux.library(machine, "libze_intel_vpu.so")


def _too_old(npu: PciDevice, version: str | NotAvailable) -> Obstacle | None:
    known = GENERATIONS.get(npu.device)
    if known is None or isinstance(version, NotAvailable) or not is_older(version, known.driver):
        return None
    reason = f"the NPU driver {version} is too old for {known.name}, which needs {known.driver} or newer"
    return Obstacle(reason, f"install the packages of the newest release from {RELEASES}")


def driver_version(machine: Machine, npu: PciDevice) -> str | NotAvailable:
    """The kernel's driver and the library's version, such as "intel_vpu of 6.14.0, libze_intel_npu 1.28.0"."""
    if npu.driver is None:
        return NotAvailable("no kernel driver has taken it")
    version = linux.library_version(user_driver(machine))
    library = f", libze_intel_npu {version}" if isinstance(version, str) else ""
    return f"{npu.driver} of Linux {linux.kernel_release(machine)}{library}"


def firmware_version(machine: Machine, npu: PciDevice) -> str | NotAvailable:
    """What the kernel's log says that it loaded; the file under debugfs is for root alone.

    The line is "intel_vpu 0000:00:0b.0: [drm] Firmware: intel/vpu/vpu_37xx_v1.bin, version: 20250415*MTL_…". Many
    distributions keep dmesg for root, and let the groups adm and systemd-journal read the same log by journalctl.
    """
    if npu.driver is None:
        return NotAvailable("no kernel driver has loaded it")
    log = machine.run("dmesg")
    if isinstance(log, NotAvailable):
        refused = log.reason
        log = machine.run("journalctl", "--dmesg", "--boot", "--no-pager", "--quiet", "--output=cat")
        if isinstance(log, NotAvailable):
            return NotAvailable(f"the kernel's log cannot be read ({refused})")
    found = re.findall(rf"{re.escape(npu.address)}: .*Firmware: (\S+), version: (.+)", log)
    return f"{found[-1][1].strip()} ({found[-1][0]})" if found else NotAvailable("the kernel's log does not say it")


def on_windows(driver: str | NotAvailable) -> list[Obstacle]:
    """A driver that is too old; that there is none at all, Windows' own error code says."""
    if isinstance(driver, NotAvailable) or not is_older(driver, OLDEST_WINDOWS_DRIVER):
        return []
    reason = f"the NPU driver {driver} is too old: OpenVINO needs {OLDEST_WINDOWS_DRIVER} or newer"
    return [Obstacle(reason, f"install the newest from {WINDOWS_DRIVER}")]
