"""Why a PC shows no GPU or no NPU."""

from __future__ import annotations

from aipc.devices import linux
from aipc.devices.found import Found
from aipc.devices.generations import WITH_NPU
from aipc.devices.known import NotAvailable
from aipc.devices.machine import Machine
from aipc.devices.verdict import Obstacle


def why_absent(machine: Machine, kind: str, cpu: Found) -> Obstacle:
    """`kind` is GPU or NPU; `cpu` is the PC's CPU, whose generation says what ought to be on its die."""
    if machine.system == "Linux" and linux.is_wsl(machine):
        if kind == "NPU":
            return Obstacle("this Linux runs in WSL, which does not pass the NPU on", "install and run aipc in Windows")
        return Obstacle(
            "this Linux runs in WSL, and no runtime sees a GPU by /dev/dxg",
            "install the GPU's newest driver in Windows and intel-opencl-icd here, or run aipc in Windows",
        )
    if machine.system == "Linux" and linux.is_virtual(machine):
        return Obstacle(f"this is a virtual machine, and no {kind} is passed through to it", _ELSEWHERE)
    if machine.system not in ("Linux", "Windows"):
        return Obstacle(f"aipc looks for a {kind} on Linux and Windows only", "--device cpu")
    if machine.system == "Windows" and isinstance(cpu.name, NotAvailable):
        fix = "powershell -Command Get-CimInstance Win32_PnPEntity shows whether Windows' own answer comes"
        return Obstacle(f"Windows could not be asked: {cpu.name.reason}", fix)
    has_npu = any(word in str(cpu.generation) for word in WITH_NPU)
    if kind == "NPU" and has_npu:
        where = "on the PCI bus" if machine.system == "Linux" else "among Windows' devices"
        return Obstacle(
            f"a CPU of {cpu.generation} usually has an NPU, and none is {where}",
            "switch the NPU on in the BIOS setup, and update the BIOS",
        )
    if kind == "NPU":
        return Obstacle(f"no NPU was found beside {cpu.name}", "--device cpu")
    return Obstacle("no GPU of Intel, AMD, NVIDIA or Qualcomm was found", "--device cpu")


_ELSEWHERE = "pass the device through, or run aipc on the PC itself; here, --device cpu"
