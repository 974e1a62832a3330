"""A back end that writes the ONNX model of an ONNX Runtime GenAI directory: the graph, and where every weight lies.

The operators are the ones that GenAI's own builder uses and every provider has kernels for: GroupQueryAttention over a
KV cache that is the model's input and output, MatMulNBits, SkipSimplifiedLayerNormalization. What an architecture
says one step at a time is joined here: a sum and the norm of it, or the projection, the rotation and the attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, TensorProto

from aipc.errors import UnsupportedModelError
from aipc.graph import Heads, Rope, Weight
from aipc.graph.data_file import Computed
from aipc.graph.onnx.nodes import CONTRIB, GraphWriter
from aipc.graph.onnx.provider import Provider
from aipc.graph.onnx.rope import cos_and_sin, shifted_positions
from aipc.graph.onnx.weights import WeightRegion, block_size, has_zero_points, is_quantised
from aipc.quant import Scheme

_ELEMENT_BYTES: dict[int, int] = {TensorProto.UINT8: 1, TensorProto.FLOAT16: 2, TensorProto.FLOAT: 4}


@dataclass(frozen=True)
class OnnxModel:
    """A finished graph, and what fills the file beside it, in the order of offsets."""

    proto: ModelProto
    regions: list[WeightRegion | Computed]
    data_bytes: int


@dataclass
class Value:
    """Something that the network computes: its tensor's name once it is emitted."""

    name: str = ""


@dataclass
class Product(Value):
    """`x` times the transpose of a weight, of which parts may be wanted apart."""

    x: Value | None = None
    weight: Weight | None = None


@dataclass
class Part(Value):
    """Features `start` to `stop` of a product; as heads when `count` is not 0, turned when `rope` is set."""

    product: Product | None = None
    start: int = 0
    stop: int = 0
    count: int = 0
    rope: Rope | None = None


@dataclass
class Sum(Value):
    """Two addends, added together with the norm that follows."""

    a: Value | None = None
    b: Value | None = None


