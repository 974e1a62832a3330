"""Which devices take a model's directory, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from aipc.automatic.rule import CARD, Candidate, obstacle_of
from aipc.check import check
from aipc.devices.device import Device, kind_of
from aipc.devices.doctor import Report
from aipc.engines import onnx, openvino
from aipc.errors import DeviceError, MissingPackageError
from aipc.store.manifest import source_of

_SHARE_FOR_WEIGHTS = 0.8  # of a card's memory; the rest is for the KV cache, buffers and the screen


def sorted_out(
    report: Report, possible: Sequence[Candidate], model_dir: Path
) -> tuple[list[Candidate], list[tuple[Device, str]]]:
    """Those of `possible` that take the model, in their order, and each device that none is on, with the reason.

    Raises `DeviceError` with these reasons when none takes it, and as `aipc.check.check` for a damaged file.
    """
    engines = [module.name for module in (openvino, onnx) if (model_dir / module.MODEL_FILE).is_file()]
    refusals = {one: why_not(one, model_dir) for one in possible if one.engine in engines}
    suitable = [one for one, why in refusals.items() if why is None]
    taken = {one.device.id for one in suitable}
    unsuitable = []
    for device in report.devices:
        if device.id not in taken:
            refused = [why for one, why in refusals.items() if one.device.id == device.id and why is not None]
            unsuitable.append((device, refused[0] if refused else _obstacle(device, engines)))
    if not suitable:
        reasons = "; ".join(f"{device.id}: {why}" for device, why in unsuitable)
        raise DeviceError(
            f"no device of this PC takes {model_dir}",
            found=reasons,
            try_next=_conversion(possible, refusals, model_dir),
        )
    return suitable, unsuitable


def _obstacle(device: Device, engines: Sequence[str]) -> str:
    """What keeps `engines` from the device; they may run there where only another engine was allowed."""
    stopped = [
        one for one in engines if not any(verdict.can_run for verdict in device.verdicts if verdict.engine == one)
    ]
    return obstacle_of(device, stopped[0]).reason if stopped else "the model is for another engine than was asked for"


def _conversion(possible: Sequence[Candidate], refusals: Mapping[Candidate, str | None], model_dir: Path) -> str:
    """The command that makes a directory for the first device that would run one."""
    refused = {(one.engine, kind_of(one.name)) for one in refusals}
    others = [one for one in possible if (one.engine, kind_of(one.name)) not in refused]
    if not others:
        return "aipc devices"
    device = f" --device {kind_of(others[0].name)}" if others[0].engine == "onnx" else ""
    return f"aipc convert {source_of(model_dir)} OUT --to {others[0].engine}{device}"


def why_not(candidate: Candidate, model_dir: Path) -> str | None:
    """What keeps the model from the device, None when nothing was found."""
    kind = kind_of(candidate.name)
    if candidate.engine == "onnx" and (made_for := onnx.made_for(model_dir)) != kind:
        return f"the model was made for {made_for}"
    total = candidate.device.memory.total_bytes
    if candidate.rank == CARD and isinstance(total, int):
        size = sum(file.stat().st_size for file in model_dir.iterdir() if file.is_file())
        if size > total * _SHARE_FOR_WEIGHTS:
            return f"its {total / 2**30:.1f} GiB do not hold the model's {size / 2**30:.1f} GiB"
    with suppress(MissingPackageError):  # which reads ONNX models; running them does without
        failures = check(model_dir, kind).failures
        if failures:
            return f"expected {failures[0].expected}, and the model has {failures[0].found}"
    return None
