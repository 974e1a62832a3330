"""Qualcomm's GPU and NPU on Linux, which are on no bus that could be listed: the device tree describes them.

The NPU is the remote processor whose firmware is the CDSP's, such as qcom/x1e80100/LENOVO/21N1/qccdsp8380.mbn; programs
reach it by /dev/fastrpc-cdsp. The GPU's driver is msm. https://docs.kernel.org/admin-guide/abi-testing.html:
/sys/class/remoteproc/…/{name,state,firmware} and /sys/devices/soc0/machine.
"""

from __future__ import annotations

import re

from aipc.devices import linux
from aipc.devices.device import DeviceMemory
from aipc.devices.found import Found
from aipc.devices.generations import UNKNOWN
from aipc.devices.known import NotAvailable
from aipc.devices.machine import Machine
from aipc.devices.verdict import Obstacle

NODE = "/dev/fastrpc-cdsp"
_REMOTE_PROCESSORS = "/sys/class/remoteproc"
_DRM = "/sys/class/drm"


def found_of_qualcomm(machine: Machine, memory: DeviceMemory) -> list[Found]:
    """The GPUs, then the NPUs. None on a PC that is not Qualcomm's."""
    gpus = [_gpu(machine, node, memory) for node in machine.list(_DRM) if node.startswith("renderD")]
    npus = [_npu(machine, processor, memory) for processor in machine.list(_REMOTE_PROCESSORS)]
    return [found for found in (*gpus, *npus) if found is not None]


def _text(machine: Machine, path: str) -> str:
    text = machine.read(path)
    return "" if isinstance(text, NotAvailable) else text.strip()


def _gpu(machine: Machine, node: str, memory: DeviceMemory) -> Found | None:
    uevent = _text(machine, f"{_DRM}/{node}/device/uevent")
    driver = re.search(r"^DRIVER=(msm\S*|adreno\S*)$", uevent, re.MULTILINE)
    if driver is None:
        return None
    release = linux.kernel_release(machine)
    return Found(
        kind="GPU",
        vendor="Qualcomm",
        name=f"Adreno{_chip(machine)}",
        generation=UNKNOWN,
        driver=f"{driver[1]} of Linux {release}",
        firmware=NotAvailable("the kernel does not say"),
        memory=memory,
    )


def _npu(machine: Machine, processor: str, memory: DeviceMemory) -> Found | None:
    path = f"{_REMOTE_PROCESSORS}/{processor}"
    firmware = _text(machine, f"{path}/firmware")
    if "cdsp" not in f"{firmware} {_text(machine, f'{path}/name')}":
        return None
    return Found(
        kind="NPU",
        vendor="Qualcomm",
        name=f"Hexagon{_chip(machine)}",
        generation="Hexagon",
        driver=f"remoteproc of Linux {linux.kernel_release(machine)}",
        firmware=firmware or NotAvailable("the kernel does not say"),
        memory=memory,
        notes=_notes(machine, _text(machine, f"{path}/state"), firmware),
    )


def _chip(machine: Machine) -> str:
    """Such as " of X1E80100"."""
    chip = _text(machine, "/sys/devices/soc0/machine")
    return f" of {chip}" if chip else ""


def _notes(machine: Machine, state: str, firmware: str) -> tuple[Obstacle, ...]:
    if state != "running":
        fix = "install the firmware (Ubuntu: sudo apt install qcom-firmware-extract && sudo qcom-firmware-extract)"
        reason = f"the NPU is {state or 'in an unknown state'}; its firmware is {firmware or 'not known'}"
        return (Obstacle(reason, f"{fix} and restart the PC"),)
    note = linux.access_obstacle(machine, NODE)
    return (note,) if note else ()
