"""A PC from a folder of small files, in place of the one that the tests run on.

FOLDER/machine.json  system, architecture, environment, packages, and `forbidden`: paths that may not be opened
FOLDER/root/…        its files; a colon in a name is written %3A, as Windows has no colons in names
FOLDER/commands/…    what its commands write: NAME.txt or NAME.json; runtimes.json is what the runtimes see
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from urllib.parse import quote, unquote

from aipc.devices.known import NotAvailable

MACHINES = Path(__file__).parent / "devices" / "machines"
NAMES = sorted(path.name for path in MACHINES.iterdir() if path.is_dir())


class RecordedMachine:
    """`replaced` holds other texts for some of its files and commands, or new ones, by their path or name."""

    def __init__(self, name: str, replaced: Mapping[str, str] | None = None) -> None:
        self._folder = MACHINES / name
        self._facts = json.loads((self._folder / "machine.json").read_text(encoding="utf-8"))
        self.replaced = dict(replaced or {})
        self.commands_run: list[tuple[str, ...]] = []
        self.system: str = self._facts["system"]
        self.architecture: str = self._facts["architecture"]
        self.environment: dict[str, str] = self._facts.get("environment", {})
        self.packages: dict[str, str] = self._facts.get("packages", {})
        self.forbidden: list[str] = self._facts.get("forbidden", [])
        self.removed: set[str] = set()

    def files(self) -> list[str]:
        """The paths of all its files, and the names of all its commands."""
        root, commands = self._folder / "root", self._folder / "commands"
        files = [f"/{unquote(path.relative_to(root).as_posix())}" for path in root.rglob("*") if path.is_file()]
        return sorted([*files, *(path.stem for path in commands.glob("*"))])

    def read(self, path: str) -> str | NotAvailable:
        if path in self.replaced:
            return self.replaced[path]
        file = self._path(path)
        if path in self.removed or not file.is_file():
            return NotAvailable(f"{path} is not there")
        return file.read_text(encoding="utf-8")

    def list(self, path: str) -> tuple[str, ...]:
        directory = self._path(path)
        recorded = [unquote(entry.name) for entry in directory.iterdir()] if directory.is_dir() else []
        new = [file.removeprefix(f"{path}/").partition("/")[0] for file in self.replaced if file.startswith(f"{path}/")]
        return tuple(name for name in sorted({*recorded, *new}) if f"{path}/{name}" not in self.removed)

    def readable(self, path: str) -> bool:
        is_there = path in self.replaced or self._path(path).exists()
        return is_there and path not in self.forbidden and path not in self.removed

    def writable(self, path: str) -> bool:
        return self.readable(path)

    def run(self, *command: str, timeout_s: float = 5.0) -> str | NotAvailable:
        self.commands_run.append(command)
        is_runtimes = command[1:2] == ("-c",) and "runtimes" in command[2]
        name = "runtimes" if is_runtimes else PureWindowsPath(command[0]).stem
        if name in self.replaced:
            return self.replaced[name]
        found = [path for path in (self._folder / "commands").glob(f"{name}.*") if name not in self.removed]
        return found[0].read_text(encoding="utf-8") if found else NotAvailable(f"{name} cannot be run")

    def package(self, name: str) -> str | None:
        return self.packages.get(name)

    def _path(self, path: str) -> Path:
        return self._folder / "root" / "/".join(quote(part, safe="") for part in path.strip("/").split("/"))
