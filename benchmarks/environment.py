"""What a measurement was made on: the machine, and the versions of everything that took part."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

PACKAGES = (
    "aipc",
    "numpy",
    "openvino",
    "openvino-genai",
    "openvino-tokenizers",
    "tokenizers",
    "safetensors",
    "optimum-intel",
    "nncf",
    "torch",
    "transformers",
)
ASK_VERSIONS = """
import importlib.metadata, json, sys
found = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))
"""


def machine() -> dict:
    """Return the processor, cores, memory, system and present load."""
    return {
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": psutil.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def own_versions() -> dict[str, str]:
    """Return the versions of the packages beside this Python."""
    found = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    return {name: found[name] for name in PACKAGES if name in found}


def versions_of(command: str) -> dict[str, str] | None:
    """Return the versions in the environment that `command` belongs to; None when it will not tell."""
    python = Path(command).absolute().parent / Path(sys.executable).name
    if not python.exists():
        return None
    answer = subprocess.run([python, "-c", ASK_VERSIONS, *PACKAGES], capture_output=True, text=True, check=False)
    return json.loads(answer.stdout) if answer.returncode == 0 else None


def _processor() -> str:
    """Return the marketing name, which `platform.processor()` lacks on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
