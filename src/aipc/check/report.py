"""What a check found: rules that hold the model back, and notes that do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["openvino", "onnx"]
Severity = Literal["failure", "note"]


@dataclass(frozen=True)
class Finding:
    """One rule and all that it speaks of.

    `rule` is its short name, such as `npu/symmetric`; `where` names the weights, nodes, keys or files, and is never
    empty. A `failure` keeps the model from the device, or makes it compute something else there; a `note` does not.
    `expected` is None for a note that only tells something, in `found`. `remedy` is what to type instead, None for a
    note.
    """

    severity: Severity
    rule: str
    where: tuple[str, ...]
    expected: str | None
    found: str
    remedy: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "rule": self.rule,
            "where": list(self.where),
            "expected": self.expected,
            "found": self.found,
            "try": self.remedy,
        }


@dataclass(frozen=True)
class Report:
    """Whether `device` will take the model at `path`. `summary` says in one line what the model is."""

    path: Path
    device: str
    kind: Kind
    summary: str
    findings: tuple[Finding, ...]

    @property
    def passes(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "failure")

    @property
    def notes(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "note")

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "device": self.device,
            "kind": self.kind,
            "verdict": "passes" if self.passes else "fails",
            "summary": self.summary,
            "findings": [finding.as_json() for finding in self.findings],
        }


def failure(rule: str, where: str, *, expected: object, found: object, remedy: str | None = None) -> Finding:
    """A rule that the model breaks at `where`."""
    return Finding("failure", rule, (where,), str(expected), str(found), remedy)


def note(rule: str, where: str, *, found: object, expected: str | None = None) -> Finding:
    """Something to know about `where` that keeps nothing from running."""
    return Finding("note", rule, (where,), expected, str(found))


def grouped(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings that differ in `where` alone become one; failures come first, else the order stays."""
    places: dict[Finding, list[str]] = {}
    for finding in findings:
        key = Finding(finding.severity, finding.rule, (), finding.expected, finding.found, finding.remedy)
        places.setdefault(key, []).extend(finding.where)
    whole = [
        Finding(key.severity, key.rule, tuple(dict.fromkeys(where)), key.expected, key.found, key.remedy)
        for key, where in places.items()
    ]
    return tuple(_failures_first(whole))


def _failures_first(findings: list[Finding]) -> Iterator[Finding]:
    yield from (finding for finding in findings if finding.severity == "failure")
    yield from (finding for finding in findings if finding.severity == "note")
