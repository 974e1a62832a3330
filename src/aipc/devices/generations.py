"""What a CPU or a GPU is called by its makers' engineers, from the numbers that it gives of itself.

CPUs: arch/x86/include/asm/intel-family.h of the Linux kernel and arch/x86/kernel/cpu/amd.c. GPUs:
include/drm/intel/pciids.h, and https://pci-ids.ucw.cz for AMD.
"""

from __future__ import annotations

import re

from aipc.devices.known import NotAvailable

UNKNOWN = NotAvailable("its numbers are not in aipc's tables")
MADE_UP = NotAvailable("a virtual machine gave it the numbers of a CPU without AMX, which it has")
INTEL_MODELS = {  # family 6; the newest, Nova Lake, begins family 18
    0x8C: "Tiger Lake",
    0x8D: "Tiger Lake",
    0x97: "Alder Lake",
    0x9A: "Alder Lake",
    0xBE: "Alder Lake-N",
    0xB7: "Raptor Lake",
    0xBA: "Raptor Lake",
    0xBF: "Raptor Lake",
    0xAA: "Meteor Lake",
    0xAC: "Meteor Lake",
    0xB5: "Arrow Lake",
    0xC5: "Arrow Lake",
    0xC6: "Arrow Lake",
    0xBD: "Lunar Lake",
    0xCC: "Panther Lake",
    0xE5: "Panther Lake",
    0xD5: "Wildcat Lake",
    0x55: "Skylake-SP",
    0x8E: "Kaby Lake",
    0x9E: "Kaby Lake",
    0xA5: "Comet Lake",
    0xA6: "Comet Lake",
    0x7D: "Ice Lake",
    0x7E: "Ice Lake",
    0xA7: "Rocket Lake",
    0x6A: "Ice Lake-SP",
    0x8F: "Sapphire Rapids",
    0xCF: "Emerald Rapids",
    0xAD: "Granite Rapids",
}
_WITH_AMX = (0x8F, 0xCF, 0xAD)
# Family, first and last model.
AMD_MODELS = {
    (0x17, 0x60, 0x6F): "Zen 2 (Renoir)",
    (0x17, 0x70, 0x7F): "Zen 2 (Matisse)",
    (0x19, 0x00, 0x0F): "Zen 3 (EPYC)",
    (0x19, 0x20, 0x2F): "Zen 3 (Vermeer)",
    (0x19, 0x50, 0x5F): "Zen 3 (Cezanne)",
    (0x19, 0x40, 0x4F): "Zen 3+ (Rembrandt)",
    (0x19, 0x10, 0x1F): "Zen 4 (EPYC)",
    (0x19, 0x60, 0x6F): "Zen 4 (Raphael)",
    (0x19, 0x70, 0x7F): "Zen 4 (Phoenix, Hawk Point)",
    (0x1A, 0x00, 0x1F): "Zen 5 (EPYC)",
    (0x1A, 0x20, 0x2F): "Zen 5 (Strix Point)",
    (0x1A, 0x40, 0x4F): "Zen 5 (Granite Ridge)",
    (0x1A, 0x60, 0x6F): "Zen 5 (Krackan Point)",
    (0x1A, 0x70, 0x7F): "Zen 5 (Strix Halo)",
}
# CPUs that have an NPU on their die, by the words above.
WITH_NPU = ("Meteor", "Arrow", "Lunar", "Panther", "Wildcat", "Nova", "Phoenix", "Strix", "Krackan")
# Of arch/arm64/include/asm/cputype.h.
ARM_IMPLEMENTERS = {"0x41": "ARM", "0x4e": "NVIDIA", "0x51": "Qualcomm", "0x61": "Apple", "0xc0": "Ampere"}
_INTEL_GPUS = {
    "Xe-LP (Tiger Lake)": "9a40 9a49 9a59 9a60 9a68 9a70 9a78 9ac0 9ac9 9ad9 9af8",
    "Xe-LP (Alder Lake)": "4680 4682 4688 468a 468b 4690 4692 4693 46a0 46a1 46a2 46a3 46a6 46a8 46aa 462a 4626 4628 "
    "46b0 46b1 46b2 46b3 46c0 46c1 46c2 46c3",
    "Xe-LP (Alder Lake-N)": "46d0 46d1 46d2 46d3 46d4",
    "Xe-LP (Raptor Lake)": "a780 a781 a782 a783 a788 a789 a78a a78b a721 a7a1 a7a9 a7ac a7ad a720 a7a0 a7a8 a7aa a7ab",
    "Xe-LPG (Meteor Lake)": "7d40 7d45 7d55 7d60 7dd5",
    "Xe-LPG (Arrow Lake)": "7d51 7dd1 7d41 7d67 b640",
    "Xe2 (Lunar Lake)": "6420 64a0 64b0",
    "Xe3 (Panther Lake)": "b080 b081 b082 b083 b084 b085 b086 b087 b08f b090 b0a0 b0b0",
    "Xe3 (Wildcat Lake)": "fd80 fd81",
    "Xe-HPG (Alchemist)": "56a0 56a1 56a2 56a3 56a4 56a5 56a6 56b0 56b1 56b2 56b3 56ba 56bb 56bc 56bd 56be 56bf "
    "5690 5691 5692 5693 5694 5695 5696 5697 56c0 56c1 56c2",
    "Xe2 (Battlemage)": "e202 e209 e20b e20c e20d e210 e211 e212 e216 e220 e221 e222 e223",
}
INTEL_GPUS = {int(device, 16): name for name, devices in _INTEL_GPUS.items() for device in devices.split()}
INTEL_CARDS = ("Alchemist", "Battlemage")  # those with memory of their own
AMD_GPUS = {  # those on a CPU's die
    0x15DD: "Vega (Raven Ridge)",
    0x15D8: "Vega (Picasso)",
    0x1636: "Vega (Renoir)",
    0x164C: "Vega (Lucienne)",
    0x1638: "Vega (Cezanne)",
    0x15E7: "Vega (Barcelo)",
    0x163F: "RDNA 2 (Van Gogh)",
    0x1506: "RDNA 2 (Mendocino)",
    0x164E: "RDNA 2 (Raphael)",
    0x13C0: "RDNA 2 (Granite Ridge)",
    0x1681: "RDNA 2 (Rembrandt)",
    0x15BF: "RDNA 3 (Phoenix)",
    0x15C8: "RDNA 3 (Phoenix)",
    0x1900: "RDNA 3 (Hawk Point)",
    0x1901: "RDNA 3 (Hawk Point)",
    0x150E: "RDNA 3.5 (Strix Point)",
    0x1586: "RDNA 3.5 (Strix Halo)",
    0x1114: "RDNA 3.5 (Krackan Point)",
}


