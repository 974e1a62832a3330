"""NVIDIA's GPUs as their driver's own program lists them.

https://docs.nvidia.com/deploy/nvidia-smi/: --query-gpu; memory in MiB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aipc.devices.known import NotAvailable, whole_number
from aipc.devices.machine import Machine
from aipc.devices.verdict import Obstacle
from aipc.devices.versions import is_older

# onnxruntime-gpu 1.31, which onnxruntime-genai-cuda 0.18 asks for, is built for CUDA 13 (the wheel's own metadata).
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html and the release notes of CUDA 13.0.
OLDEST_DRIVER = "580"
OLDEST_CAPABILITY = "7.5"
_FIELDS = ("pci.bus_id", "name", "driver_version", "memory.total", "compute_cap", "vbios_version")
# https://developer.nvidia.com/cuda-gpus
_ARCHITECTURES = {
    "7.0": "Volta",
    "7.5": "Turing",
    "8.0": "Ampere",
    "8.6": "Ampere",
    "8.7": "Ampere",
    "8.9": "Ada Lovelace",
    "9.0": "Hopper",
    "10.0": "Blackwell",
    "12.0": "Blackwell",
    "12.1": "Blackwell",
}


@dataclass(frozen=True)
class NvidiaGpu:
    address: str  # as Linux writes it: 0000:01:00.0
    name: str
    driver: str
    memory_bytes: int | NotAvailable
    generation: str
    firmware: str | NotAvailable


def nvidia_gpus(machine: Machine) -> list[NvidiaGpu] | NotAvailable:
    """In the order of the PCI bus."""
    said = machine.run("nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits", timeout_s=10)
    if isinstance(said, NotAvailable):
        return said
    rows = ([part.strip() for part in line.split(",")] for line in said.splitlines())
    return [_gpu(row) for row in rows if len(row) == len(_FIELDS)]


def _gpu(row: list[str]) -> NvidiaGpu:
    address, name, driver, memory, capability, firmware = row
    mebibytes = whole_number(memory)  # "[N/A]" where the GPU shares the PC's
    architecture = _ARCHITECTURES.get(capability)
    return NvidiaGpu(
        address=address[-12:].lower(),  # its domain has eight digits, Linux' has four
        name=name,
        driver=driver,
        memory_bytes=NotAvailable("the driver does not say") if mebibytes is None else mebibytes << 20,
        generation=f"{architecture}, compute capability {capability}" if architecture else f"compute {capability}",
        firmware=NotAvailable("the driver does not say") if "N/A" in firmware else f"VBIOS {firmware}",
    )


def cuda_obstacles(driver: str, generation: str) -> list[Obstacle]:
    """What keeps CUDA 13 from a GPU that has `driver`, such as "nvidia 570.124.06", or Windows' number of it.

    A number that cannot be read is no obstacle, and neither is a GPU whose compute capability is not known.
    """
    found = re.search(r"compute (?:capability )?(\d+\.\d+)", generation)
    if found and is_older(found[1], OLDEST_CAPABILITY):
        reason = f"CUDA 13 takes GPUs of compute capability {OLDEST_CAPABILITY} or newer, and this one has {found[1]}"
        return [Obstacle(reason, "--device cpu", is_a_guess=False)]
    release = _release(driver)
    if not is_older(release, OLDEST_DRIVER):
        return []
    reason = f"NVIDIA's driver {release} is too old for CUDA 13, which needs {OLDEST_DRIVER} or newer"
    fix = "install NVIDIA's newest driver (Ubuntu: sudo ubuntu-drivers install) and restart the PC"
    return [Obstacle(reason, fix, is_a_guess=False)]


def _release(driver: str) -> str:
    """572.16 of Windows' 32.0.15.7216, whose last five digits it is."""
    windows = re.fullmatch(r"\d+\.\d+\.(\d+)\.(\d{4})", driver)
    if windows:
        digits = f"{windows[1]}{windows[2]}"[-5:]
        return f"{digits[:3]}.{digits[3:]}"
    return driver.removeprefix("nvidia ")
