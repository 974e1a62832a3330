"""Examine this PC: its CPU, GPUs and NPU, which engine runs on each, why one does not, and what helps.

With DEVICE the exit code is 1 when no engine runs on it.

examples:
  aipc devices
  aipc devices npu
  aipc devices gpu.1 --json
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aipc.devices.machine import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "device",
        nargs="?",
        metavar="DEVICE",
        help="cpu, gpu, gpu.1 or npu: this one alone, exit code 1 if it cannot run",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")


def run(arguments: argparse.Namespace) -> int:
    return examined(arguments.device, as_json=arguments.json)


def examined(device: str | None, *, as_json: bool, machine: Machine | None = None) -> int:
    """Print what the doctor finds, and return the exit code. `machine` stands in for this PC."""
    from aipc.cli.device_report import as_line, as_text
    from aipc.devices.doctor import examine, refuse_other_words

    if device is not None:
        refuse_other_words(device)  # before anything is looked at
    report = examine(machine)
    if device is not None:
        report = report.of(device)
    print(as_line(report) if as_json else as_text(report, asked_for=device))
    return 0 if device is None or any(found.can_run for found in report.devices) else 1