def cpu_generation(vendor: str, family: int, model: int, *, has_amx: bool = False) -> str | NotAvailable:
    """Such as "Meteor Lake"; `vendor` is Intel or AMD. Virtual machines may give numbers of another CPU."""
    if vendor == "Intel" and family == 6:
        generation = INTEL_MODELS.get(model, UNKNOWN)
        return MADE_UP if has_amx and generation is not UNKNOWN and model not in _WITH_AMX else generation
    if vendor == "Intel" and family == 18:
        return "Nova Lake" if model in (0x01, 0x03) else UNKNOWN
    ranges = AMD_MODELS.items() if vendor == "AMD" else ()
    found = [name for (known, first, last), name in ranges if known == family and first <= model <= last]
    return found[0] if found else UNKNOWN


def cpu_vendor(text: str) -> str | NotAvailable:
    """From what a CPU or a system calls its maker: GenuineIntel, AuthenticAMD, Qualcomm Technologies Inc, 0x51."""
    marks = {"Intel": "Intel", "AMD": "AMD", "Qualcomm": "Qualcomm", "Apple": "Apple"} | ARM_IMPLEMENTERS
    found = [vendor for mark, vendor in marks.items() if re.search(mark, text)]
    return found[0] if found else NotAvailable(f"the maker {text!r} is not known" if text else "the CPU names no maker")


def gpu_generation(vendor: str | NotAvailable, device: int) -> str | NotAvailable:
    tables = {"Intel": INTEL_GPUS, "AMD": AMD_GPUS}
    return tables.get(str(vendor), {}).get(device, UNKNOWN)


def has_own_memory(vendor: str | NotAvailable, device: int) -> bool:
    """Whether a GPU is a card. An unknown one of Intel's is taken for a part of the CPU, as most are."""
    if vendor == "Intel":
        return INTEL_GPUS.get(device, "").endswith(tuple(f"({card})" for card in INTEL_CARDS))
    return vendor == "NVIDIA" or (vendor == "AMD" and device not in AMD_GPUS)
