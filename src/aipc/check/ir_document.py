"""An OpenVINO IR's XML read as a stream: layers and edges, nothing else, in bounded memory.

Source: OpenVINO's IR format, version 11. Read with expat itself rather than as a tree: a document type declaration,
which only attacks use in an IR, is refused before any entity of it exists, and the ports' dimensions, most of the
document, are never kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from aipc.errors import IntegrityError, StoreError

LARGEST_XML_BYTES = 256 * 1024 * 1024  # that of a 70-layer model is about 15 MB
LARGEST_LAYERS = 1_000_000
_PIECE_BYTES = 64 * 1024
_TRY_NEXT = "convert the model again, or get the file again from where it came from"


@dataclass
class Layer:
    """One operation. `data` are its attributes as written; `output_names` the tensor names of all its outputs."""

    id: str
    name: str
    type: str
    data: dict[str, str] = field(default_factory=dict)
    output_names: list[str] = field(default_factory=list)
    is_decompression: bool = False


@dataclass(frozen=True)
class IrDocument:
    """`inputs[layer][port]` is the id of the layer that feeds the port; `consumers[layer]` are those that it feeds."""

    path: Path
    layers: Mapping[str, Layer]
    inputs: Mapping[str, Mapping[str, str]]
    consumers: Mapping[str, tuple[str, ...]]

    def source(self, layer_id: str, port: int = 0) -> Layer | None:
        """The layer that feeds input `port`, counted from 0; None where there is none."""
        feeding = self.inputs.get(layer_id, {}).get(str(port))
        return None if feeding is None else self.layers.get(feeding)


def read_document(path: Path) -> IrDocument:
    """Read an IR. Raises `IntegrityError` when it is none, `StoreError` when it cannot be read or is too large."""
    reader = _Reader(path)
    try:
        size_bytes = path.stat().st_size
        if size_bytes > LARGEST_XML_BYTES:
            raise StoreError(f"{path}", expected=f"at most {LARGEST_XML_BYTES:,} bytes", found=f"{size_bytes:,}")
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                reader.feed(piece)
        return reader.finish()
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}", try_next="check the disk and its permissions"
        ) from error
    except expat.ExpatError as error:
        raise _broken(path, f"malformed XML ({error})") from None


def _broken(path: Path, found: str) -> IntegrityError:
    return IntegrityError(f"{path}", expected="an OpenVINO IR, version 10 or 11", found=found, try_next=_TRY_NEXT)


class _Reader:
    """Expat's handlers, and what they have gathered so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._layers: dict[str, Layer] = {}
        self._inputs: dict[str, dict[str, str]] = {}
        self._consumers: dict[str, list[str]] = {}
        self._ports: dict[str, list[str]] = {}
        self._layer: Layer | None = None
        self._open: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def feed(self, piece: bytes) -> None:
        self._parser.Parse(piece, False)

    def finish(self) -> IrDocument:
        self._parser.Parse(b"", True)
        if not self._layers:
            raise _broken(self._path, "no layers")
        consumers = {layer: tuple(reading) for layer, reading in self._consumers.items()}
        return IrDocument(self._path, self._layers, self._ordered_inputs(), consumers)

    def _ordered_inputs(self) -> dict[str, dict[str, str]]:
        """Ports renumbered from 0 in the order the layer lists them: old files number outputs first."""
        ordered = {}
        for layer, sources in self._inputs.items():
            listed = self._ports.get(layer, [])
            ranks = {port: str(rank) for rank, port in enumerate(listed)}
            ordered[layer] = {ranks.get(port, port): source for port, source in sources.items()}
        return ordered

    def _refuse_doctype(self, *_: object) -> None:
        raise _broken(self._path, "a document type declaration, which may hide entities")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open and (tag != "net" or attributes.get("version") not in ("10", "11")):
            raise _broken(self._path, f"<{tag}> {attributes.get('version', '')}".strip())
        if tag == "layer" and self._open[-1:] == ["layers"] and len(self._open) == 2:
            self._start_layer(attributes)
        elif tag == "edge" and len(self._open) == 2:
            self._add_edge(attributes)
        elif self._layer is not None:
            self._add_to_layer(self._layer, tag, attributes)
        self._open.append(tag)

    def _end(self, tag: str) -> None:
        self._open.pop()
        if tag == "layer" and len(self._open) == 2:
            self._layer = None

    def _start_layer(self, attributes: dict[str, str]) -> None:
        if len(self._layers) >= LARGEST_LAYERS:
            raise _broken(self._path, f"more than {LARGEST_LAYERS:,} layers")
        layer = Layer(attributes.get("id", ""), attributes.get("name", ""), attributes.get("type", ""))
        if layer.id in self._layers or not layer.id or not layer.type:
            raise _broken(self._path, f"a layer without its own id and type: {layer.id!r} {layer.type!r}")
        self._layers[layer.id] = self._layer = layer

    def _add_to_layer(self, layer: Layer, tag: str, attributes: dict[str, str]) -> None:
        parent, depth = self._open[-1], len(self._open)
        if tag == "data" and depth == 3:
            layer.data.update(attributes)
        elif tag == "port" and parent == "input" and depth == 4:
            self._ports.setdefault(layer.id, []).append(attributes.get("id", ""))
        elif tag == "port" and parent == "output" and depth == 4:
            layer.output_names += [name for name in attributes.get("names", "").split(",") if name]
        elif tag == "attribute" and parent == "rt_info" and attributes.get("name") == "decompression":
            layer.is_decompression = True

    def _add_edge(self, attributes: dict[str, str]) -> None:
        source, target = attributes.get("from-layer", ""), attributes.get("to-layer", "")
        if source not in self._layers or target not in self._layers:
            raise _broken(self._path, f"an edge from {source!r} to {target!r}, which are not both layers")
        self._inputs.setdefault(target, {})[attributes.get("to-port", "")] = source
        self._consumers.setdefault(source, []).append(target)
