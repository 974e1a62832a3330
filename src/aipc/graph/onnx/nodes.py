"""An ONNX graph under construction: nodes, small constants, and tensors that lie in the file beside the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from aipc.graph.data_file import Literal
from aipc.graph.onnx.weights import ALIGNMENT, WeightRegion

DATA_FILE = "model.onnx.data"
OPSET = 21  # the newest that DirectML's last ONNX Runtime takes
IR_VERSION = 10
CONTRIB = "com.microsoft"
_EMBEDDED_BYTES = 1024  # smaller constants stay in the model's own file
_SMALL_ALIGNMENT = 64
_LARGE_BYTES = 1024 * 1024

_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


class GraphWriter:
    """Collects what a model consists of. Values are known by their names."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.regions: list[WeightRegion | Literal] = []
        self.data_bytes = 0
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def node(
        self, kind: str, inputs: Sequence[str], *, name: str, domain: str = "", outputs: int = 1, **attributes: Any
    ) -> str:
        """Add an operation; the name of its first output. An empty input is one that is left out."""
        names = [f"{name}/output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes))
        return names[0]

    def named_node(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        name: str,
        domain: str = "",
        **attributes: Any,
    ) -> None:
        """Add an operation whose outputs have given names; an empty one is left out."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes))

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, value: NDArray[Any], name: str) -> str:
        """A constant, in the file beside the model if it is large. One name stands for one value."""
        if name in self._initializers:
            return name
        data = np.ascontiguousarray(value)
        if data.nbytes <= _EMBEDDED_BYTES:
            self._initializers[name] = numpy_helper.from_array(data, name)
            return name
        offset = self._reserve(data.nbytes)
        self.regions.append(Literal(offset, data.tobytes()))
        return self.external(name, _TYPES[data.dtype.name], data.shape, offset=offset, size_bytes=data.nbytes)

    def reserve(self, region: WeightRegion) -> WeightRegion:
        """Room for a weight: the region with its offset."""
        placed = WeightRegion(region.weight, region.scheme, region.half, self._aligned(region.end))
        self.regions.append(placed)
        self.data_bytes = placed.end
        return placed

    def external(self, name: str, kind: int, shape: Iterable[int], *, offset: int, size_bytes: int) -> str:
        """A tensor whose bytes lie at `offset` of the file beside the model. Two may share them."""
        if name not in self._initializers:
            tensor = TensorProto(name=name, data_type=kind, dims=list(shape), data_location=TensorProto.EXTERNAL)
            for key, value in (("location", DATA_FILE), ("offset", offset), ("length", size_bytes)):
                tensor.external_data.add(key=key, value=str(value))
            self._initializers[name] = tensor
        return name

    def _reserve(self, size_bytes: int) -> int:
        offset = self._aligned(size_bytes)
        self.data_bytes = offset + size_bytes
        return offset

    def _aligned(self, size_bytes: int) -> int:
        alignment = ALIGNMENT if size_bytes >= _LARGE_BYTES else _SMALL_ALIGNMENT
        return -(-self.data_bytes // alignment) * alignment

    def model(self, *, producer: str, version: str, notes: dict[str, str]) -> ModelProto:
        """The whole model. `notes` are kept as its metadata and change nothing."""
        graph: GraphProto = helper.make_graph(
            self.nodes, "aipc", self._inputs, self._outputs, list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name=producer, producer_version=version
        )
        helper.set_model_props(model, notes)
        return model


def subgraph(name: str, outputs: Sequence[tuple[str, str]], kind: int, shape: Sequence[int]) -> GraphProto:
    """A branch that gives out tensors of the graph around it: pairs of the tensor and the output's name."""
    nodes = [helper.make_node("Identity", [source], [output], name=f"{name}/{output}") for source, output in outputs]
    infos = [helper.make_tensor_value_info(output, kind, shape) for _, output in outputs]
    return helper.make_graph(nodes, name, [], infos)
