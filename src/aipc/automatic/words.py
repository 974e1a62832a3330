"""Why a device was taken, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aipc.automatic.rule import CARD, CPU, GPU_ON_THE_DIE, NPU, OTHER_GPU, Candidate, rank
from aipc.devices.device import Device
from aipc.devices.doctor import Report
from aipc.devices.known import NotAvailable

_RULE = {
    CARD: "a GPU with memory of its own goes first",
    GPU_ON_THE_DIE: "a GPU of this kind goes before NPU and CPU",
    NPU: "an NPU goes before the CPU",
    CPU: "the CPU goes before older GPUs",
    OTHER_GPU: "nothing else can run the model",
}


def in_one_line(
    chosen: Candidate,
    suitable: Sequence[Candidate],
    measured: Mapping[Candidate, float],
    unsuitable: Sequence[tuple[Device, str]],
    report: Report,
    unread: str | None,
) -> str:
    """Such as "GPU (Intel Arc) by openvino: 21.0 tokens/s, the fastest measured with this model (CPU 9.5); …".

    `unread` is why measurements cannot be read.
    """
    name = chosen.device.name
    shown = _label(chosen) if isinstance(name, NotAvailable) else f"{_label(chosen)} ({name})"
    parts = [_measured(chosen, suitable, measured) if len(measured) > 1 else _rule(chosen, suitable, measured, unread)]
    parts += [f"{device.id} not taken: {why}" for device, why in unsuitable if rank(device) < chosen.rank]
    absent = [kind for kind in report.absent if {"GPU": CARD, "NPU": NPU}.get(kind, CPU) < chosen.rank]
    parts += [f"there is no {' and no '.join(absent)}"] if absent else []
    return f"{shown} by {chosen.engine}: {'; '.join(parts)}"


def _label(candidate: Candidate) -> str:
    return candidate.name.upper()


def _measured(chosen: Candidate, suitable: Sequence[Candidate], measured: Mapping[Candidate, float]) -> str:
    others = ", ".join(f"{_label(one)} {speed:.1f}" for one, speed in measured.items() if one != chosen)
    text = f"{measured[chosen]:.1f} tokens/s, the fastest measured with this model ({others})"
    unmeasured = [one for one in suitable if one not in measured]
    return "; ".join(
        [text, *(f"{_label(one)} not measured yet (an answer by --device {one.name} does)" for one in unmeasured)]
    )


def _rule(
    chosen: Candidate, suitable: Sequence[Candidate], measured: Mapping[Candidate, float], unread: str | None
) -> str:
    if len(suitable) == 1:
        return "nothing else here can run the model"
    known = [f"only {_label(one)} was measured with this model" for one in measured]
    reason = known[0] if known else unread or "nothing was measured with this model"
    return f"{_RULE[chosen.rank]}, by rule, as {reason}"
