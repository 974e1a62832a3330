"""What this PC has, and what each engine can do on it: `doctor.examine()`.

Everything is read through `machine.Machine`, or through a root, so recorded files stand in for a PC that is not here.
"""

from __future__ import annotations

from aipc.devices.known import NotAvailable
from aipc.devices.memory import Memory, find_memory
from aipc.devices.processor import Processor, find_processor

__all__ = ["Memory", "NotAvailable", "Processor", "find_memory", "find_processor"]
