"""Typed reads of a checkpoint's JSON files: every failure names the file, the key, what was expected and found."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from aipc.errors import ConfigError

_REQUIRED: Any = object()
_TRY_NEXT = "get the file again from the checkpoint's repository"
LARGEST_JSON_BYTES = 64 * 1024 * 1024
LARGEST_COUNT = 2**31 - 1  # no size or length of a real model comes near it


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of equal ones each program takes another, so none can be checked."""
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {repeated!r:.80} twice in one object")
    return values


@dataclass(frozen=True)
class ConfigFile:
    """A JSON object of a file; `prefix` says where in the file it stands."""

    path: Path
    values: Mapping[str, Any]
    prefix: tuple[str, ...] = field(default=())

    @staticmethod
    def load(path: Path) -> ConfigFile:
        """Read a JSON object. Raises `ConfigError` when the file is missing, too large, or no JSON object."""
        try:
            if path.stat().st_size > LARGEST_JSON_BYTES:
                raise ConfigError(
                    f"{path}",
                    expected=f"at most {LARGEST_JSON_BYTES} bytes",
                    found=path.stat().st_size,
                    try_next=_TRY_NEXT,
                )
            values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file", try_next="copy it from the checkpoint's repository") from None
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read: {error.strerror}", try_next="check the disk and its permissions"
            ) from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"{path}", expected="a JSON object", found=f"broken JSON ({error})", try_next=_TRY_NEXT
            ) from None
        if not isinstance(values, dict):
            raise ConfigError(f"{path}", expected="a JSON object", found=type(values).__name__, try_next=_TRY_NEXT)
        return ConfigFile(path, values)

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def key(self, name: str) -> str:
        """The key's place in the file, such as `rope_scaling.type`."""
        return ".".join((*self.prefix, name))

    def text(self, key: str, *, default: str = _REQUIRED) -> str:
        value = self._value(key, "a string", default)
        if not isinstance(value, str):
            self._wrong(key, "a string")
        return value

    def flag(self, key: str, *, default: bool = _REQUIRED) -> bool:
        value = self._value(key, "true or false", default)
        if not isinstance(value, bool):
            self._wrong(key, "true or false")
        return value

    def count(self, key: str, *, default: int = _REQUIRED) -> int:
        """A whole number from 1 to `LARGEST_COUNT`."""
        value = self._value(key, "a whole number above 0", default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self._wrong(key, "a whole number above 0")
        self.require(value <= LARGEST_COUNT, key, f"at most {LARGEST_COUNT}")
        return value

    def optional_count(self, key: str) -> int | None:
        return self.count(key) if self.has(key) else None

    def number(self, key: str, *, default: float = _REQUIRED) -> float:
        """A finite number above 0."""
        value = self._value(key, "a number above 0", default)
        if not _is_positive_number(value):
            self._wrong(key, "a number above 0")
        return float(value)

    def numbers(self, key: str, *, length: int) -> tuple[float, ...]:
        """A list of `length` finite numbers above 0."""
        expected = f"a list of {length} numbers above 0"
        value = self._value(key, expected, _REQUIRED)
        if not isinstance(value, list):
            self._wrong(key, expected)
        if len(value) != length:
            self._wrong(key, expected, found=f"{len(value)} of them")
        for number in value:
            if not _is_positive_number(number):
                self._wrong(key, expected, found=repr(number)[:80])
        return tuple(float(number) for number in value)

    def section(self, key: str) -> ConfigFile | None:
        """A nested object, or None where it is missing or null."""
        if not self.has(key):
            return None
        value = self.values[key]
        if not isinstance(value, dict):
            self._wrong(key, "an object")
        return ConfigFile(self.path, value, (*self.prefix, key))

    def require(self, holds: bool, key: str, expected: str) -> None:
        """Raise `ConfigError` about `key` unless `holds`."""
        if not holds:
            self._wrong(key, expected)

    def _value(self, key: str, expected: str, default: Any) -> Any:
        if self.has(key):
            return self.values[key]
        if default is _REQUIRED:
            self._wrong(key, expected, found="no such key" if key not in self.values else "null")
        return default

    def _wrong(self, key: str, expected: str, found: str | None = None) -> NoReturn:
        shown = found if found is not None else json.dumps(self.values.get(key))[:80]
        raise ConfigError(f"{self.path}: {self.key(key)}", expected=expected, found=shown, try_next=_TRY_NEXT)


def _is_positive_number(value: object) -> bool:
    """JSON's whole numbers have no bound; those beyond a float's are refused as infinity is."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= sys.float_info.max
