"""This PC's own measurements: how fast which device ran which model, in one small file that every process adds to.

`aipc run` and `aipc chat` add what their answers took; a benchmark may add what it measures by a better method, which
then counts instead. The file is JSON, replaced as a whole and under a lock, so that a reader finds the old or the new
one and two writers lose nothing. An entry that is damaged counts as none, and so does a file that is; one that a newer
aipc wrote is neither read nor replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args

from aipc.errors import StoreError
from aipc.monitor.statistics import percentile
from aipc.progress import Note, unsaid
from aipc.store.atomic import locked, rename

FILE = "measurements.json"
FORMAT = 1
KEPT_OF_EACH = 5  # of a model on a device by one engine and source: the newest, whose median counts
KEPT = 500  # of all; an entry has half a kilobyte
_LARGEST_BYTES = 4 * 1024 * 1024
_WAIT_S = 2.0  # for another process, which holds the lock for milliseconds
Source = Literal["run", "bench"]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Measurement:
    """One answer, or one benchmark, of a model on a device.

    `model` is its `model_identity`, `model_name` is for people. `pc` is this PC, as a store may lie on a
    disk that several share. `device` is the engine's own name, such as CPU, GPU.1, NPU or DIRECTML.0; `driver` is None
    where the engine does not tell it. `decode_tokens_per_s` is one over the median time per token. The prompt's times
    are None from a source whose first inference compiles kernels, or finds its prompt in a cache.
    """

    model: str
    model_name: str
    recipe: str | None
    pc: str
    engine: str
    engine_version: str | None
    device: str
    device_name: str
    driver: str | None
    prompt_tokens: int
    generated_tokens: int
    decode_tokens_per_s: float
    prefill_tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None
    source: Source = "run"
    time: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Engine and device, as `place_of` writes them."""
        return place_of(self.engine, self.device)


def place_of(engine: str, device: str) -> tuple[str, str]:
    """The key of a device: the first of a kind needs no number, and case does not matter."""
    return engine, device.lower().removesuffix(".0")


def read(file: Path) -> list[Measurement]:
    """All whole entries, the oldest first; none where there is no file or it cannot be read.

    Raises `StoreError` when a newer aipc wrote it, or it is too large to be this one's.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            raise StoreError(f"{file} is larger than this aipc writes it", try_next="remove it, and it is begun anew")
        document = json.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    version = document.get("format") if isinstance(document, dict) else None
    if isinstance(version, (int, float)) and version > FORMAT:
        raise StoreError(f"{file} was written by a newer aipc", try_next="pip install --upgrade aipc")
    if version != FORMAT:
        return []
    entries = document.get("measurements")
    found = [_measurement(entry) for entry in entries] if isinstance(entries, list) else []
    return [entry for entry in found if entry is not None]


_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "Source": (str,),
}


def _measurement(entry: object) -> Measurement | None:
    """None for an entry with a field that is missing, of another type, or no number that a speed can be."""
    names = {field.name: _KINDS[str(field.type)] for field in fields(Measurement)}
    if not isinstance(entry, dict) or entry.keys() != names.keys():
        return None
    values: dict[str, Any] = entry
    if any(isinstance(values[name], bool) or not isinstance(values[name], kinds) for name, kinds in names.items()):
        return None
    is_speed = 0 < values["decode_tokens_per_s"] < 1e9
    return Measurement(**values) if is_speed and values["source"] in get_args(Source) else None


def record(file: Path, measurement: Measurement, *, note: Note = unsaid) -> None:
    """Add a measurement, with the time of now.

    Where the file cannot be written, or another process keeps it for seconds, this one is lost: an answer does not
    fail for it, and the next one is measured again. Where a newer aipc wrote it, that is noted.
    """
    with suppress(StoreError, OSError), locked(file, wait_s=_WAIT_S):
        try:
            entries = read(file)
        except StoreError as error:
            note(f"the measurement is not kept: {error}")
            return
        _write(file, _newest([*entries, Measurement(**{**asdict(measurement), "time": _now()})]))


def _newest(entries: Sequence[Measurement]) -> list[Measurement]:
    counts: dict[tuple[str, ...], int] = {}
    kept: list[Measurement] = []
    for entry in reversed(entries):
        key = (entry.pc, entry.model, *entry.place, entry.source)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= KEPT_OF_EACH and len(kept) < KEPT:
            kept.append(entry)
    return kept[::-1]


def _write(file: Path, entries: Iterable[Measurement]) -> None:
    """Under the lock, so the other name is this process' own. In ASCII, as a name may hold what is no Unicode."""
    part = file.with_name(f"{file.name}.part")
    document = {"format": FORMAT, "measurements": [asdict(entry) for entry in entries]}
    try:
        part.write_text(json.dumps(document, indent=1), encoding="utf-8")
        rename(part, file)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def decode_speeds(entries: Iterable[Measurement], *, model: str, pc: str) -> dict[tuple[str, str], float]:
    """Tokens per second of each place (see `place_of`) where `model` was measured on this PC.

    The median of the newest entries that share the newest one's engine version, driver and device name: an update, or
    another card in the slot, begins anew. A benchmark's count instead of answers', where there are any.
    """
    places: dict[tuple[str, str], list[Measurement]] = {}
    for entry in entries:
        if (entry.model, entry.pc) == (model, pc):
            places.setdefault(entry.place, []).append(entry)
    return {place: _speed(found) for place, found in places.items()}


def _speed(entries: Sequence[Measurement]) -> float:
    newest = entries[-1]
    same = [entry for entry in entries if _surroundings(entry) == _surroundings(newest)]
    benched = [entry for entry in same if entry.source == "bench"]
    return percentile(sorted(entry.decode_tokens_per_s for entry in benched or same), 50)


def _surroundings(entry: Measurement) -> tuple[str | None, ...]:
    return entry.engine_version, entry.driver, entry.device_name
