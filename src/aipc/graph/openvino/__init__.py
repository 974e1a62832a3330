"""A back end that writes an OpenVINO IR: the graph as XML text, and where every weight lies in the .bin.

The patterns are the ones that the CPU plugin's paged attention and SDPA, the NPU's static pipeline and optimum-intel's
OVModelForCausalLM all recognise: a stateful KV cache (ReadValue → Gather by beam_idx → Concat → Assign), rotate-half
RoPE, and transformers' sliding-window mask. Small changes go wrong in silence; the tests hold each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aipc.graph import Heads, Rope, Weight
from aipc.graph.data_file import Literal
from aipc.graph.openvino.ir import IrWriter, Port
from aipc.graph.openvino.mask import causal_mask
from aipc.graph.openvino.operations import Operations
from aipc.graph.openvino.rope import cos_and_sin, rotate
from aipc.graph.openvino.weights import WeightRegion, emit_weight
from aipc.quant import Scheme

# As optimum-intel writes it for this family: GPU plugins divide activations by it before FP16 arithmetic.
RUNTIME_OPTIONS = {"ACTIVATIONS_SCALE_FACTOR": "8.0"}


@dataclass(frozen=True)
class Ir:
    """A finished graph: its XML, and what fills the .bin, in the order of offsets."""

    xml: str
    regions: list[WeightRegion | Literal]
    bin_bytes: int


class OpenVinoGraph:
    """The `Graph` protocol as IR operations. Values are `Port`s of tensors that carry the batch."""

    def __init__(self, schemes: Mapping[str, Scheme]) -> None:
        self._writer = IrWriter()
        self._do = Operations(self._writer)
        self._schemes = schemes
        self._regions: list[WeightRegion] = []
        self._matrices: dict[str, Port] = {}
        self._cos_and_sin: dict[Rope, tuple[Port, Port]] = {}
        self._masks: dict[int | None, Port] = {}
        self._input_ids = self._do.parameter("input_ids", "i64", "?,?")
        self._attention_mask = self._do.parameter("attention_mask", "i64", "?,?")
        self._position_ids = self._do.parameter("position_ids", "i64", "?,?")
        self._beam_idx = self._do.parameter("beam_idx", "i32", "?")
        input_shape = self._do.shape_of(self._input_ids)
        self._batch = self._do.dimension(input_shape, 0)
        self._new_tokens = self._do.dimension(input_shape, 1)

    def finish(self, *, name: str, notes: Mapping[str, str]) -> Ir:
        """The document and the layout of the .bin. `notes` are kept in the document's rt_info."""
        regions: list[WeightRegion | Literal] = [*self._regions, *self._writer.literals]
        regions.sort(key=lambda region: region.offset)
        xml = self._writer.xml(name=name, runtime_options=RUNTIME_OPTIONS, notes=notes)
        return Ir(xml, regions, self._writer.bin_bytes)

    def embedding(self, weight: Weight) -> Port:
        ids = self._do.convert(self._input_ids, "i32")
        return self._do.gather(self._matrix(weight), ids, axis=self._do.scalar(0, "int32"))

    def linear(self, x: Port, weight: Weight) -> Port:
        return self._do.matmul(x, self._matrix(weight), transpose_b=True, name=weight.name.removesuffix(".weight"))

    def rms_norm(self, x: Port, weight: Weight, *, epsilon: float) -> Port:
        square = self._do.binary("Power", x, self._do.number(2.0))
        mean = self._writer.node(
            "ReduceMean", "opset1", [square, self._do.vector([-1])], {"keep_dims": "true"}, output="f32"
        )
        root = self._do.unary("Sqrt", self._do.binary("Add", mean, self._do.number(epsilon)))
        normed = self._do.binary("Multiply", x, self._do.binary("Divide", self._do.number(1.0), root))
        return self._do.binary("Multiply", normed, self._matrix(weight))

    def split(self, x: Port, sizes: Sequence[int]) -> list[Port]:
        inputs = [x, self._do.scalar(-1), self._do.vector(sizes)]
        return self._writer.split_node("VariadicSplit", "opset1", inputs, outputs=["f32"] * len(sizes))

    def heads(self, x: Port, *, count: int, size: int) -> Port:
        # (batch, tokens, count · size) → (batch, tokens, count, size) → (batch, count, tokens, size)
        return self._do.transpose(self._do.reshape(x, [0, 0, count, size]), [0, 2, 1, 3])

    def rope(self, x: Port, rope: Rope) -> Port:
        if rope not in self._cos_and_sin:
            self._cos_and_sin[rope] = cos_and_sin(self._do, rope, self._position_ids)
        cos, sin = self._cos_and_sin[rope]
        return rotate(self._do, x, rope, cos=cos, sin=sin)

    def attention(self, query: Port, key: Port, value: Port, *, layer: int, heads: Heads, window: int | None) -> Port:
        past_keys, keys = self._cached(key, layer, "key", heads)
        _, values = self._cached(value, layer, "value", heads)
        if heads.query != heads.key_value:
            keys, values = self._repeated(keys, heads), self._repeated(values, heads)
        scale = self._do.scalar(heads.size**-0.5, "float32")
        attended = self._writer.node(
            "ScaledDotProductAttention",
            "opset13",
            [query, keys, values, self._mask(window, past_keys), scale],
            {"causal": "false"},
            output="f32",
        )
        # (batch, heads, tokens, size) → (batch, tokens, heads · size)
        return self._do.reshape(self._do.transpose(attended, [0, 2, 1, 3]), [0, 0, heads.query * heads.size])

    def silu_gate(self, gate: Port, up: Port) -> Port:
        return self._do.binary("Multiply", self._do.swish(gate), up)

    def add(self, a: Port, b: Port) -> Port:
        return self._do.binary("Add", a, b)

    def logits(self, x: Port, weight: Weight) -> None:
        logits = self._do.matmul(
            x,
            self._matrix(weight),
            transpose_b=True,
            tensor_name="logits",
            name=weight.name.removesuffix(".weight"),
        )
        self._writer.sink("Result", "opset1", logits, {}, name="logits/result")

    def _matrix(self, weight: Weight) -> Port:
        """The weight as f32. A tied embedding is emitted once and read twice."""
        if weight.name not in self._matrices:
            port, region = emit_weight(self._do, weight, self._schemes[weight.name])
            self._matrices[weight.name] = port
            self._regions.append(region)
        return self._matrices[weight.name]

    def _cached(self, new: Port, layer: int, kind: str, heads: Heads) -> tuple[Port, Port]:
        """This layer's cache before and with `new`: (batch, KV heads, tokens, size) each."""
        # The very name that the NPU pipeline looks for; any other one works on the CPU and fails there.
        variable = f"past_key_values.{layer}.{kind}present.{layer}.{kind}"
        empty_shape = self._do.concat(
            [self._do.as_vector(self._batch), self._do.vector([heads.key_value, 0, heads.size])], axis=0
        )
        empty = self._do.broadcast(self._do.scalar(0, "float32"), empty_shape, mode="numpy")
        attributes = {
            "variable_id": variable,
            "variable_type": "f32",
            "variable_shape": f"?,{heads.key_value},?,{heads.size}",
        }
        past = self._writer.node("ReadValue", "opset6", [empty], attributes, output="f32")
        past = self._do.gather(past, self._beam_idx)
        present = self._do.concat([past, new], axis=-2)
        self._writer.node("Assign", "opset6", [present], {"variable_id": variable}, output="f32")
        return past, present

    def _repeated(self, x: Port, heads: Heads) -> Port:
        """Each KV head once for every query head of its group: (batch, query heads, all tokens, size)."""
        group = heads.query // heads.key_value
        shape = self._do.vector([1, 1, group, 1, 1])
        grouped = self._do.broadcast(self._do.unsqueeze(x, 2), shape, mode="bidirectional")
        return self._do.reshape(grouped, [0, heads.query, -1, heads.size])

    def _mask(self, window: int | None, past_keys: Port) -> Port:
        """One mask for all layers. The NPU's pipeline wants the past length from a cache's shape."""
        if window not in self._masks:
            self._masks[window] = causal_mask(
                self._do,
                past=self._do.dimension(self._do.shape_of(past_keys), 2),
                new=self._new_tokens,
                batch=self._batch,
                attention_mask=self._attention_mask,
                window=window,
            )
        return self._masks[window]
