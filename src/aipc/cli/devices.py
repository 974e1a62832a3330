"""Show this PC's processors, their memory and instruction sets, and what OpenVINO runs on.

examples:
  aipc devices
  aipc devices --json
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from aipc.devices.known import NotAvailable

if TYPE_CHECKING:
    from aipc.devices import Device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")


def run(arguments: argparse.Namespace) -> int:
    from aipc.devices import find

    rows = [(device.id, _facts(device)) for device in find()]
    if arguments.json:
        print(json.dumps({"devices": [{"id": name, **facts} for name, facts in rows]}, default=_json))
        return 0
    for name, facts in rows:
        print(name)
        for key, value in facts.items():
            print(f"  {key.removesuffix('_bytes').replace('_', ' '):17} {_shown(key, value)}")
    return 0


def _facts(device: Device) -> dict[str, object]:
    runtime, processor, memory = device.runtime, device.processor, device.memory
    facts: dict[str, object] = {"name": device.name}
    if processor is not None:
        facts |= {
            "architecture": processor.architecture,
            "cores": processor.cores,
            "threads": processor.threads,
            "instruction_sets": dict(processor.instruction_sets),
        }
    if memory is not None:
        facts |= {"memory_bytes": memory.total_bytes, "available_bytes": memory.available_bytes}
    if isinstance(runtime, NotAvailable):
        return {**facts, "openvino": runtime}
    return {**facts, "openvino": "sees it", "capabilities": runtime.capabilities, "driver": runtime.driver_version}


def _json(value: object) -> object:
    """`NotAvailable` is null in JSON."""
    if isinstance(value, NotAvailable):
        return None
    raise TypeError(type(value).__name__)


def _shown(key: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(_instruction_set(name, has) for name, has in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if key.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    return str(value)


def _instruction_set(name: str, has: bool | NotAvailable) -> str:
    if isinstance(has, NotAvailable):
        return f"{name} {has}"
    return name if has else f"no {name}"
