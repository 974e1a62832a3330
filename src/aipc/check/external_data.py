"""The file of weights beside an ONNX graph: inside the directory, there, and long enough.

A location is what the model's maker wrote, so it is looked at as text before anything is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from aipc.check.onnx_model import ExternalData, OnnxFacts
from aipc.check.report import Finding, failure


def rules(facts: OnnxFacts, directory: Path, remedy: str) -> Iterator[Finding]:
    """Rules about every weight that lies outside the graph."""
    sizes = {location: _size(directory, location) for location in {entry.location for entry in facts.external}}
    short = {location for location, size in sizes.items() if size is not None and _end(facts, location) > size}
    for location in sorted(short):
        yield failure(
            "files/external-data",
            location,
            expected=f"{_end(facts, location):,} bytes, where the last weight ends",
            found=f"{sizes[location]:,}",
            remedy=remedy,
        )
    for entry in facts.external:
        if entry.location in short:
            continue
        fault = _location_fault(entry.location)
        if fault is not None:
            yield failure(
                "files/external-data",
                entry.weight,
                expected="a file in the model's directory",
                found=f"{entry.location[:80]!r} ({fault})",
                remedy=remedy,
            )
        else:
            yield from _lengths(entry, sizes[entry.location], facts.weights[entry.weight].size_bytes, remedy)


def _end(facts: OnnxFacts, location: str) -> int:
    """How long a file must be for the weights in it."""
    return max(entry.offset + (entry.length or 0) for entry in facts.external if entry.location == location)


def _location_fault(location: str) -> str | None:
    """What keeps a location from being a file below the directory, on POSIX and Windows at once."""
    windows = PureWindowsPath(location)
    if not location:
        return "empty"
    if any(ord(character) < 32 for character in location):
        return "a control character"
    if windows.drive or windows.root or PurePosixPath(location).is_absolute():
        return "an absolute path"
    if ".." in windows.parts:
        return "a path that leaves the directory"
    return None


def _size(directory: Path, location: str) -> int | None:
    """In bytes; None for a file that is not there, or must not be looked for."""
    if _location_fault(location) is not None:
        return None
    try:
        file = directory / location
        return file.stat().st_size if file.is_file() else None
    except OSError:
        return None


def _lengths(entry: ExternalData, size: int | None, needed: int | None, remedy: str) -> Iterator[Finding]:
    if size is None:
        yield failure(
            "files/external-data", entry.location, expected="a file of weights", found="no such file", remedy=remedy
        )
        return
    length = entry.length if entry.length is not None else size - entry.offset
    if entry.offset < 0 or length < 0 or entry.offset + length > size:
        yield failure(
            "files/external-data",
            entry.weight,
            expected=f"bytes within the {size:,} of {entry.location}",
            found=f"{length:,} from {entry.offset:,} on",
            remedy=remedy,
        )
    elif needed is not None and length != needed and not (entry.length is None and length > needed):
        yield failure(
            "files/external-data",
            entry.weight,
            expected=f"{needed:,} bytes, as its type and shape say",
            found=f"{length:,}",
            remedy=remedy,
        )
