"""An ONNX graph under construction: nodes, small constants, and tensors that lie in the file beside the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from aipc.graph.data_file import Computed
from aipc.graph.onnx.weights import ALIGNMENT, WeightRegion

DATA_FILE = "model.onnx.data"
OPSET = 21  # the newest that DirectML's last ONNX Runtime takes
IR_VERSION = 10
CONTRIB = "com.microsoft"
_TABLE_BLOCK_BYTES = 1024 * 1024
_SMALL_ALIGNMENT = 64
_LARGE_BYTES = 1024 * 1024


class GraphWriter:
    """Collects what a model consists of. Values are known by their names."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.regions: list[WeightRegion | Computed] = []
        self.data_bytes = 0
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def node(self, kind: str, inputs: Sequence[str], *, name: str, domain: str = "", **attributes: Any) -> str:
        """Add an operation; the name of its output. An empty input is one that is left out."""
        output = f"{name}/output"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, domain=domain, **attributes))
        return output

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
        """A small constant. One name stands for one value."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def table(self, rows: Callable[[int, int], NDArray[Any]], shape: tuple[int, int], kind: int, name: str) -> str:
        """A large constant in the file beside the model; `rows(start, stop)` computes some of its rows."""
        row_bytes = shape[1] * (2 if kind == TensorProto.FLOAT16 else 4)
        offset = self._reserve(shape[0] * row_bytes)
        at_once = max(1, _TABLE_BLOCK_BYTES // row_bytes)

        def blocks() -> Iterator[bytes]:
            for start in range(0, shape[0], at_once):
                yield rows(start, min(start + at_once, shape[0])).tobytes()

        self.regions.append(Computed(offset, blocks))
        return self.external(name, kind, shape, offset=offset, size_bytes=shape[0] * row_bytes)

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
