"""The CPU, the GPUs and the NPUs of a Linux PC, from its /proc and its PCI bus."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aipc.devices import intel_npu, linux, other_npus
from aipc.devices.device import DeviceMemory
from aipc.devices.found import Found
from aipc.devices.generations import cpu_generation, cpu_vendor, gpu_generation, has_own_memory
from aipc.devices.known import NotAvailable, byte_count, whole_number
from aipc.devices.machine import Machine
from aipc.devices.memory import parse_meminfo
from aipc.devices.nvidia import NvidiaGpu, nvidia_gpus
from aipc.devices.pci import ACCELERATOR, DISPLAY, PROCESSOR_VENDORS, SIGNAL, PciDevice, pci_devices, pci_names
from aipc.devices.processor import Processor, parse_cpuinfo
from aipc.devices.qualcomm import found_of_qualcomm
from aipc.devices.verdict import Obstacle
from aipc.devices.versions import is_older

# The first Linux that takes these GPUs without being forced to: `require_force_probe` in i915/i915_pci.c and
# xe/xe_pci.c. A distribution may have brought it to an older one; then a driver has the GPU, and nothing is said.
OLDEST_KERNELS = {
    "Alchemist": "6.2",
    "Meteor Lake": "6.7",
    "Lunar Lake": "6.12",
    "Battlemage": "6.12",
    "Panther Lake": "6.17",
}
COMPUTE_RUNTIME = "https://github.com/intel/compute-runtime/releases"


def found_on_linux(machine: Machine) -> list[Found]:
    """The CPU, then the GPUs, Intel's first as OpenVINO counts no other, those without own memory before cards."""
    devices = [device for device in pci_devices(machine) if device.vendor_name in PROCESSOR_VENDORS]
    gpus = [device for device in devices if device.base_class == DISPLAY]
    npus = [device for device in devices if _is_npu(device)]
    names = pci_names(machine, [*gpus, *npus])
    is_asked = any(gpu.vendor_name == "NVIDIA" for gpu in gpus) or linux.is_wsl(machine)
    nvidia = nvidia_gpus(machine) if is_asked else []
    shared = ram(machine)
    gpus.sort(key=lambda gpu: (gpu.vendor_name != "Intel", has_own_memory(gpu.vendor_name, gpu.device), gpu.address))
    return [
        _cpu(machine, shared),
        *(_gpu(machine, gpu, names, shared, nvidia) for gpu in gpus),
        *(_listed_gpu(gpu) for gpu in _off_the_bus(nvidia, gpus)),
        *(_npu(machine, npu, names, shared) for npu in npus),
        *found_of_qualcomm(machine, shared),
    ]


def ram(machine: Machine) -> DeviceMemory:
    """The PC's memory, which every processor on the CPU's die shares."""
    text = machine.read("/proc/meminfo")
    if isinstance(text, NotAvailable):
        return DeviceMemory(text, is_shared=True, available_bytes=text)
    memory = parse_meminfo(text)
    return DeviceMemory(memory.total_bytes, is_shared=True, available_bytes=memory.available_bytes)


def _is_npu(device: PciDevice) -> bool:
    if device.vendor_name == "Intel":
        return device.device in intel_npu.GENERATIONS or device.base_class == ACCELERATOR
    is_xdna = other_npus.is_xdna(device.device) or device.driver == "amdxdna"  # a newer driver knows more of them
    return device.vendor_name == "AMD" and device.base_class in (ACCELERATOR, SIGNAL) and is_xdna


def _cpu(machine: Machine, memory: DeviceMemory) -> Found:
    text = machine.read("/proc/cpuinfo")
    if isinstance(text, NotAvailable):
        processor = Processor(text, machine.architecture, text, text, {})
        return Found("CPU", text, text, text, text, text, memory, processor=processor)
    processor = parse_cpuinfo(text)
    vendor = cpu_vendor(_field(text, "vendor_id") or _field(text, "CPU implementer"))
    family, model = (whole_number(_field(text, key)) for key in ("cpu family", "model"))
    release = linux.kernel_release(machine)
    return Found(
        kind="CPU",
        vendor=vendor,
        name=processor.name,
        generation=cpu_generation(
            str(vendor), family or 0, model or 0, has_amx=processor.instruction_sets.get("AMX-INT8") is True
        ),
        driver=f"Linux {release}" if isinstance(release, str) else release,
        firmware=_microcode(_field(text, "microcode")),
        memory=memory,
        processor=processor,
    )


