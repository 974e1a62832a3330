"""`--device auto`: which device of this PC runs a model, and why.

What was measured decides: once two of the devices that can run the model have been measured with it, the one that
decodes fastest is taken. Until then a rule does; it takes the first of these that can run the model:

1. a GPU with memory of its own that holds the model, the largest first;
2. a GPU on the CPU's die: Intel's Arc (Meteor Lake and newer), AMD's RDNA 3 and newer;
3. an Intel NPU;
4. the CPU;
5. any other GPU.

Decoding reads all weights for each token, so a card, whose memory is several times as fast, comes first. On the die all
share one memory, and the GPU reads a prompt faster than the CPU does. The NPU goes behind it as its lengths are fixed
when the model is loaded, and its first load takes minutes. Older GPUs have little more arithmetic than the CPU. This is
reasoned from the devices' data, not measured by us; measurements of the PC itself go before it.

A device can run the model when the doctor (`aipc.devices`) says that an engine runs there, and `aipc.check` that it
takes the model's formats. A checkpoint is converted for the first device of the rule; measurements decide between
devices that run one and the same directory, as OpenVINO's CPU, GPU and NPU do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aipc.automatic.rule import Candidate, candidates
from aipc.automatic.suitable import sorted_out
from aipc.automatic.words import in_one_line
from aipc.devices.doctor import Report
from aipc.errors import StoreError
from aipc.monitor.bandwidth import this_pc
from aipc.monitor.measurements import FILE, decode_speeds, read
from aipc.ready import ReadyModel
from aipc.store import store_root
from aipc.store.identity import model_identity

__all__ = ["Candidate", "Pick", "candidates", "pick"]

Place = tuple[str, str]


@dataclass(frozen=True)
class Pick:
    """`device` and `engine` as they are typed; `why` is one line for a person that begins with the device."""

    device: str
    engine: str
    why: str


def pick(report: Report, possible: list[Candidate], ready: ReadyModel) -> Pick:
    """The one of `possible`, in the order of the rule, that runs `ready`. Raises `DeviceError` when none does."""
    suitable, unsuitable = sorted_out(report, possible, ready.path)
    speeds, unread = _speeds(ready)
    measured = {one: speeds[one.place] for one in suitable if one.place in speeds}
    chosen = max(measured, key=measured.__getitem__) if len(measured) > 1 else suitable[0]
    why = in_one_line(chosen, suitable, measured, unsuitable, report, unread)
    return Pick(chosen.name, chosen.engine, why)


def _speeds(ready: ReadyModel) -> tuple[Mapping[Place, float], str | None]:
    """Tokens per second of each engine and device that this PC has run the model on; or why that cannot be read."""
    try:
        entries = read(store_root() / FILE)
    except StoreError as error:  # a newer aipc's, or no place for a store, which a model elsewhere does not need
        return {}, error.what
    return decode_speeds(entries, model=model_identity(ready.path), pc=this_pc()), None
