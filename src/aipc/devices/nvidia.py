"""NVIDIA's GPUs as their driver's own program lists them.

https://docs.nvidia.com/deploy/nvidia-smi/: --query-gpu; memory in MiB.
"""

from __future__ import annotations

from dataclasses import dataclass

from aipc.devices.known import NotAvailable, whole_number
from aipc.devices.machine import Machine

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
    firmware: str


def nvidia_gpus(machine: Machine) -> list[NvidiaGpu] | NotAvailable:
    """In the order of the PCI bus."""
    said = machine.run("nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits", timeout_s=10)
    if isinstance(said, NotAvailable):
        return said
    rows = ([part.strip() for part in line.split(",")] for line in said.splitlines())
    return [_gpu(row) for row in rows if len(row) == len(_FIELDS)]


def _gpu(row: list[str]) -> NvidiaGpu:
    address, name, driver, memory, capability, firmware = row
    mebibytes = whole_number(memory)
    architecture = _ARCHITECTURES.get(capability)
    return NvidiaGpu(
        address=address[-12:].lower(),  # its domain has eight digits, Linux' has four
        name=name,
        driver=driver,
        memory_bytes=NotAvailable("the driver does not say") if mebibytes is None else mebibytes << 20,
        generation=f"{architecture}, compute capability {capability}" if architecture else f"compute {capability}",
        firmware=f"VBIOS {firmware}",
    )
