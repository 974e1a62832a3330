"""The doctor's report, for people as a table with a paragraph for each device, and for programs as one line of JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from aipc.devices.device import Device, kind_of
from aipc.devices.doctor import Report
from aipc.devices.known import NotAvailable
from aipc.devices.processor import Processor
from aipc.devices.verdict import Obstacle, Verdict
from aipc.engines.openvino_rehearsal import INSTEAD

ENGINES = ("openvino", "onnx")
_WIDTH = 110  # of a line
_INDENT = " " * 12


def as_text(report: Report, *, asked_for: str | None = None) -> str:
    """The table, and below it a paragraph per device. `asked_for` is the one device that a person named."""
    rows: list[tuple[str, ...]] = [("device", "name", *ENGINES)]
    for device in report.devices:
        can = {verdict.engine: "can run" if verdict.can_run else "cannot" for verdict in device.verdicts}
        rows.append((device.id, str(device.name), *(can.get(engine, "") for engine in ENGINES)))
    rows += [(kind, "none", "", "") for kind in report.absent]
    paragraphs = ["\n".join(_table(rows)), *("\n".join(_paragraph(device)) for device in report.devices)]
    paragraphs += ["\n".join([kind, *_obstacle("none", why)]) for kind, why in report.absent.items()]
    if asked_for and not report.devices and not report.absent:
        paragraphs.append(f"{asked_for.upper()} is not there; aipc devices lists what is")
    if asked_for and kind_of(asked_for) == "npu" and not any(device.can_run for device in report.devices):
        paragraphs.append(f"without an NPU, {INSTEAD}")
    return "\n\n".join(paragraphs)


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _paragraph(device: Device) -> Iterator[str]:
    yield f"{device.id}  {device.name}"
    for key, value in _facts(device).items():
        yield from _lines(key, value)
    for verdict in device.verdicts:
        yield from _verdict(verdict)
    for note in device.notes:
        yield from _obstacle("note", note)


def _facts(device: Device) -> dict[str, str]:
    facts = {"vendor": str(device.vendor), "generation": str(device.generation)}
    facts |= {"driver": str(device.driver), "firmware": str(device.firmware)}
    total = device.memory.total_bytes
    amount = str(total) if isinstance(total, NotAvailable) else f"{total / 2**30:.1f} GiB"
    facts["memory"] = f"{amount}, {'shared by all' if device.memory.is_shared else 'its own'}"
    if isinstance(device.capabilities, tuple):
        facts["capabilities"] = ", ".join(device.capabilities)
    if device.processor is not None:
        facts |= _processor_facts(device.processor)
    return facts


def _processor_facts(processor: Processor) -> dict[str, str]:
    sets = processor.instruction_sets
    absent = [name for name, has in sets.items() if has is False]
    unknown = [name for name, has in sets.items() if isinstance(has, NotAvailable)]
    shown = ", ".join(processor.instruction_sets_present) or "none known"
    shown += f"; not {', '.join(absent)}" if absent else ""
    shown += f"; not known: {', '.join(unknown)}" if unknown else ""
    return {
        "cores": f"{processor.cores}, {processor.threads} threads, {processor.architecture}",
        "instructions": shown,
    }


def _verdict(verdict: Verdict) -> Iterator[str]:
    if verdict.can_run:
        yield from _lines(verdict.engine, f"can run with --device {verdict.device} ({verdict.grounds})")
    for obstacle in verdict.obstacles:
        yield from _obstacle(verdict.engine, obstacle)


def _obstacle(label: str, obstacle: Obstacle) -> Iterator[str]:
    is_verdict = label in ENGINES
    yield from _lines(label, f"cannot: {obstacle.reason}" if is_verdict else obstacle.reason)
    yield f"  {'':12}  try: {obstacle.fix}"  # on one line, however long: it is there to be copied


def _lines(key: str, value: str) -> Iterator[str]:
    wrapped = textwrap.wrap(value, _WIDTH - len(_INDENT) - 4, break_long_words=False, break_on_hyphens=False)
    first, *rest = wrapped or [""]
    yield f"  {key:12}  {first}"
    yield from (f"  {'':12}  {line}" for line in rest)


def as_line(report: Report) -> str:
    """One line of JSON; what is not available is null, and its reason stands under `not_available` of its device."""
    devices = [_device_json(device) for device in report.devices]
    absent = {kind: _obstacle_json(why) for kind, why in report.absent.items()}
    return json.dumps({"devices": devices, "absent": absent})


def _device_json(device: Device) -> dict[str, object]:
    facts: dict[str, object] = {
        "name": device.name,
        "vendor": device.vendor,
        "generation": device.generation,
        "driver": device.driver,
        "firmware": device.firmware,
        "memory_bytes": device.memory.total_bytes,
        "available_bytes": device.memory.available_bytes,
        "capabilities": device.capabilities,
    }
    if (processor := device.processor) is not None:
        facts |= {"architecture": processor.architecture, "cores": processor.cores, "threads": processor.threads}
    missing = {key: value.reason for key, value in facts.items() if isinstance(value, NotAvailable)}
    result: dict[str, object] = {
        "id": device.id,
        "kind": device.kind,
        **{key: None if key in missing else value for key, value in facts.items()},
        "memory_is_shared": device.memory.is_shared,
        "can_run": device.can_run,
        "verdicts": {verdict.engine: _verdict_json(verdict) for verdict in device.verdicts},
        "notes": [_obstacle_json(note) for note in device.notes],
        "not_available": missing,
    }
    if processor is not None:
        sets = processor.instruction_sets.items()
        result["instruction_sets"] = {name: None if isinstance(has, NotAvailable) else has for name, has in sets}
    return result


def _verdict_json(verdict: Verdict) -> dict[str, object]:
    return {
        "can_run": verdict.can_run,
        "device": verdict.device,
        "grounds": verdict.grounds or None,
        "obstacles": [_obstacle_json(obstacle) for obstacle in verdict.obstacles],
    }


def _obstacle_json(obstacle: Obstacle) -> dict[str, str]:
    return {"reason": obstacle.reason, "fix": obstacle.fix}
