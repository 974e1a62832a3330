"""What an ONNX file says of its inputs and of the data beside it, read without the onnx package and without running it.

An ONNX file is a protocol buffer: a message is a list of fields, each a tag with its number and its kind, and a value;
a nested message is a value with a length. Only the fields are followed that lead to what is looked for.

Source: onnx.proto, and the encoding at https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aipc.errors import EngineError

# message: {field number: message that it holds}
_NESTED = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node"},
    "Graph": {1: "Node", 5: "Tensor", 11: "Input", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
}
_MOST_NESTED = 64  # messages within messages; a model's `If` takes about ten
_LONGEST_NUMBER = 10  # bytes of a 64-bit number
_MOST_DIGITS = 19


@dataclass(frozen=True)
class External:
    """Where a tensor's values lie: `size_bytes` from `offset` of the file `location`, None to its end."""

    tensor: str
    location: str
    offset: int
    size_bytes: int | None


@dataclass
class OnnxFile:
    """`inputs` are those of the network, by name, with ONNX's number of the type (1: float32, 10: float16)."""

    inputs: dict[str, int] = field(default_factory=dict)
    external: list[External] = field(default_factory=list)


def read_onnx(path: Path) -> OnnxFile:
    """Raises `EngineError` when the file is missing, cut off, or no ONNX model."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = OnnxFile()
            _Reader(data, found).walk(0, len(data), "Model", nested=0)
    except _BrokenError as error:
        raise _no_model(path, str(error)) from None
    except ValueError:  # an empty file cannot be mapped
        raise _no_model(path, "an empty file") from None
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}", try_next="convert the model again") from error
    if not found.inputs:
        raise _no_model(path, "no inputs")
    return found


def _no_model(path: Path, found: str) -> EngineError:
    return EngineError(
        f"{path} is no whole ONNX model",
        expected="a graph with inputs",
        found=found,
        try_next="convert the model again",
    )


class _BrokenError(Exception):
    pass


class _Reader:
    def __init__(self, data: mmap.mmap, found: OnnxFile) -> None:
        self._data = data
        self._found = found

    def walk(self, begin: int, end: int, message: str, *, nested: int) -> None:
        """Collect what the message between two offsets holds."""
        if nested > _MOST_NESTED:
            raise _BrokenError("messages nested without end")
        if message == "Tensor":
            self._tensor(begin, end)
        elif message == "Input":
            self._input(begin, end)
        else:
            for number, _, start, stop in self._fields(begin, end):
                inner = _NESTED[message].get(number)
                if inner is not None:
                    # Inputs of nested graphs are not the network's.
                    if inner == "Input" and nested > 1:
                        continue
                    self.walk(start, stop, inner, nested=nested + 1)

    def _tensor(self, begin: int, end: int) -> None:
        name, entries = "", {}
        for number, _, start, stop in self._fields(begin, end):
            if number == 8:
                name = self._text(start, stop)
            elif number == 13:
                key, value = self._entry(start, stop)
                entries[key] = value
        if entries:
            size = _count(name, "length", entries["length"]) if "length" in entries else None
            offset = _count(name, "offset", entries.get("offset", "0"))
            self._found.external.append(External(name, entries.get("location", ""), offset, size))

    def _entry(self, begin: int, end: int) -> tuple[str, str]:
        texts = {number: self._text(start, stop) for number, _, start, stop in self._fields(begin, end)}
        return texts.get(1, ""), texts.get(2, "")

    def _input(self, begin: int, end: int) -> None:
        name, kind = "", 0
        for number, _, start, stop in self._fields(begin, end):
            if number == 1:
                name = self._text(start, stop)
            elif number == 2:
                kind = self._element_type(start, stop)
        self._found.inputs[name] = kind

    def _element_type(self, begin: int, end: int) -> int:
        for number, _, start, stop in self._fields(begin, end):
            if number == 1:  # the type of a tensor
                return next((value for field, value, _, _ in self._fields(start, stop) if field == 1), 0)
        return 0

    def _fields(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, value where it is a whole number, and the offsets where the value begins and ends."""
        at = begin
        while at < end:
            tag, at = self._number(at, end)
            number, kind = tag >> 3, tag & 7
            value, start = 0, at
            if kind == 0:
                value, at = self._number(at, end)
            elif kind == 2:
                length, start = self._number(at, end)
                at = start + length
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                raise _BrokenError(f"field {number} of an unknown kind at byte {start}")
            if at > end:
                raise _BrokenError(f"a field that ends at byte {at} of {end}")
            yield number, value, start, at

    def _number(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for index in range(_LONGEST_NUMBER):
            if at + index >= end:
                raise _BrokenError("the end in the middle of a number")
            byte = self._data[at + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, at + index + 1
        raise _BrokenError(f"a number without end at byte {at}")

    def _text(self, begin: int, end: int) -> str:
        try:
            return self._data[begin:end].decode("utf-8")
        except UnicodeDecodeError:
            raise _BrokenError(f"a name at byte {begin} that is no text") from None


def _count(tensor: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
        raise _BrokenError(f"{key} {text[:40]!r} of tensor {tensor[:80]!r}")
    return int(text)