def _field(cpuinfo: str, key: str) -> str:
    found = re.search(rf"^{key}[ \t]*:[ \t]*(.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""


def _microcode(text: str) -> str | NotAvailable:
    return f"microcode {text}" if text else NotAvailable("/proc/cpuinfo has no microcode")


def _npu(machine: Machine, npu: PciDevice, names: dict[str, str], shared: DeviceMemory) -> Found:
    is_intel = npu.vendor_name == "Intel"
    generation = (
        intel_npu.generation_of(npu.device) if is_intel else other_npus.xdna_generation(npu.device, npu.revision)
    )
    return Found(
        kind="NPU",
        vendor=npu.vendor_name,
        name=names.get(npu.ids, f"{npu.vendor_name} NPU [{npu.ids}]"),
        generation=generation,
        driver=intel_npu.driver_version(machine, npu) if is_intel else _kernel_driver(machine, npu),
        firmware=intel_npu.firmware_version(machine, npu) if is_intel else other_npus.xdna_firmware(machine, npu),
        memory=shared,
        openvino_obstacles=intel_npu.on_linux(machine, npu) if is_intel else [],
        notes=() if is_intel else other_npus.xdna_notes(machine, npu),
    )


def _kernel_driver(machine: Machine, device: PciDevice) -> str | NotAvailable:
    if device.driver is None:
        return NotAvailable("no kernel driver has taken it")
    own = machine.read(f"/sys/module/{device.driver}/version")  # drivers outside the kernel have one of their own
    return f"{device.driver} {own.strip()}" if isinstance(own, str) else _of_kernel(machine, device.driver)


def _of_kernel(machine: Machine, driver: str) -> str:
    return f"{driver} of Linux {linux.kernel_release(machine)}"


def _gpu(
    machine: Machine,
    gpu: PciDevice,
    names: dict[str, str],
    shared: DeviceMemory,
    nvidia: Sequence[NvidiaGpu] | NotAvailable,
) -> Found:
    if gpu.vendor_name == "NVIDIA" and not isinstance(nvidia, NotAvailable):
        known = next((one for one in nvidia if one.address == gpu.address), None)
        if known is not None:
            return _listed_gpu(known)
    return Found(
        kind="GPU",
        vendor=gpu.vendor_name,
        name=names.get(gpu.ids, f"{gpu.vendor_name} GPU [{gpu.ids}]"),
        generation=gpu_generation(gpu.vendor_name, gpu.device),
        driver=_kernel_driver(machine, gpu),
        firmware=NotAvailable("the kernel does not say"),
        memory=_gpu_memory(machine, gpu, shared),
        obstacles=_nvidia_obstacles(gpu, nvidia) if gpu.vendor_name == "NVIDIA" else [],
        openvino_obstacles=_intel_obstacles(machine, gpu) if gpu.vendor_name == "Intel" else [],
    )


def _off_the_bus(nvidia: Sequence[NvidiaGpu] | NotAvailable, gpus: list[PciDevice]) -> list[NvidiaGpu]:
    """Those that no PCI bus shows, as in WSL, whose /dev/dxg NVIDIA's driver for it uses.

    https://docs.nvidia.com/cuda/wsl-user-guide/
    """
    addresses = {gpu.address for gpu in gpus}
    return [] if isinstance(nvidia, NotAvailable) else [gpu for gpu in nvidia if gpu.address not in addresses]


def _listed_gpu(gpu: NvidiaGpu) -> Found:
    memory = DeviceMemory(gpu.memory_bytes, is_shared=False)
    return Found("GPU", "NVIDIA", gpu.name, gpu.generation, f"nvidia {gpu.driver}", gpu.firmware, memory)


def _gpu_memory(machine: Machine, gpu: PciDevice, shared: DeviceMemory) -> DeviceMemory:
    """amdgpu says how much of its own a card has: https://docs.kernel.org/gpu/amdgpu/driver-misc.html."""
    if not has_own_memory(gpu.vendor_name, gpu.device):
        return shared
    text = machine.read(f"{gpu.path}/mem_info_vram_total")
    return DeviceMemory(byte_count(whole_number(text), "the kernel does not say"), is_shared=False)


def _nvidia_obstacles(gpu: PciDevice, known: Sequence[NvidiaGpu] | NotAvailable) -> list[Obstacle]:
    if gpu.driver == "nvidia":
        why = known.reason if isinstance(known, NotAvailable) else "nvidia-smi does not list it"
        return [Obstacle(f"the NVIDIA driver does not answer: {why}", "restart the PC, or install the driver anew")]
    held = f"the kernel driver {gpu.driver} holds it, which has no CUDA" if gpu.driver else "no driver is loaded"
    return [Obstacle(held, "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install) and restart the PC")]


def _intel_obstacles(machine: Machine, gpu: PciDevice) -> list[Obstacle]:
    """OpenVINO's GPU plugin is linked against libOpenCL.so.1, which finds Intel's driver by a file of its vendor's.

    https://docs.openvino.ai/2026/get-started/install-openvino/configurations/configurations-intel-gpu.html
    """
    if gpu.driver is None or not gpu.nodes:
        return [_no_kernel_driver(machine, gpu)]
    found = [linux.access_obstacle(machine, node) for node in gpu.nodes]
    obstacles = [obstacle for obstacle in found if obstacle]
    if linux.library(machine, "libOpenCL.so.1") is None:
        fix = "sudo apt install ocl-icd-libopencl1"
        obstacles.append(Obstacle("the OpenCL loader libOpenCL.so.1 is not installed", fix))
    if not any("intel" in name for name in machine.list("/etc/OpenCL/vendors")):
        fix = f"sudo apt install intel-opencl-icd, or a newer one from {COMPUTE_RUNTIME}"
        obstacles.append(Obstacle("Intel's OpenCL driver is not installed (/etc/OpenCL/vendors/intel.icd)", fix))
    return obstacles


def _no_kernel_driver(machine: Machine, gpu: PciDevice) -> Obstacle:
    release, generation = str(linux.kernel_release(machine)), str(gpu_generation("Intel", gpu.device))
    oldest = next((kernel for name, kernel in OLDEST_KERNELS.items() if name in generation), "")
    if oldest and is_older(release, oldest):
        reason = f"the kernel {release} is too old for a GPU of {generation}, which needs Linux {oldest} or newer"
        return Obstacle(reason, linux.NEWER_KERNEL)
    return Obstacle("no kernel driver, i915 or xe, has taken the GPU", "sudo modprobe xe || sudo modprobe i915")
