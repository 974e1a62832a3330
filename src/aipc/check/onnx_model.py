"""The facts of an ONNX file that an execution provider's rules ask for. Its weights stay where they are.

Source: ONNX's IR specification. Read with the `onnx` package, which `pip install "aipc[onnx]"` brings.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipc.errors import IntegrityError, MissingPackageError, StoreError

LARGEST_ONNX_BYTES = 256 * 1024 * 1024  # a graph whose weights lie in a file of their own is a few MB
MICROSOFT = "com.microsoft"
_NEWEST_OPSET = 1000  # far beyond any; the onnx package cannot look beyond a C int
_DEEPEST = 8  # branches within branches
_BITS = {
    **dict.fromkeys(("int2", "uint2"), 2),
    **dict.fromkeys(("int4", "uint4", "float4e2m1"), 4),
    **dict.fromkeys(("int8", "uint8", "bool", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"), 8),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 16),
    **dict.fromkeys(("int32", "uint32", "float"), 32),
    **dict.fromkeys(("int64", "uint64", "double", "complex64"), 64),
}


@dataclass(frozen=True)
class Tensor:
    """`element_type` in ONNX's spelling, such as `float16`; a dimension is None where it is not a fixed number."""

    element_type: str
    shape: tuple[int | None, ...]

    @property
    def size_bytes(self) -> int | None:
        """Packed, as ONNX stores it; None for an unknown size."""
        bits = _BITS.get(self.element_type)
        if bits is None or None in self.shape:
            return None
        return -(-math.prod(dimension or 0 for dimension in self.shape) * bits // 8)


@dataclass(frozen=True)
class ExternalData:
    """Where a weight's bytes are said to lie; `length` None means up to the end of the file."""

    weight: str
    location: str
    offset: int
    length: int | None


@dataclass(frozen=True)
class Node:
    """One operator. `operator` has its domain in front unless that is ONNX's own: `com.microsoft.MatMulNBits`.

    `since` is the version of the operator's definition that the model's opset means, None for one nobody defined.
    `attributes` are the numbers and texts among them.
    """

    name: str
    operator: str
    since: int | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | float | str]
    has_branches: bool = False

    def input(self, index: int) -> str:
        """The name of an input, empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def integer(self, name: str, default: int) -> int:
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default


@dataclass(frozen=True)
class OnnxFacts:
    """What an ONNX file holds. `types` are the element types of all values that are declared."""

    path: Path
    opset: int
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    external: tuple[ExternalData, ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, str]

    def of(self, operator: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.operator == operator)


def read_onnx(path: Path) -> OnnxFacts:
    """Read a graph without its weights.

    Raises `IntegrityError` when it is no ONNX model, `StoreError` when it cannot be read, `MissingPackageError`
    without the onnx package.
    """
    onnx = _import_onnx()
    model = _load(onnx, path)
    graph = model.graph
    if not graph.node:
        raise _broken(path, "a graph without operators")
    opsets = {_domain(entry.domain): _opset(path, entry.version) for entry in model.opset_import}
    reader = _GraphReader(onnx, opsets)
    nodes = tuple(reader.nodes(graph, depth=0))
    return OnnxFacts(
        path=path,
        opset=opsets.get("", 0),
        inputs={
            name: _tensor(onnx, value) for value in graph.input if (name := _text(value.name)) not in reader.weights
        },
        outputs={_text(value.name): _tensor(onnx, value) for value in graph.output},
        weights=reader.weights,
        external=tuple(reader.external),
        nodes=nodes,
        types=reader.types,
    )


def _import_onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise MissingPackageError(
            "An ONNX model is read with the onnx package",
            found=str(error) or type(error).__name__,
            try_next='pip install "aipc[onnx]"',
        ) from error


def _load(onnx: Any, path: Path) -> Any:
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        size_bytes = path.stat().st_size
        if size_bytes > LARGEST_ONNX_BYTES:
            raise StoreError(
                f"{path} has its weights inside, and would have to be read whole",
                expected=f"at most {LARGEST_ONNX_BYTES:,} bytes, with the weights in a file beside it",
                found=f"{size_bytes:,}",
                try_next="convert the model again",
            )
        return onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}", try_next="check the disk and its permissions"
        ) from error
    except (decode_error, ValueError) as error:
        raise _broken(path, str(error)[:200] or type(error).__name__) from None


def _broken(path: Path, found: str) -> IntegrityError:
    return IntegrityError(
        f"{path}",
        expected="an ONNX model",
        found=found,
        try_next="convert the model again, or get the file again from where it came from",
    )


def _text(value: str | bytes) -> str:
    """A protobuf text; what is not UTF-8 comes as bytes."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _domain(name: str | bytes) -> str:
    text = _text(name)
    return "" if text == "ai.onnx" else text


