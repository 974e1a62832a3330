"""Shorthand for the IR operations that the OpenVINO back end is made of. Each method adds one operation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aipc.graph.openvino.ir import IrWriter, Port

TO_END = 2**63 - 1
_BROADCAST = {"auto_broadcast": "numpy"}


class Operations:
    """Adds operations to an `IrWriter`. Axes and sizes are plain numbers; they become shared constants."""

    def __init__(self, writer: IrWriter) -> None:
        self.writer = writer

    def parameter(self, name: str, element_type: str, shape: str) -> Port:
        attributes = {"shape": shape, "element_type": element_type}
        return self.writer.node("Parameter", "opset1", [], attributes, output=element_type, name=name, tensor_name=name)

    def scalar(self, value: float, element_type: str = "int64") -> Port:
        return self.writer.constant(np.array(value, dtype=element_type))

    def vector(self, values: Sequence[int], element_type: str = "int64") -> Port:
        return self.writer.constant(np.array(values, dtype=element_type))

    def number(self, value: float) -> Port:
        """A float32 that broadcasts with (batch, tokens, hidden)."""
        return self.writer.constant(np.full((1, 1, 1), value, np.float32))

    def convert(self, x: Port, element_type: str, *, is_decompression: bool = False) -> Port:
        return self.writer.node(
            "Convert",
            "opset1",
            [x],
            {"destination_type": element_type},
            output=element_type,
            is_decompression=is_decompression,
        )

    def binary(self, kind: str, a: Port, b: Port) -> Port:
        """Add, Multiply, Subtract, Power or Divide of two tensors of one element type."""
        attributes = {**_BROADCAST, "m_pythondiv": "true"} if kind == "Divide" else _BROADCAST
        return self.writer.node(kind, "opset1", [a, b], attributes, output=a.element_type)

    def compare(self, kind: str, a: Port, b: Port) -> Port:
        """Greater or LessEqual."""
        return self.writer.node(kind, "opset1", [a, b], _BROADCAST, output="boolean")

    def both(self, a: Port, b: Port) -> Port:
        return self.writer.node("BitwiseAnd", "opset13", [a, b], _BROADCAST, output="boolean")

    def select(self, condition: Port, then: Port, otherwise: Port) -> Port:
        return self.writer.node("Select", "opset1", [condition, then, otherwise], _BROADCAST, output=then.element_type)

    def unary(self, kind: str, x: Port) -> Port:
        """Sqrt, Cos or Sin."""
        return self.writer.node(kind, "opset1", [x], output=x.element_type)

    def swish(self, x: Port) -> Port:
        return self.writer.node("Swish", "opset4", [x], output=x.element_type)

    def matmul(self, a: Port, b: Port, *, transpose_b: bool, tensor_name: str = "", name: str = "") -> Port:
        attributes = {"transpose_a": "false", "transpose_b": str(transpose_b).lower()}
        return self.writer.node(
            "MatMul", "opset1", [a, b], attributes, output=a.element_type, tensor_name=tensor_name, name=name
        )

    def gather(self, x: Port, indices: Port, *, axis: Port | None = None) -> Port:
        """Along axis 0 unless told."""
        axis = axis or self.scalar(0)
        return self.writer.node("Gather", "opset8", [x, indices, axis], {"batch_dims": 0}, output=x.element_type)

    def shape_of(self, x: Port) -> Port:
        return self.writer.node("ShapeOf", "opset3", [x], {"output_type": "i64"}, output="i64")

    def dimension(self, shape: Port, axis: int) -> Port:
        """One entry of a shape, as a scalar."""
        return self.gather(shape, self.scalar(axis))

    def as_vector(self, scalar: Port) -> Port:
        return self.writer.node(
            "Reshape",
            "opset1",
            [scalar, self.vector([-1])],
            {"special_zero": "false"},
            output=scalar.element_type,
        )

    def reshape(self, x: Port, shape: Sequence[int]) -> Port:
        """0 keeps a dimension, −1 takes what is left."""
        return self.writer.node(
            "Reshape", "opset1", [x, self.vector(shape)], {"special_zero": "true"}, output=x.element_type
        )

    def transpose(self, x: Port, order: Sequence[int]) -> Port:
        return self.writer.node("Transpose", "opset1", [x, self.vector(order, "int32")], output=x.element_type)

    def unsqueeze(self, x: Port, axis: int) -> Port:
        return self.writer.node("Unsqueeze", "opset1", [x, self.scalar(axis)], output=x.element_type)

    def concat(self, parts: Sequence[Port], *, axis: int) -> Port:
        return self.writer.node("Concat", "opset1", parts, {"axis": axis}, output=parts[0].element_type)

    def slice_last(self, x: Port, start: int, stop: int, *, axis: int) -> Port:
        """Elements `start` to `stop` of `axis`, which must be the last one."""
        inputs = [x, self.vector([start]), self.vector([stop]), self.vector([1]), self.vector([axis])]
        return self.writer.node("Slice", "opset8", inputs, output=x.element_type)

    def broadcast(self, x: Port, shape: Port, *, mode: str) -> Port:
        """`mode` numpy or bidirectional."""
        return self.writer.node("Broadcast", "opset3", [x, shape], {"mode": mode}, output=x.element_type)

    def arange(self, start: Port, stop: Port) -> Port:
        """start, start + 1, … up to but not including stop, as i64."""
        step = self.scalar(1, "int32")
        return self.writer.node("Range", "opset4", [start, stop, step], {"output_type": "i64"}, output="i64")