class OnnxGraph:
    """The `Graph` protocol as ONNX operations. The logits are those of each sequence's last token alone."""

    def __init__(self, schemes: Mapping[str, Scheme], provider: Provider, context_tokens: int) -> None:
        self._writer = GraphWriter()
        self._schemes = schemes
        self._provider = provider
        self._context_tokens = context_tokens
        self._kind = provider.kind
        self._regions: dict[str, WeightRegion] = {}
        self._tables: dict[Rope, tuple[str, str]] = {}
        self._positions: dict[Rope, str] = {}
        batch_tokens = ("batch_size", "sequence_length")
        self._input_ids = self._writer.input("input_ids", TensorProto.INT64, batch_tokens)
        attention_mask = self._writer.input(
            "attention_mask", TensorProto.INT64, ("batch_size", "total_sequence_length")
        )
        if not provider.rotates:
            self._position_ids = self._writer.input("position_ids", TensorProto.INT64, batch_tokens)
        self._last_index, self._total_tokens = self._lengths(attention_mask)

    def finish(self, *, version: str, notes: Mapping[str, str]) -> OnnxModel:
        """The model. `notes` are kept as its metadata."""
        writer = self._writer
        regions = sorted(writer.regions, key=lambda region: region.offset)
        return OnnxModel(writer.model(producer="aipc", version=version, notes=dict(notes)), regions, writer.data_bytes)

    def embedding(self, weight: Weight) -> Value:
        region, name = self._region(weight), _path(weight)
        if not is_quantised(region.scheme):
            return Value(self._writer.node("Gather", [self._matrix(region), self._input_ids], name=f"{name}/Gather"))
        rows, bits = region.rows, region.scheme.bits
        codes = self._external(region, "codes_of_rows", TensorProto.UINT8, (rows, region.row_bytes), region.offset)
        inputs = [codes, self._input_ids, self._scales(region, name, slice(0, rows))]
        if has_zero_points(region.scheme):
            inputs.append(self._zero_points(region, name, slice(0, rows)))
        return Value(
            self._writer.node(
                "GatherBlockQuantized",
                inputs,
                name=f"{name}/Gather",
                domain=CONTRIB,
                gather_axis=0,
                quantize_axis=1,
                block_size=block_size(region.scheme, region.columns),
                bits=bits,
            )
        )

    def linear(self, x: Value, weight: Weight) -> Value:
        return Product(x=x, weight=weight)

    def rms_norm(self, x: Value, weight: Weight, *, epsilon: float) -> Value:
        name, gamma = _path(weight), self._matrix(self._region(weight))
        if isinstance(x, Sum) and not x.name and x.a is not None and x.b is not None:
            x.name = f"{name}/sum"
            self._writer.named_node(
                "SkipSimplifiedLayerNormalization",
                [self._emitted(x.a), self._emitted(x.b), gamma],
                [f"{name}/normed", "", "", x.name],
                name=f"{name}/SkipLayerNorm",
                domain=CONTRIB,
                epsilon=epsilon,
            )
            return Value(f"{name}/normed")
        normed = self._writer.node(
            "SimplifiedLayerNormalization",
            [self._emitted(x), gamma],
            name=f"{name}/LayerNorm",
            axis=-1,
            epsilon=epsilon,
            stash_type=1,
        )
        return Value(normed)

    def split(self, x: Value, sizes: Sequence[int]) -> list[Value]:
        if not isinstance(x, Product):
            raise TypeError("only a product with a weight can be split")
        ends = np.cumsum(sizes).tolist()
        return [Part(product=x, start=end - size, stop=end) for end, size in zip(ends, sizes, strict=True)]

    def heads(self, x: Value, *, count: int, size: int) -> Value:
        return replace(_part(x), count=count)

    def rope(self, x: Value, rope: Rope) -> Value:
        return replace(_part(x), rope=rope)

    def attention(
        self, query: Value, key: Value, value: Value, *, layer: int, heads: Heads, window: int | None
    ) -> Value:
        parts = [_part(query), _part(key), _part(value)]
        rope = parts[0].rope
        if rope is None:
            raise TypeError("attention without a rotary embedding")
        name = f"model.layers.{layer}.self_attn"
        _refuse_odd_sizes(rope, heads, self._provider)
        if self._provider.rotates:
            tensors = [self._whole(parts), "", ""]
            tables = list(self._tables_of(rope))
        else:
            tensors = [self._turned(parts[0], heads), self._turned(parts[1], heads), self._emitted(parts[2])]
            tables = []
        past = [self._cache("past_key_values", layer, kind, heads) for kind in ("key", "value")]
        present = [self._cache("present", layer, kind, heads) for kind in ("key", "value")]
        windows = {"local_window_size": window} if window is not None and self._provider.has_windows else {}
        output = f"{name}/attended"
        self._writer.named_node(
            "GroupQueryAttention",
            [*tensors, *past, self._last_index, self._total_tokens, *tables],
            [output, *present],
            name=f"{name}/GroupQueryAttention",
            domain=CONTRIB,
            num_heads=heads.query,
            kv_num_heads=heads.key_value,
            scale=heads.size**-0.5,
            do_rotary=int(self._provider.rotates),
            **windows,
        )
        return Value(output)

    def silu_gate(self, gate: Value, up: Value) -> Value:
        name = _path(_weight_of(_part(gate)))
        gate_name, up_name = self._emitted(gate), self._emitted(up)
        sigmoid = self._writer.node("Sigmoid", [gate_name], name=f"{name}/Sigmoid")
        swish = self._writer.node("Mul", [gate_name, sigmoid], name=f"{name}/Swish")
        return Value(self._writer.node("Mul", [swish, up_name], name=f"{name}/Mul"))

    def add(self, a: Value, b: Value) -> Value:
        return Sum(a=a, b=b)

    def logits(self, x: Value, weight: Weight) -> None:
        # Generation needs no other row, and the head is the largest matrix.
        hidden = self._last_tokens(self._emitted(x))
        self._multiply(hidden, self._region(weight), slice(0, weight.shape[0]), name="lm_head", output="logits")
        self._writer.output("logits", self._kind, ("batch_size", 1, weight.shape[0]))

    def _last_tokens(self, hidden: str) -> str:
        """(batch, 1, hidden): each sequence's last row. A batch is padded on the right, so it is not always the last of
        all; and of a sequence that ended before these tokens it is any.
        """
        writer = self._writer
        shape = writer.node("Shape", [self._input_ids], name="last/Shape")
        axis = writer.constant(np.array(1, np.int64), "axis_of_tokens")
        new_tokens = writer.node("Gather", [shape, axis], name="last/new_tokens", axis=0)
        total = writer.node("Cast", [self._total_tokens], name="last/total_tokens", to=TensorProto.INT64)
        before = writer.node("Sub", [total, new_tokens], name="last/before")
        index = writer.node("Cast", [self._last_index], name="last/last_index", to=TensorProto.INT64)
        row = writer.node("Sub", [index, before], name="last/row")
        row = writer.node("Max", [row, writer.constant(np.array(0, np.int64), "zero")], name="last/Max")
        axes = writer.constant(np.array([1, 2], np.int64), "axes_of_rows")
        row = writer.node("Unsqueeze", [row, axes], name="last/Unsqueeze")  # (batch, 1, 1)
        return writer.node("GatherND", [hidden, row], name="last/GatherND", batch_dims=1)

    def _emitted(self, value: Value) -> str:
        """The name of the value's tensor; what was put off is computed now."""
        if not value.name:
            if isinstance(value, Product):
                rows = slice(0, _weight_of(value).shape[0])
                value.name = self._product(value, rows, _path(_weight_of(value)))
            elif isinstance(value, Part):
                path = f"{_path(_weight_of(value))}.{value.start}"
                value.name = self._product(_product_of(value), slice(value.start, value.stop), path)
            elif isinstance(value, Sum) and value.a is not None and value.b is not None:
                inputs = [self._emitted(value.a), self._emitted(value.b)]
                value.name = self._writer.node("Add", inputs, name=f"add_{len(self._writer.nodes)}")
        return value.name

    def _product(self, product: Product, rows: slice, name: str) -> str:
        if product.x is None:
            raise TypeError("a product without a factor")
        return self._multiply(self._emitted(product.x), self._region(_weight_of(product)), rows, name=name)

    def _multiply(self, x: str, region: WeightRegion, rows: slice, *, name: str, output: str = "") -> str:
        """`x` times the transpose of some rows of a weight."""
        output = output or f"{name}/output"
        count = rows.stop - rows.start
        if not is_quantised(region.scheme):
            matrix = self._rows(region, name, rows)
            self._writer.named_node(
                "FusedMatMul", [x, matrix], [output], name=f"{name}/MatMul", domain=CONTRIB, transB=1, alpha=1.0
            )
            return output
        size = block_size(region.scheme, region.columns)
        shape = (count, region.blocks, size * region.scheme.bits // 8)
        offset = region.offset + rows.start * region.row_bytes
        inputs = [x, self._external(region, f"{name}/codes", TensorProto.UINT8, shape, offset)]
        inputs.append(self._scales(region, name, rows))
        if has_zero_points(region.scheme):
            inputs.append(self._zero_points(region, name, rows))
        level = {} if self._provider.accuracy_level is None else {"accuracy_level": self._provider.accuracy_level}
        self._writer.named_node(
            "MatMulNBits",
            inputs,
            [output],
            name=f"{name}/MatMul",
            domain=CONTRIB,
            K=region.columns,
            N=count,
            bits=region.scheme.bits,
            block_size=size,
            **level,
        )
        return output

    def _region(self, weight: Weight) -> WeightRegion:
        if weight.name not in self._regions:
            region = WeightRegion(weight, self._schemes[weight.name], self._provider.half, 0)
            self._regions[weight.name] = self._writer.reserve(region)
        return self._regions[weight.name]

    def _matrix(self, region: WeightRegion) -> str:
        """A weight that is not quantised, in its own shape."""
        shape = region.weight.shape
        return self._external(region, region.weight.name, self._kind, shape, region.offset)

    def _rows(self, region: WeightRegion, name: str, rows: slice) -> str:
        if rows == slice(0, region.rows):
            return self._matrix(region)
        shape = (rows.stop - rows.start, region.columns)
        return self._external(
            region, f"{name}/weight", self._kind, shape, region.offset + rows.start * region.row_bytes
        )

    def _scales(self, region: WeightRegion, name: str, rows: slice) -> str:
        shape = (rows.stop - rows.start, region.blocks)
        offset = region.scale_offset + rows.start * region.scale_row_bytes
        return self._external(region, f"{name}/scales", self._kind, shape, offset)

    def _zero_points(self, region: WeightRegion, name: str, rows: slice) -> str:
        shape = (rows.stop - rows.start, region.zero_point_row_bytes)
        offset = region.zero_point_offset + rows.start * region.zero_point_row_bytes
        return self._external(region, f"{name}/zero_points", TensorProto.UINT8, shape, offset)

    def _external(self, region: WeightRegion, name: str, kind: int, shape: tuple[int, ...], offset: int) -> str:
        if not name.startswith(("model", "lm_head")):
            name = f"{_path(region.weight)}/{name}"
        size_bytes = int(np.prod(shape)) * _ELEMENT_BYTES[kind]
        return self._writer.external(name, kind, shape, offset=offset, size_bytes=size_bytes)

    def _whole(self, parts: Sequence[Part]) -> str:
        """Query, key and value as the one product that they are parts of."""
        product = _product_of(parts[0])
        ends = [0, *(part.stop for part in parts)]
        in_order = all(part.start == end and part.product is product for part, end in zip(parts, ends, strict=False))
        if not in_order or ends[-1] != _weight_of(product).shape[0]:
            raise TypeError("query, key and value are not the parts of one product, in this order")
        return self._emitted(product)

    def _turned(self, part: Part, heads: Heads) -> str:
        """Rows (batch, tokens, features) of heads, turned by their positions."""
        if part.rope is None:
            raise TypeError("a query or key without a rotary embedding")
        if part.rope not in self._positions:
            self._positions[part.rope] = shifted_positions(self._writer, part.rope, self._position_ids)
        # Turning leaves the part as it is for others, so the untwisted tensor is emitted under its own name.
        inputs = [self._emitted(replace(part, rope=None)), self._positions[part.rope], *self._tables_of(part.rope)]
        return self._writer.node(
            "RotaryEmbedding",
            inputs,
            name=f"{_path(_weight_of(part))}.{part.start}/RotaryEmbedding",
            domain=CONTRIB,
            interleaved=0,
            num_heads=part.count,
            rotary_embedding_dim=part.rope.rotated_size if part.rope.rotated_size != heads.size else 0,
        )

    def _tables_of(self, rope: Rope) -> tuple[str, str]:
        if rope not in self._tables:
            self._tables[rope] = cos_and_sin(
                self._writer, rope, self._context_tokens, self._provider, self._total_tokens
            )
        return self._tables[rope]

    def _cache(self, side: str, layer: int, kind: str, heads: Heads) -> str:
        name = f"{side}.{layer}.{kind}"
        tokens = "past_sequence_length" if side == "past_key_values" else "total_sequence_length"
        shape = ("batch_size", heads.key_value, tokens, heads.size)
        add = self._writer.input if side == "past_key_values" else self._writer.output
        return add(name, self._kind, shape)

    def _lengths(self, attention_mask: str) -> tuple[str, str]:
        """The index of each sequence's last token (batch), and the number of tokens in all (scalar), as int32."""
        writer = self._writer
        one = writer.constant(np.array([1], np.int64), "one")
        sums = writer.node("ReduceSum", [attention_mask, one], name="mask/ReduceSum", keepdims=0)
        last = writer.node("Sub", [sums, one], name="mask/Sub")
        last = writer.node("Cast", [last], name="mask/last_index", to=TensorProto.INT32)
        shape = writer.node("Shape", [attention_mask], name="mask/Shape")
        axis = writer.constant(np.array(1, np.int64), "axis_of_tokens")
        total = writer.node("Gather", [shape, axis], name="mask/Gather", axis=0)
        return last, writer.node("Cast", [total], name="mask/total_tokens", to=TensorProto.INT32)


def _refuse_odd_sizes(rope: Rope, heads: Heads, provider: Provider) -> None:
    """Raise `UnsupportedModelError` for heads that the kernels of GroupQueryAttention refuse when they run."""
    if heads.size % 8 or (provider.rotates and rope.rotated_size % 16):
        raise UnsupportedModelError(
            f"heads of {heads.size} elements, {rope.rotated_size} of them turned",
            expected="a multiple of 8, and of 16 for those that are turned, as ONNX Runtime's attention wants",
            found=f"{heads.size} and {rope.rotated_size}",
            try_next="--to openvino",
        )


def _part(value: Value) -> Part:
    if isinstance(value, Part):
        return value
    raise TypeError("heads can only be taken from a part of a product")


def _product_of(part: Part) -> Product:
    if part.product is None:
        raise TypeError("a part of nothing")
    return part.product


def _weight_of(value: Product | Part) -> Weight:
    product = value if isinstance(value, Product) else _product_of(value)
    if product.weight is None:
        raise TypeError("a product without a weight")
    return product.weight


def _path(weight: Weight) -> str:
    return weight.name.removesuffix(".weight")
