"""The facts of an OpenVINO IR that a device's rules ask for: weights and their formats, KV cache, inputs, outputs.

No byte of the weights is read: formats, shapes and offsets stand in the XML. The chain from codes to a matrix is that
of NNCF: codes → Convert → (Subtract zero point) → Multiply scale → (Reshape) → Convert → MatMul or Gather.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aipc.check.ir_document import IrDocument, Layer, read_document
from aipc.errors import IntegrityError
from aipc.store.model_files import OPENVINO_BIN, OPENVINO_XML

BITS = {
    **dict.fromkeys(("u1",), 1),
    **dict.fromkeys(("u2",), 2),
    **dict.fromkeys(("u3",), 3),
    **dict.fromkeys(("i4", "u4", "nf4", "f4e2m1"), 4),
    **dict.fromkeys(("u6",), 6),
    **dict.fromkeys(("i8", "u8", "boolean", "f8e4m3", "f8e5m2", "f8e8m0"), 8),
    **dict.fromkeys(("i16", "u16", "f16", "bf16"), 16),
    **dict.fromkeys(("i32", "u32", "f32"), 32),
    **dict.fromkeys(("i64", "u64", "f64"), 64),
}
_QUANTISED = frozenset(name for name, bits in BITS.items() if bits <= 8) - {"boolean"}
_PASSED_THROUGH = ("Convert", "Reshape", "Unsqueeze", "Squeeze", "Transpose")
_LONGEST_CHAIN = 16
_KV_VARIABLE = re.compile(r"past_key_values\.(\d+)\.(key|value)present\.(\d+)\.(key|value)")

Role = Literal["linear", "embedding", "head"]


@dataclass(frozen=True)
class IrWeight:
    """A matrix and how it is stored.

    `element_type` is the codes' in IR's spelling, such as `i4`. `group_size` counts columns that share one scale: −1
    is a whole row, None a weight without scales; `scales` is how many there are, `zero_point` the name of their
    constant. `is_decompressed_late` says that plugins keep the codes in memory (the `decompression` mark on the last
    Convert).
    """

    name: str
    role: Role
    element_type: str
    rows: int
    columns: int
    group_size: int | None
    scales: int
    zero_point: str | None
    is_decompressed_late: bool

    @property
    def elements(self) -> int:
        return self.rows * self.columns

    @property
    def has_zero_point(self) -> bool:
        return self.zero_point is not None

    @property
    def groups(self) -> int:
        """How many groups share a scale each."""
        return self.rows if self.group_size in (None, -1, 0) else self.elements // self.group_size

    @property
    def label(self) -> str:
        """Short name for people, such as `i4 g128`, `u4 g64 with zero points` or `f16`."""
        groups = {None: "", -1: " per row"}.get(self.group_size, f" g{self.group_size}")
        return f"{self.element_type}{groups}{' with zero points' if self.has_zero_point else ''}"


@dataclass(frozen=True)
class Variable:
    """A state of the model. `is_reordered` says that a Gather by `beam_idx` reads it; `shape` −1 where unknown."""

    name: str
    shape: tuple[int, ...]
    is_reordered: bool
    is_assigned: bool

    @property
    def layer(self) -> int | None:
        """The layer whose keys or values it holds; None when the name is not the one that OpenVINO GenAI's NPU
        pipeline looks for."""
        match = _KV_VARIABLE.fullmatch(self.name)
        if match is None or match[1] != match[3] or match[2] != match[4]:
            return None
        return int(match[1])

    @property
    def kind(self) -> str | None:
        match = _KV_VARIABLE.fullmatch(self.name)
        return None if match is None else match[2]


@dataclass(frozen=True)
class Constant:
    """Where a constant lies in the .bin; sizes in bytes. `expected_bytes` follows from type and shape."""

    name: str
    element_type: str
    elements: int
    offset: int
    size_bytes: int
    expected_bytes: int | None


@dataclass(frozen=True)
class IrFacts:
    """What an IR directory holds. `bin_bytes` is None when the .bin is missing."""

    directory: Path
    weights: tuple[IrWeight, ...]
    variables: tuple[Variable, ...]
    constants: tuple[Constant, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    bin_bytes: int | None

    def of_role(self, role: Role) -> tuple[IrWeight, ...]:
        return tuple(weight for weight in self.weights if weight.role == role)

    @property
    def unread(self) -> tuple[Constant, ...]:
        """Quantised constants of which no weight here is made: a pattern that is not understood."""
        read = {name for weight in self.weights for name in (weight.name, weight.zero_point)}
        return tuple(
            constant
            for constant in self.constants
            if constant.element_type in _QUANTISED and constant.elements > 1 and constant.name not in read
        )


def read_ir(directory: Path) -> IrFacts:
    """Read `openvino_model.xml` of a directory.

    Raises `IntegrityError` when it is no IR, `StoreError` when it cannot be read.
    """
    document = read_document(directory / OPENVINO_XML)
    weights = directory / OPENVINO_BIN
    return IrFacts(
        directory=directory,
        weights=tuple(_weights(document)),
        variables=tuple(_variables(document)),
        constants=tuple(_constant(document, layer) for layer in document.layers.values() if layer.type == "Const"),
        inputs=tuple(_port_names(document, "Parameter")),
        outputs=tuple(_port_names(document, "Result")),
        bin_bytes=weights.stat().st_size if weights.is_file() else None,
    )


def _port_names(document: IrDocument, kind: str) -> Iterator[str]:
    """Names of a model's inputs (Parameter) or outputs (Result, named by what feeds it)."""
    for layer in document.layers.values():
        if layer.type == kind:
            feeding = document.source(layer.id) if kind == "Result" else None
            yield next(iter((feeding or layer).output_names or layer.output_names), layer.name)