def _opset(path: Path, version: int) -> int:
    if not 1 <= version <= _NEWEST_OPSET:
        raise _broken(path, f"opset {version}")
    return version


def _element_type(onnx: Any, number: int) -> str:
    try:
        return str(onnx.TensorProto.DataType.Name(number)).lower()
    except ValueError:
        return f"type {number}"


def _tensor(onnx: Any, value: Any) -> Tensor:
    tensor = value.type.tensor_type
    shape = tuple(part.dim_value if part.HasField("dim_value") else None for part in tensor.shape.dim)
    return Tensor(_element_type(onnx, tensor.elem_type), shape)


class _GraphReader:
    """Gathers nodes, weights and types of a graph and of the branches in it."""

    def __init__(self, onnx: Any, opsets: Mapping[str, int]) -> None:
        self._onnx = onnx
        self._opsets = opsets
        self._since: dict[str, int | None] = {}
        self.weights: dict[str, Tensor] = {}
        self.external: list[ExternalData] = []
        self.types: dict[str, str] = {}

    def nodes(self, graph: Any, *, depth: int) -> Iterator[Node]:
        """All operators, those of a branch before the operator that has it."""
        for weight in graph.initializer:
            self._add_weight(weight)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type:
                self.types[_text(value.name)] = _element_type(self._onnx, value.type.tensor_type.elem_type)
        for index, node in enumerate(graph.node):
            branches = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
            if depth < _DEEPEST:
                for branch in branches:
                    yield from self.nodes(branch, depth=depth + 1)
            yield self._node(node, index, has_branches=bool(branches))

    def _add_weight(self, weight: Any) -> None:
        tensor = Tensor(_element_type(self._onnx, weight.data_type), tuple(weight.dims))
        name = _text(weight.name)
        self.weights[name] = tensor
        self.types[name] = tensor.element_type
        if weight.data_location == self._onnx.TensorProto.EXTERNAL:
            entries = {_text(entry.key): _text(entry.value) for entry in weight.external_data}
            self.external.append(
                ExternalData(
                    name,
                    entries.get("location", ""),
                    _number(entries.get("offset", "0")) or 0,
                    _number(entries.get("length", "")),
                )
            )

    def _node(self, node: Any, index: int, *, has_branches: bool) -> Node:
        domain = _domain(node.domain)
        kind = _text(node.op_type)
        attributes = {
            _text(attribute.name): value for attribute in node.attribute if (value := self._value(attribute)) != ""
        }
        self._add_made_type(node, attributes)
        return Node(
            name=_text(node.name) or f"{kind} {index}",
            operator=f"{domain}.{kind}" if domain else kind,
            since=self._definition(kind, domain),
            inputs=tuple(map(_text, node.input)),
            outputs=tuple(map(_text, node.output)),
            attributes=attributes,
            has_branches=has_branches,
        )

    def _value(self, attribute: Any) -> int | float | str:
        kinds = self._onnx.AttributeProto
        if attribute.type == kinds.INT:
            return int(attribute.i)
        if attribute.type == kinds.FLOAT:
            return float(attribute.f)
        if attribute.type == kinds.STRING:
            return str(attribute.s.decode("utf-8", "replace"))
        return ""

    def _add_made_type(self, node: Any, attributes: Mapping[str, int | float | str]) -> None:
        """The type of what a Cast or a constant gives, which no input tells."""
        if len(node.output) != 1:
            return
        tensor = next((attribute.t for attribute in node.attribute if attribute.HasField("t")), None)
        target = attributes.get("to")
        if node.op_type == "Cast" and isinstance(target, int):
            self.types[_text(node.output[0])] = _element_type(self._onnx, target)
        elif node.op_type in ("Constant", "ConstantOfShape") and tensor is not None:
            self.types[_text(node.output[0])] = _element_type(self._onnx, tensor.data_type)

    def _definition(self, operator: str, domain: str) -> int | None:
        if domain:
            return 1 if domain == MICROSOFT else None
        if operator not in self._since:
            defs = self._onnx.defs
            try:
                self._since[operator] = int(defs.get_schema(operator, self._opsets.get("", 1), "").since_version)
            except defs.SchemaError:
                # ONNX Runtime defines some operators of its own in ONNX's domain, all of them at version 1.
                self._since[operator] = 1 if operator == "SimplifiedLayerNormalization" else None
        return self._since[operator]


def _number(text: str) -> int | None:
    """Not negative, and small enough for a file; −1 stands for anything else, which no file can satisfy."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1
