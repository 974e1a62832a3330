"""An OpenVINO IR written as text: operations with their edges, and constants at offsets of the .bin beside it.

Source: OpenVINO's IR format, version 11. Writing it by hand keeps memory flat and needs no openvino to convert: only
the layout of the .bin is decided here, its bytes are streamed into place later. Dimensions of ports are left out; the
reader infers them from the operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from aipc.graph.data_file import Literal

ALIGNMENT = 64  # bytes; a mapped constant then starts on a cache line

_PRECISIONS = {"f32": "FP32", "f16": "FP16", "boolean": "BOOL"}
_NUMPY_TYPES = {"float32": "f32", "float16": "f16", "int64": "i64", "int32": "i32", "bool": "boolean"}


@dataclass(frozen=True)
class Port:
    """One output of one operation. `element_type` is in IR's spelling, such as `f32` or `i64`."""

    layer: int
    port: int
    element_type: str


class IrWriter:
    """Collects layers and edges; `xml()` gives the document, `literals` the small constants."""

    def __init__(self) -> None:
        self._layers: list[str] = []
        self._edges: list[str] = []
        self._literals: dict[bytes, Literal] = {}
        self._constants: dict[tuple[bytes, str, str], Port] = {}
        self._end = 0

    @property
    def literals(self) -> list[Literal]:
        return list(self._literals.values())

    @property
    def bin_bytes(self) -> int:
        return self._end

    def reserve(self, size_bytes: int) -> int:
        """Room in the .bin: its offset, aligned."""
        offset = -(-self._end // ALIGNMENT) * ALIGNMENT
        self._end = offset + size_bytes
        return offset

    def constant(self, value: NDArray[np.generic]) -> Port:
        """A small constant; equal ones share their bytes and their layer."""
        data, element_type = np.ascontiguousarray(value).tobytes(), _NUMPY_TYPES[value.dtype.name]
        shape = ", ".join(map(str, value.shape))
        key = (data, element_type, shape)
        if key not in self._constants:
            literal = self._literals.get(data)
            if literal is None:
                literal = self._literals[data] = Literal(self.reserve(len(data)), data)
            self._constants[key] = self.reserved_constant(
                "", element_type, value.shape, offset=literal.offset, size_bytes=len(data)
            )
        return self._constants[key]

    def reserved_constant(
        self, name: str, element_type: str, shape: Iterable[int], *, offset: int, size_bytes: int
    ) -> Port:
        """A constant whose bytes lie at `offset` of the .bin."""
        attributes = {
            "element_type": element_type,
            "shape": ", ".join(map(str, shape)),
            "offset": offset,
            "size": size_bytes,
        }
        return self.node("Const", "opset1", [], attributes, output=element_type, name=name)

    def node(
        self,
        kind: str,
        version: str,
        inputs: Iterable[Port],
        attributes: Mapping[str, object] | None = None,
        *,
        output: str,
        name: str = "",
        tensor_name: str = "",
        is_decompression: bool = False,
    ) -> Port:
        """An operation with one output of element type `output`."""
        return self._layer(
            kind,
            version,
            list(inputs),
            attributes or {},
            outputs=[output],
            name=name,
            tensor_name=tensor_name,
            is_decompression=is_decompression,
        )[0]

    def split_node(
        self, kind: str, version: str, inputs: Iterable[Port], *, outputs: list[str], name: str = ""
    ) -> list[Port]:
        """An operation with several outputs."""
        return self._layer(kind, version, list(inputs), {}, outputs=outputs, name=name)

    def sink(self, kind: str, version: str, value: Port, attributes: Mapping[str, object], name: str) -> None:
        """An operation that nothing reads: a Result."""
        self._layer(kind, version, [value], attributes, outputs=[], name=name)

    def _layer(
        self,
        kind: str,
        version: str,
        inputs: list[Port],
        attributes: Mapping[str, object],
        *,
        outputs: list[str],
        name: str,
        tensor_name: str = "",
        is_decompression: bool = False,
    ) -> list[Port]:
        layer = len(self._layers)
        shown_name = quoteattr(name or f"{kind}_{layer}")
        data = "".join(f" {key}={quoteattr(str(value))}" for key, value in attributes.items())
        text = [f'<layer id="{layer}" name={shown_name} type="{kind}" version="{version}">']
        if data:
            text.append(f"<data{data}/>")
        if is_decompression:
            text.append('<rt_info><attribute name="decompression" version="0"/></rt_info>')
        if inputs:
            ports = "".join(f'<port id="{i}"/>' for i in range(len(inputs)))
            text.append(f"<input>{ports}</input>")
        results = [Port(layer, len(inputs) + i, element_type) for i, element_type in enumerate(outputs)]
        if results:
            text.append(f"<output>{''.join(_output_port(port, tensor_name) for port in results)}</output>")
        text.append("</layer>")
        self._layers.append("".join(text))
        for i, source in enumerate(inputs):
            self._edges.append(
                f'<edge from-layer="{source.layer}" from-port="{source.port}" to-layer="{layer}" to-port="{i}"/>'
            )
        return results

    def xml(self, *, name: str, runtime_options: Mapping[str, str], notes: Mapping[str, str]) -> str:
        """The whole document. `notes` are kept under `rt_info/aipc` and change nothing."""
        options = "".join(f"<{key} value={quoteattr(value)}/>" for key, value in runtime_options.items())
        remarks = "".join(f"<{key} value={quoteattr(value)}/>" for key, value in notes.items())
        lines = [
            '<?xml version="1.0"?>',
            f'<net name={quoteattr(name)} version="11">',
            "<layers>",
            *self._layers,
            "</layers>",
            "<edges>",
            *self._edges,
            "</edges>",
            f"<rt_info><aipc>{remarks}</aipc><runtime_options>{options}</runtime_options></rt_info>",
            "</net>",
            "",
        ]
        return "\n".join(lines)


def _output_port(port: Port, tensor_name: str) -> str:
    precision = _PRECISIONS.get(port.element_type, port.element_type.upper())
    names = f" names={quoteattr(tensor_name)}" if tensor_name else ""
    return f'<port id="{port.port}" precision="{precision}"{names}/>'