def _constant(document: IrDocument, layer: Layer) -> Constant:
    count = math.prod(_shape(document, layer))
    bits = BITS.get(layer.data.get("element_type", ""))
    return Constant(
        name=layer.name,
        element_type=layer.data.get("element_type", ""),
        elements=count,
        offset=_count(document, layer, "offset"),
        size_bytes=_count(document, layer, "size"),
        expected_bytes=None if bits is None else -(-count * bits // 8),
    )


def _count(document: IrDocument, layer: Layer, key: str) -> int:
    text = layer.data.get(key, "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _broken(document, layer, key, "a whole number")
    return int(text)


def _shape(document: IrDocument, layer: Layer) -> tuple[int, ...]:
    """A constant's shape."""
    text = layer.data.get("shape", "").strip()
    dimensions = [part.strip() for part in text.split(",")] if text else []
    if len(dimensions) > 16 or not all(part.isascii() and part.isdigit() and len(part) < 13 for part in dimensions):
        raise _broken(document, layer, "shape", "whole numbers")
    return tuple(map(int, dimensions))


def _broken(document: IrDocument, layer: Layer, key: str, expected: str) -> IntegrityError:
    return IntegrityError(
        f"{document.path}: {key} of {layer.name[:80]}",
        expected=expected,
        found=repr(layer.data.get(key))[:80],
        try_next="convert the model again",
    )


def _variables(document: IrDocument) -> Iterator[Variable]:
    layers = document.layers.values()
    assigned = {layer.data.get("variable_id") for layer in layers if layer.type == "Assign"}
    for layer in layers:
        if layer.type == "ReadValue":
            name = layer.data.get("variable_id", "")
            shape = [part.strip() for part in layer.data.get("variable_shape", "").split(",")]
            sizes = tuple(int(part) if part.isascii() and part.isdigit() else -1 for part in shape if part)
            yield Variable(name, sizes, _is_reordered(document, layer), name in assigned)


def _is_reordered(document: IrDocument, layer: Layer) -> bool:
    """Whether a Gather by `beam_idx` reads this ReadValue."""
    for consumer in document.consumers.get(layer.id, ()):
        if document.layers[consumer].type == "Gather":
            index = _unconverted(document, document.source(consumer, 1))
            if index is not None and "beam_idx" in (index.name, *index.output_names):
                return True
    return False


def _unconverted(document: IrDocument, layer: Layer | None) -> Layer | None:
    for _ in range(_LONGEST_CHAIN):
        if layer is None or layer.type != "Convert":
            return layer
        layer = document.source(layer.id)
    return None


def _weights(document: IrDocument) -> Iterator[IrWeight]:
    """Each matrix once per role: a tied embedding is also the head."""
    seen = set()
    for layer in document.layers.values():
        if layer.type not in ("MatMul", "Gather"):
            continue
        role = _role(document, layer)
        found = _first_weight(document, layer, role)
        if found is not None and (found.name, role) not in seen:
            seen.add((found.name, role))
            yield found


def _role(document: IrDocument, layer: Layer) -> Role:
    if layer.type == "Gather":
        return "embedding"
    return "head" if _reaches_result(document, layer) else "linear"


def _reaches_result(document: IrDocument, layer: Layer) -> bool:
    """Through Converts at most, as logits may be turned to f32 at the end."""
    for _ in range(_LONGEST_CHAIN):
        consumers = [document.layers[consumer] for consumer in document.consumers.get(layer.id, ())]
        if any(consumer.type == "Result" for consumer in consumers):
            return True
        converts = [consumer for consumer in consumers if consumer.type == "Convert"]
        if not converts:
            return False
        layer = converts[0]
    return False


def _first_weight(document: IrDocument, layer: Layer, role: Role) -> IrWeight | None:
    for port in (0,) if role == "embedding" else (1, 0):
        chain = _Chain.behind(document, document.source(layer.id, port))
        if chain is not None:
            weight = chain.weight(role)
            if weight is not None:
                return weight
    return None


@dataclass
class _Chain:
    """What lies between a constant and the operation that multiplies by it."""

    document: IrDocument
    codes: Layer
    scale: Layer | None = None
    zero_point: Layer | None = None
    is_reshaped: bool = False
    is_decompressed_late: bool = False

    @staticmethod
    def behind(document: IrDocument, layer: Layer | None) -> _Chain | None:
        """Walk back from an operation's input; None when no constant feeds it."""
        chain: dict[str, Layer] = {}
        is_reshaped = is_late = False
        for _ in range(_LONGEST_CHAIN):
            if layer is None:
                return None
            if layer.type == "Const":
                return _Chain(document, layer, chain.get("Multiply"), chain.get("Subtract"), is_reshaped, is_late)
            is_reshaped |= layer.type == "Reshape"
            is_late |= layer.is_decompression
            if layer.type in _PASSED_THROUGH:
                layer = document.source(layer.id)
            elif layer.type in ("Multiply", "Subtract"):
                sides = [document.source(layer.id, port) for port in (0, 1)]
                constants = [_constant_behind(document, side) for side in sides]
                larger = 0 if _elements(document, constants[0]) >= _elements(document, constants[1]) else 1
                other = constants[1 - larger]
                if constants[larger] is None or other is None:
                    return None  # an activation: no weight
                chain[layer.type] = other
                layer = sides[larger]
            else:
                return None
        return None

    def weight(self, role: Role) -> IrWeight | None:
        shape = _shape(self.document, self.codes)
        if len(shape) == 3 and self.is_reshaped:
            rows, columns, group_size = shape[0], shape[1] * shape[2], shape[2]
        elif len(shape) == 2:
            rows, columns = shape
            group_size = -1
        else:
            return None  # RoPE's frequencies, a norm's factors
        return IrWeight(
            name=self.codes.name,
            role=role,
            element_type=self.codes.data.get("element_type", ""),
            rows=rows,
            columns=columns,
            group_size=None if self.scale is None else group_size,
            scales=_elements(self.document, self.scale),
            zero_point=None if self.zero_point is None else self.zero_point.name,
            is_decompressed_late=self.is_decompressed_late,
        )


def _constant_behind(document: IrDocument, layer: Layer | None) -> Layer | None:
    """The constant that is `layer`, or that feeds it through conversions and a Subtract of another constant."""
    for _ in range(_LONGEST_CHAIN):
        if layer is None or layer.type == "Const":
            return layer
        if layer.type not in (*_PASSED_THROUGH, "Subtract"):
            return None
        layer = document.source(layer.id)
    return None


def _elements(document: IrDocument, layer: Layer | None) -> int:
    return 0 if layer is None else math.prod(_shape(document, layer))
