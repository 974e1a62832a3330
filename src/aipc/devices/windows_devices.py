"""The CPU, the GPUs and the NPUs of a Windows PC, from one question to PowerShell.

Classes: https://learn.microsoft.com/windows/win32/cimwin32prov/ (Win32_Processor, Win32_VideoController,
Win32_PnPEntity, Win32_PnPSignedDriver, Win32_ComputerSystem,
Win32_OperatingSystem). NPUs are of the class ComputeAccelerator; one without a
driver has no class and error code 28. AdapterRAM has 32 bits, so a card's memory is read from the registry.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from aipc.devices import intel_npu, other_npus
from aipc.devices.device import DeviceMemory
from aipc.devices.found import Found
from aipc.devices.generations import cpu_generation, cpu_vendor, gpu_generation, has_own_memory
from aipc.devices.known import NotAvailable, byte_count
from aipc.devices.machine import Machine
from aipc.devices.pci import PROCESSOR_VENDORS, VENDORS
from aipc.devices.processor import ARM_FLAGS, X86_FLAGS, Processor
from aipc.devices.runtimes import Runtimes
from aipc.devices.verdict import Obstacle

TIMEOUT_S = 30.0  # the very first question after a start of Windows takes several seconds
_ADAPTERS = r"HKLM:\SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}\0*"
# Old drivers of AMD's put their NPU into the class System. `_` stands for any character: a backslash, here, and itself.
_KNOWN_NPUS = " OR ".join(f"DeviceID LIKE 'PCI_VEN_1022&DEV_{device:04X}%'" for device in other_npus.DEVICES)
SCRIPT = f"""
[Console]::OutputEncoding = [Text.Encoding]::UTF8
$ErrorActionPreference = 'SilentlyContinue'
$npu = "{_KNOWN_NPUS}"
@{{
  processors = @(Get-CimInstance Win32_Processor |
    Select-Object Name, Manufacturer, Description, NumberOfCores, NumberOfLogicalProcessors)
  video = @(Get-CimInstance Win32_VideoController |
    Select-Object Name, PNPDeviceID, DriverVersion, ConfigManagerErrorCode)
  entities = @(Get-CimInstance Win32_PnPEntity -Filter (
    "PNPClass='ComputeAccelerator' OR ConfigManagerErrorCode<>0 OR $npu") |
    Select-Object Name, PNPClass, PNPDeviceID, ConfigManagerErrorCode)
  drivers = @(Get-CimInstance Win32_PnPSignedDriver -Filter "DeviceClass='COMPUTEACCELERATOR' OR $npu" |
    Select-Object DeviceID, DriverVersion)
  adapters = @(Get-ItemProperty '{_ADAPTERS}' |
    Select-Object MatchingDeviceId, @{{n='bytes'; e={{$_.'HardwareInformation.qwMemorySize'}}}})
  system = Get-CimInstance Win32_ComputerSystem | Select-Object TotalPhysicalMemory, Manufacturer, Model
  free = (Get-CimInstance Win32_OperatingSystem).FreePhysicalMemory
}} | ConvertTo-Json -Depth 4 -Compress
"""
ENCODED = base64.b64encode(SCRIPT.encode("utf-16-le")).decode("ascii")  # its quotes survive every command line
# https://support.microsoft.com/help/310123, "Error codes in Device Manager"
_ERRORS = {
    10: ("the device cannot start (code 10)", "install the newest driver and restart the PC"),
    12: ("the device lacks resources (code 12)", "restart the PC; if that does not help, update its BIOS"),
    22: ("the device is switched off (code 22)", "switch it on in the Device Manager"),
    28: ("no driver is installed (code 28)", "install the driver from Windows Update or the PC's maker"),
    31: ("Windows cannot load its driver (code 31)", "install the newest driver and restart the PC"),
    43: (
        "Windows stopped it after an error (code 43)",
        "restart the PC; if that does not help, install the driver anew",
    ),
}
Row = Mapping[str, Any]


def found_on_windows(machine: Machine, runtimes: Runtimes) -> list[Found]:
    """The CPU, then the GPUs and NPUs; the CPU alone, with the reason, when PowerShell does not answer."""
    options = ("-NoProfile", "-NonInteractive", "-EncodedCommand", ENCODED)
    said = machine.run(_powershell(machine), *options, timeout_s=TIMEOUT_S)
    answer = _parsed(said)
    if isinstance(answer, NotAvailable):
        processor = Processor(answer, machine.architecture, answer, answer, _instruction_sets(machine, runtimes))
        memory = DeviceMemory(answer, is_shared=True)
        return [Found("CPU", answer, answer, answer, answer, answer, memory, processor=processor)]
    system = answer.get("system")
    total = system.get("TotalPhysicalMemory") if isinstance(system, dict) else None
    free_kibibytes = byte_count(answer.get("free"), "Windows does not say")
    shared = DeviceMemory(
        byte_count(total, "Windows does not say"),
        is_shared=True,
        available_bytes=free_kibibytes if isinstance(free_kibibytes, NotAvailable) else free_kibibytes * 1024,
    )
    gpus = [_gpu(row, _rows(answer, "adapters"), shared) for row in _rows(answer, "video")]
    npus = [_npu(row, _rows(answer, "drivers"), shared) for row in _rows(answer, "entities")]
    found = sorted(filter(None, gpus), key=lambda gpu: (gpu.vendor != "Intel", not gpu.memory.is_shared))
    return [_cpu(machine, _rows(answer, "processors"), runtimes, shared), *found, *filter(None, npus)]


def _powershell(machine: Machine) -> str:
    """By its whole path, as Windows looks for a bare name in the current directory first."""
    system = machine.environment.get("SYSTEMROOT")
    return rf"{system}\System32\WindowsPowerShell\v1.0\powershell.exe" if system else "powershell"


def _parsed(said: str | NotAvailable) -> Row | NotAvailable:
    if isinstance(said, NotAvailable):
        return said
    try:
        answer = json.loads(said.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        return NotAvailable(f"PowerShell's answer is no JSON: {error}")
    return answer if isinstance(answer, dict) else NotAvailable("PowerShell's answer is no object")


def _rows(answer: Row, key: str) -> list[Row]:
    rows = answer.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    return value.strip() if isinstance(value, str) else ""


def _instruction_sets(machine: Machine, runtimes: Runtimes) -> dict[str, bool | NotAvailable]:
    names = ARM_FLAGS if machine.architecture == "arm64" else X86_FLAGS
    known = runtimes.instruction_sets
    if isinstance(known, NotAvailable):
        return dict.fromkeys(names, known)
    return {name: known.get(name, NotAvailable("NumPy does not look for it")) for name in names}


def _cpu(machine: Machine, rows: list[Row], runtimes: Runtimes, memory: DeviceMemory) -> Found:
    row: Row = rows[0] if rows else {}
    unknown = NotAvailable("Windows does not say")
    cores, threads = (
        sum(number for row in rows if isinstance(number := row.get(key), int)) or unknown
        for key in ("NumberOfCores", "NumberOfLogicalProcessors")
    )
    vendor = cpu_vendor(_text(row, "Manufacturer") or _text(row, "Name"))
    # "Intel64 Family 6 Model 170 Stepping 4"
    model = re.search(r"Family (\d{1,4}) Model (\d{1,4})", _text(row, "Description"))
    name = _text(row, "Name") or unknown
    return Found(
        kind="CPU",
        vendor=vendor,
        name=name,
        generation=cpu_generation(str(vendor), int(model[1]), int(model[2])) if model else unknown,
        driver=NotAvailable("a CPU has none on Windows"),
        firmware=unknown,
        memory=memory,
        processor=Processor(name, machine.architecture, cores, threads, _instruction_sets(machine, runtimes)),
    )


def _ids(path: str) -> tuple[str | None, int, int]:
    r"""Vendor, device and revision of PCI\VEN_8086&DEV_7D1D&SUBSYS_…&REV_04\…, or ACPI\VEN_QCOM&DEV_0D17\…."""
    if re.match(r"ACPI\\(VEN_)?QCOM", path, re.IGNORECASE):
        return "Qualcomm", 0, 0
    found = re.match(r"PCI\\VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})(?:.*&REV_([0-9A-F]{2}))?", path, re.IGNORECASE)
    if not found:
        return None, 0, 0
    return VENDORS.get(int(found[1], 16)), int(found[2], 16), int(found[3] or "0", 16)


def _trouble(row: Row) -> list[Obstacle]:
    code = row.get("ConfigManagerErrorCode")
    if not isinstance(code, int) or code == 0:
        return []
    reason, fix = _ERRORS.get(code, (f"Windows reports error code {code}", "look at the device in the Device Manager"))
    return [Obstacle(reason, fix)]


def _gpu(row: Row, adapters: list[Row], shared: DeviceMemory) -> Found | None:
    path = _text(row, "PNPDeviceID")
    vendor, device, _ = _ids(path)
    if vendor not in PROCESSOR_VENDORS:
        return None  # a display by remote desktop, or a virtual machine's
    return Found(
        kind="GPU",
        vendor=vendor,
        name=_text(row, "Name") or f"{vendor} GPU [{device:04x}]",
        generation=gpu_generation(vendor, device),
        driver=_text(row, "DriverVersion") or NotAvailable("Windows names no driver"),
        firmware=NotAvailable("Windows does not say"),
        memory=_own_memory(path, adapters) if has_own_memory(vendor, device) and device else shared,
        obstacles=_trouble(row),
    )


def _own_memory(path: str, adapters: list[Row]) -> DeviceMemory:
    # The registry's id is a beginning of the device's: pci\ven_10de&dev_2684 or with its subsystem.
    sizes = [
        row.get("bytes")
        for row in adapters
        if (known := _text(row, "MatchingDeviceId").lower()) and path.lower().startswith(known)
    ]
    total = next((size for size in sizes if size), None)
    return DeviceMemory(byte_count(total, "the registry has no qwMemorySize"), is_shared=False)


def _npu(row: Row, drivers: list[Row], shared: DeviceMemory) -> Found | None:
    path = _text(row, "PNPDeviceID")
    vendor, device, revision = _ids(path)
    is_accelerator = _text(row, "PNPClass").lower() == "computeaccelerator"
    is_known = (vendor == "Intel" and device in intel_npu.GENERATIONS) or (
        vendor == "AMD" and other_npus.is_xdna(device)
    )
    if vendor is None or not (is_accelerator or is_known):
        return None
    versions = [_text(driver, "DriverVersion") for driver in drivers if _text(driver, "DeviceID") == path]
    version = versions[0] if versions and versions[0] else NotAvailable("Windows names no driver")
    trouble = _trouble(row)
    return Found(
        kind="NPU",
        vendor=vendor,
        name=_text(row, "Name") or f"{vendor} NPU",
        generation=_npu_generation(vendor, device, revision),
        driver=version,
        firmware=NotAvailable("Windows does not say"),
        memory=shared,
        openvino_obstacles=[*trouble, *intel_npu.on_windows(version)] if vendor == "Intel" else [],
        notes=() if vendor == "Intel" else tuple(trouble),
    )


def _npu_generation(vendor: str, device: int, revision: int) -> str | NotAvailable:
    if vendor == "Intel":
        return intel_npu.generation_of(device)
    if vendor == "AMD":
        return other_npus.xdna_generation(device, revision)
    return "Hexagon" if vendor == "Qualcomm" else NotAvailable("its numbers are not in aipc's tables")
