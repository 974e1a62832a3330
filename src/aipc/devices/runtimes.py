"""What the runtimes themselves see, asked in a process of its own, which alone a driver takes along when it crashes.

The process is a command like any other, so a recorded PC brings what it answered.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aipc.devices.known import NotAvailable
from aipc.devices.machine import Machine
from aipc.devices.openvino import RuntimeDevice

TIMEOUT_S = 20.0  # the first look at a GPU may compile something
NOT_ASKED = NotAvailable("the runtimes were not asked")


@dataclass(frozen=True)
class Runtimes:
    """`directx` and `cuda` are names of adapters, in the order in which their index counts."""

    openvino: Sequence[RuntimeDevice] | NotAvailable = NOT_ASKED
    directx: Sequence[str] | NotAvailable = NOT_ASKED
    cuda: Sequence[str] | NotAvailable = NOT_ASKED
    instruction_sets: Mapping[str, bool | NotAvailable] | NotAvailable = NOT_ASKED

    def seen(self, device: str) -> RuntimeDevice | NotAvailable:
        """`device`, such as NPU or GPU.0, as OpenVINO describes it. The first of a kind needs no number."""
        if isinstance(self.openvino, NotAvailable):
            return self.openvino
        names = {device, f"{device}.0", device.removesuffix(".0")}
        found = [seen for seen in self.openvino if seen.id in names]
        return found[0] if found else NotAvailable("OpenVINO does not see it")

    def sees(self, device: str) -> bool | None:
        """Whether OpenVINO sees `device`; None when it was not asked."""
        if isinstance(self.openvino, NotAvailable):
            return None
        return not isinstance(self.seen(device), NotAvailable)


def ask(machine: Machine) -> Runtimes:
    """Start the process and read its answer. Nothing that it writes makes this raise."""
    # The child looks for modules where this process does, and not in the current directory besides.
    code = f"import sys; sys.path[:] = {sys.path!r}; from aipc.devices import runtimes; runtimes.main()"
    said = machine.run(sys.executable or "python", "-c", code, timeout_s=TIMEOUT_S)
    if isinstance(said, NotAvailable):
        return Runtimes(said, said, said, said)
    try:
        return _parsed(json.loads(said.strip().splitlines()[-1]))
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = NotAvailable(f"the runtimes' answer cannot be read: {error}")
        return Runtimes(reason, reason, reason, reason)


def _parsed(answer: Any) -> Runtimes:
    return Runtimes(
        openvino=_known(answer["openvino"], lambda value: tuple(_runtime_device(device) for device in value)),
        directx=_known(answer["directx"], lambda value: tuple(map(str, value))),
        cuda=_known(answer["cuda"], lambda value: tuple(map(str, value))),
        instruction_sets=_known(
            answer["instruction_sets"], lambda value: {name: _known(has, bool) for name, has in value.items()}
        ),
    )


def _runtime_device(value: Any) -> RuntimeDevice:
    return RuntimeDevice(
        id=str(value["id"]),
        name=_known(value["name"], str),
        capabilities=_known(value["capabilities"], tuple),
        driver_version=_known(value["driver_version"], str),
    )


def _known(value: Any, read: Any) -> Any:
    return NotAvailable(str(value["reason"])) if isinstance(value, dict) and value.keys() == {"reason"} else read(value)


def main() -> None:
    """The process: one line of JSON on stdout, in which `{"reason": …}` stands for what is not known."""
    from dataclasses import asdict

    from aipc.devices.cuda import cuda_devices
    from aipc.devices.directx import directx_adapters
    from aipc.devices.openvino import seen_by_openvino
    from aipc.devices.processor import ARM_FLAGS, X86_FLAGS, detected_by_numpy

    seen = _guarded(seen_by_openvino)
    runtimes = Runtimes(
        openvino=seen,
        directx=_guarded(directx_adapters),
        cuda=_guarded(cuda_devices),
        # On Linux the kernel's own list is better, and comes without NumPy.
        instruction_sets=NotAvailable("the kernel lists them")
        if sys.platform == "linux"
        else detected_by_numpy((*X86_FLAGS, *ARM_FLAGS)),
    )
    print(json.dumps(asdict(runtimes)), flush=True)
    os._exit(0)  # a driver that crashes as it is unloaded must not take the answer along


def _guarded(probe: Any) -> Any:
    try:
        return probe()
    except Exception as error:  # a runtime's own trouble is an answer too
        return NotAvailable(f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    main()
