"""Which operators an execution provider has kernels for, in which versions and for which element types.

The files in `tables/` are what decoder language models use of ONNX Runtime's own table; each file names its source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from aipc.check.onnx_model import Node, OnnxFacts

# These cost nothing at run time: ONNX Runtime turns them into weights, or takes them away, when it loads a model.
_FOLDED = frozenset({"Constant"})


@dataclass(frozen=True)
class Kernel:
    """`since` to `until` are the definitions of the operator that it takes; `until` None is `since` alone.

    ONNX Runtime registers the newest kernel as `since` or later, and then takes no later definition: it was not known
    when the kernel was written (KernelRegistry). `types` maps the definition's type variables to element types.
    """

    since: int
    until: int | None
    types: Mapping[str, frozenset[str]]

    def takes(self, version: int) -> bool:
        return version == self.since if self.until is None else self.since <= version <= self.until


@dataclass(frozen=True)
class Gap:
    """A node that the provider has no kernel for. `is_type` says that only an element type stands in the way."""

    node: Node
    expected: str
    found: str
    is_type: bool


@dataclass(frozen=True)
class KernelTable:
    """A provider's kernels by operator; an operator that is a key of `signatures` and not of `kernels` has none."""

    source: str
    kernels: Mapping[str, Sequence[Kernel]]

    def gaps(self, facts: OnnxFacts) -> Iterator[Gap]:
        """Nodes without a kernel. Operators that no table knows are left to `unknown`."""
        types = dict(facts.types)
        for node in facts.nodes:
            bound = _bound_types(node, types)
            if node.operator in _FOLDED or node.operator not in _signatures() or node.has_branches:
                continue
            gap = self._gap(node, bound)
            if gap is not None:
                yield gap

    def _gap(self, node: Node, bound: Mapping[str, str]) -> Gap | None:
        kernels = self.kernels.get(node.operator, ())
        shown = node.operator.rpartition(".")[2]
        version = "" if node.since is None else f" of opset {node.since}"
        if not kernels:
            return Gap(node, "an operator that the provider has", f"{shown}, for which it has no kernel", is_type=False)
        fitting = [kernel for kernel in kernels if node.since is not None and kernel.takes(node.since)]
        if not fitting:
            return Gap(node, f"{shown}{_versions(kernels)}", f"{shown}{version}", is_type=False)
        faults = [_type_fault(kernel, bound) for kernel in fitting]
        if None in faults:
            return None
        expected, found = next(fault for fault in faults if fault is not None)
        return Gap(node, f"{shown} with {expected}", f"{shown} with {found}", is_type=True)


def unknown(facts: OnnxFacts) -> Iterator[Node]:
    """Nodes of operators that the tables kept here do not cover."""
    for node in facts.nodes:
        if node.operator not in _signatures() and node.operator not in _FOLDED and not node.has_branches:
            yield node


@cache
def kernel_table(provider: str) -> KernelTable:
    """The table of `cpu`, `cuda` or `directml`."""
    document = _document(provider)
    sets = {name: text.split() for name, text in document.get("sets", {}).items()}
    kernels = {
        operator: tuple(
            Kernel(since, until, {name: _expanded(text, sets) for name, text in types.items()})
            for since, until, types in entries
        )
        for operator, entries in document["kernels"].items()
    }
    return KernelTable(document["source"], kernels)


def _document(name: str) -> dict[str, Any]:
    file = resources.files("aipc.check") / "tables" / f"{name}.json"
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def _expanded(text: str, sets: Mapping[str, list[str]]) -> frozenset[str]:
    return frozenset(name for word in text.split() for name in sets.get(word, [word]))


@cache
def _signatures() -> Mapping[str, tuple[list[str], list[str]]]:
    """Type variables of each operator's inputs and outputs."""
    signatures = {}
    for operator, text in _document("signatures")["signatures"].items():
        inputs, outputs = text.split("->")
        signatures[operator] = (inputs.split(), outputs.split())
    return signatures


def _bound_types(node: Node, types: dict[str, str]) -> dict[str, str]:
    """The element type of each type variable; the types of the outputs are added to `types`."""
    if node.operator not in _signatures():
        return {}
    inputs, outputs = _signatures()[node.operator]
    bound: dict[str, str] = {}
    for names, variables in ((node.inputs, inputs), (node.outputs, outputs)):
        for name, variable in zip(names, _repeated(variables, len(names)), strict=False):
            if name in types:
                bound.setdefault(variable, types[name])
    for name, variable in zip(node.outputs, _repeated(outputs, len(node.outputs)), strict=False):
        if variable in bound:
            types.setdefault(name, bound[variable])
    return bound


def _repeated(variables: list[str], count: int) -> list[str]:
    if variables and variables[-1].endswith("*"):
        last = variables[-1].removesuffix("*")
        return variables[:-1] + [last] * max(0, count - len(variables) + 1)
    return variables


def _type_fault(kernel: Kernel, bound: Mapping[str, str]) -> tuple[str, str] | None:
    for variable, allowed in kernel.types.items():
        if variable in bound and bound[variable] not in allowed:
            return " or ".join(sorted(allowed)), bound[variable]
    return None


def _versions(kernels: Sequence[Kernel]) -> str:
    last = max(kernel.until or kernel.since for kernel in kernels)
    return f" up to opset {last}"
