"""The written XML and .bin, read by a plain XML parser: well-formed, connected, and no byte in two constants."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes import RECIPES, converted
from tiny_checkpoint import SHAPES, write_checkpoint

from aipc.graph.openvino.ir import ALIGNMENT, IrWriter
from aipc.quant.recipe import Recipe

BITS = {"i4": 4, "u4": 4, "i8": 8, "u8": 8, "f16": 16, "f32": 32, "i32": 32, "i64": 64, "boolean": 8}
# What XML 1.0 cannot hold in any spelling: control characters, surrogates and two non-characters.
UNWRITABLE = {*map(chr, range(0x20)), "\ufffe", "\uffff"} - set("\t\n\r")


class Document:
    def __init__(self, model_dir: Path) -> None:
        root = ElementTree.parse(model_dir / "openvino_model.xml").getroot()
        self.layers = root.findall("layers/layer")
        self.edges = root.findall("edges/edge")
        self.bin_bytes = (model_dir / "openvino_model.bin").stat().st_size

    @property
    def constants(self) -> dict[str, ElementTree.Element]:
        found = [layer for layer in self.layers if layer.get("type") == "Const"]
        return {layer.attrib["name"]: layer.find("data") for layer in found}

    def spans(self) -> list[tuple[int, int]]:
        """Offset and end of every constant, those that share their bytes once, in order."""
        return sorted(
            {(int(c.get("offset")), int(c.get("offset")) + int(c.get("size"))) for c in self.constants.values()}
        )


@pytest.fixture(scope="module", params=[*SHAPES, *RECIPES], ids=lambda what: getattr(what, "label", what))
def document(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Document:
    directory = tmp_path_factory.mktemp("ir")
    is_recipe = isinstance(request.param, Recipe)
    checkpoint = write_checkpoint(directory / "checkpoint", "phi-3-medium" if is_recipe else request.param)
    return Document(converted(checkpoint, directory / "out", request.param if is_recipe else Recipe("int4", 32)))


def test_constants_are_aligned_apart_from_each_other_and_inside_the_bin(document: Document) -> None:
    spans = document.spans()
    assert all(offset % ALIGNMENT == 0 for offset, _ in spans)
    assert all(end <= next_offset for (_, end), (next_offset, _) in pairwise(spans))
    assert spans[0][0] == 0
    assert spans[-1][1] <= document.bin_bytes < spans[-1][1] + ALIGNMENT


def test_every_constant_has_the_bytes_that_its_shape_and_type_take(document: Document) -> None:
    for name, data in document.constants.items():
        shape = [int(size) for size in data.get("shape").split(",") if size.strip()]
        bits = math.prod(shape) * BITS[data.get("element_type")]
        assert int(data.get("size")) == -(-bits // 8), name


def test_edges_lead_from_an_output_to_an_input_and_every_input_has_one(document: Document) -> None:
    outputs = {(layer.get("id"), port.get("id")) for layer in document.layers for port in layer.findall("output/port")}
    inputs = {(layer.get("id"), port.get("id")) for layer in document.layers for port in layer.findall("input/port")}
    assert {(edge.get("from-layer"), edge.get("from-port")) for edge in document.edges} <= outputs
    entered = Counter((edge.get("to-layer"), edge.get("to-port")) for edge in document.edges)
    assert set(entered) == inputs
    assert set(entered.values()) == {1}


def test_layers_are_in_the_order_of_their_edges_with_unique_ids_and_names(document: Document) -> None:
    ids = [int(layer.get("id")) for layer in document.layers]
    assert ids == list(range(len(ids)))
    names = [layer.get("name") for layer in document.layers]
    assert len(set(names)) == len(names)
    assert all(int(edge.get("from-layer")) < int(edge.get("to-layer")) for edge in document.edges)


def test_nothing_is_written_that_nothing_reads(document: Document) -> None:
    read = {(edge.get("from-layer"), edge.get("from-port")) for edge in document.edges}
    unread = [
        layer.get("name")
        for layer in document.layers
        if layer.get("type") not in ("Result", "Assign")
        for port in layer.findall("output/port")
        if (layer.get("id"), port.get("id")) not in read
    ]
    assert unread == []


@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters=UNWRITABLE), min_size=1))
def test_any_name_comes_back_as_it_was(name: str) -> None:
    writer = IrWriter()
    writer.reserved_constant(name, "i8", [3], offset=writer.reserve(3), size_bytes=3)
    text = writer.xml(name=name, runtime_options={"OPTION": name}, notes={"note": name})
    root = ElementTree.fromstring(text)
    assert root.get("name") == name
    assert root.find("layers/layer").get("name") == name
    assert root.find("rt_info/aipc/note").get("value") == name
    assert root.find("rt_info/runtime_options/OPTION").get("value") == name


def test_openvino_reads_a_name_of_quotes_and_brackets_as_it_was() -> None:
    name = """<a href="x">&amp;'\t\n]]>"""
    writer = IrWriter()
    port = writer.reserved_constant(name, "f32", [2], offset=writer.reserve(8), size_bytes=8)
    writer.sink("Result", "opset1", port, {}, name="result")
    data = np.array([1.5, -2], np.float32)
    model = ov.Core().read_model(writer.xml(name="net", runtime_options={}, notes={}).encode(), data.tobytes())
    (constant,) = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    assert constant.get_friendly_name() == name
    np.testing.assert_array_equal(constant.get_data(), data)


def test_equal_constants_share_their_bytes_and_reservations_never_overlap() -> None:
    writer = IrWriter()
    first, again = writer.constant(np.arange(5)), writer.constant(np.arange(5))
    assert first == again
    same_bytes = writer.constant(np.arange(5).view(np.int32))
    assert same_bytes != first
    assert len(writer.literals) == 1
    begin = writer.reserve(1)
    assert writer.reserve(1) - begin == ALIGNMENT
    assert writer.literals[0].end <= begin
