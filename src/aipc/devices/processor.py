"""The CPU: its name, cores and the instruction sets that matter for language models."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from aipc.devices.known import NotAvailable

# The kernel's names of the flags. https://docs.kernel.org/arch/x86/cpuinfo.html and arch/arm64/elf_hwcaps.html
X86_FLAGS = {
    "AVX2": "avx2",
    "F16C": "f16c",
    "AVX-VNNI": "avx_vnni",
    "AVX-512F": "avx512f",
    "AVX-512 VNNI": "avx512_vnni",
    "AVX-512 BF16": "avx512_bf16",
    "AMX-INT8": "amx_int8",
    "AMX-BF16": "amx_bf16",
}
ARM_FLAGS = {
    "NEON": "asimd",
    "FP16": "asimdhp",
    "DotProd": "asimddp",
    "I8MM": "i8mm",
    "BF16": "bf16",
    "SVE": "sve",
    "SVE2": "sve2",
}
# NumPy's names for what it detects itself, on every operating system. It does not look for the others.
NUMPY_FEATURES = {
    "AVX2": "AVX2",
    "F16C": "F16C",
    "AVX-512F": "AVX512F",
    "AVX-512 VNNI": "AVX512VNNI",
    "AVX-512 BF16": "AVX512BF16",
    "NEON": "ASIMD",
    "FP16": "ASIMDHP",
    "DotProd": "ASIMDDP",
    "SVE": "SVE",
}


@dataclass(frozen=True)
class Processor:
    """`instruction_sets` says of each that matters on this architecture: there, not there, or why that is not known."""

    name: str | NotAvailable
    architecture: str
    cores: int | NotAvailable
    threads: int | NotAvailable
    instruction_sets: Mapping[str, bool | NotAvailable]

    @property
    def instruction_sets_present(self) -> tuple[str, ...]:
        return tuple(name for name, present in self.instruction_sets.items() if present is True)


def find_processor(root: Path = Path("/")) -> Processor:
    """From proc/cpuinfo under `root`; where this PC has no such file, from the operating system and NumPy."""
    path = root / "proc/cpuinfo"
    try:
        return parse_cpuinfo(path.read_text(encoding="utf-8"))
    except OSError as error:
        if root == Path("/") and sys.platform != "linux":
            return _asked_of_the_system()
        return _unknown(NotAvailable(f"{path}: {error.strerror}"))


def _unknown(reason: NotAvailable) -> Processor:
    return Processor(name=reason, architecture="unknown", cores=reason, threads=reason, instruction_sets={})


def parse_cpuinfo(text: str) -> Processor:
    """The text of Linux' /proc/cpuinfo, of an x86-64 or a 64-bit ARM CPU.

    In a CPU with several kinds of cores an instruction set is there when all of them have it.
    """
    entries = [_fields(block) for block in text.strip().split("\n\n")]
    threads = [entry for entry in entries if "processor" in entry]
    if not threads:
        return _unknown(NotAvailable("/proc/cpuinfo lists no processor"))
    is_x86 = "flags" in threads[0]
    names = X86_FLAGS if is_x86 else ARM_FLAGS
    flags = set.intersection(*(set(thread.get("flags", thread.get("Features", "")).split()) for thread in threads))
    return Processor(
        name=_name(threads),
        architecture="x86-64" if is_x86 else "arm64",
        cores=_cores(threads, is_x86=is_x86),
        threads=len(threads),
        instruction_sets={name: flag in flags for name, flag in names.items()},
    )


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _name(threads: list[dict[str, str]]) -> str | NotAvailable:
    if "model name" in threads[0]:
        return threads[0]["model name"]
    # A 64-bit ARM kernel gives numbers only: who made the core, and which one it is; big and little cores differ.
    kinds = dict.fromkeys((thread.get("CPU implementer"), thread.get("CPU part")) for thread in threads)
    if any(None in kind for kind in kinds):
        return NotAvailable("/proc/cpuinfo names no model")
    return "ARM " + ", ".join(f"implementer {implementer} part {part}" for implementer, part in kinds)


def _cores(threads: list[dict[str, str]], *, is_x86: bool) -> int | NotAvailable:
    if not is_x86:
        return NotAvailable("/proc/cpuinfo of an ARM CPU counts threads only")
    if any("core id" not in thread for thread in threads):
        return NotAvailable("/proc/cpuinfo has no core id")
    return len({(thread.get("physical id"), thread["core id"]) for thread in threads})


def _asked_of_the_system() -> Processor:
    import psutil

    machine = platform.machine().lower()
    names = X86_FLAGS if machine in ("x86_64", "amd64") else ARM_FLAGS
    return Processor(
        name=_system_name(),
        architecture={"amd64": "x86-64", "x86_64": "x86-64", "aarch64": "arm64"}.get(machine, machine),
        cores=psutil.cpu_count(logical=False) or NotAvailable("the system does not say"),
        threads=os.cpu_count() or NotAvailable("the system does not say"),
        instruction_sets=detected_by_numpy(tuple(names)),
    )


def detected_by_numpy(names: tuple[str, ...]) -> Mapping[str, bool | NotAvailable]:
    """What NumPy found at its import of the instruction sets `names`."""
    unknown = NotAvailable("NumPy does not look for it")
    try:
        features = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return dict.fromkeys(names, NotAvailable("this NumPy does not say what it detects"))
    return {name: features.get(NUMPY_FEATURES.get(name, ""), unknown) for name in names}


def _system_name() -> str | NotAvailable:
    if sys.platform == "win32":
        return _windows_name()
    return platform.processor() or NotAvailable("the system does not say")


def _windows_name() -> str | NotAvailable:
    if sys.platform != "win32":
        return NotAvailable("not Windows")
    import winreg

    key = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as processor:
            return str(winreg.QueryValueEx(processor, "ProcessorNameString")[0]).strip()
    except OSError as error:
        return NotAvailable(f"the registry has no ProcessorNameString: {error.strerror}")
