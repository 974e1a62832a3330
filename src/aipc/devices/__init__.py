"""What this PC has: its CPU, and the devices that an engine sees.

Every probe reads files through a root, so a recorded tree of files stands in for a PC that is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aipc.devices.known import NotAvailable
from aipc.devices.memory import Memory, find_memory
from aipc.devices.openvino import RuntimeDevice, seen_by_openvino
from aipc.devices.processor import Processor, find_processor

__all__ = ["Device", "Memory", "NotAvailable", "Processor", "RuntimeDevice", "find"]

HERE = Path("/")
RECORDED = NotAvailable("a recorded PC cannot be asked")


@dataclass(frozen=True)
class Device:
    """One device. `runtime` is what OpenVINO says of it; `processor` and `memory` are known of the CPU alone so far."""

    id: str  # what `--device` takes, such as CPU, GPU.0 or NPU
    name: str | NotAvailable
    runtime: RuntimeDevice | NotAvailable
    processor: Processor | None = None
    memory: Memory | None = None

    @property
    def kind(self) -> str:
        """CPU, GPU or NPU."""
        return self.id.partition(".")[0]


def find(
    root: Path = HERE, *, runtime: Callable[[], Sequence[RuntimeDevice] | NotAvailable] | None = None
) -> list[Device]:
    """Every device, the CPU first. Raises nothing: what cannot be found out is `NotAvailable` with its reason.

    `root` is where the operating system's files begin. Under another root than `/` the runtime of this PC is not
    asked, unless `runtime` stands in for it.
    """
    ask = runtime or (seen_by_openvino if root == HERE else lambda: RECORDED)
    seen = ask()
    by_id = {} if isinstance(seen, NotAvailable) else {device.id: device for device in seen}
    not_seen = seen if isinstance(seen, NotAvailable) else NotAvailable("OpenVINO does not see it")
    return [_cpu(root, by_id.pop("CPU", not_seen)), *(_accelerator(device) for device in by_id.values())]


def _cpu(root: Path, runtime: RuntimeDevice | NotAvailable) -> Device:
    processor = find_processor(root)
    return Device(id="CPU", name=processor.name, runtime=runtime, processor=processor, memory=find_memory(root))


def _accelerator(runtime: RuntimeDevice) -> Device:
    return Device(id=runtime.id, name=runtime.name, runtime=runtime)
