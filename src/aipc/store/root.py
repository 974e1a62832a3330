"""Where the store is on this computer."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from aipc.errors import StoreError


def store_root(
    *, environ: Mapping[str, str] | None = None, platform: str | None = None, home: Path | None = None
) -> Path:
    """Return the store's directory; it need not exist.

    `AIPC_HOME`, or the place where the platform keeps programs' data: `$XDG_DATA_HOME` or `~/.local/share`
    on Linux, `%LOCALAPPDATA%` on Windows, `~/Library/Application Support` on macOS. A relative `AIPC_HOME` is
    taken from the working directory, and a blank one counts as none. The arguments stand in for this
    computer's `os.environ`, `sys.platform` and home directory. Raises `StoreError` when a home directory is
    meant that there is not.
    """
    environ = os.environ if environ is None else environ
    platform = sys.platform if platform is None else platform
    chosen = environ.get("AIPC_HOME", "").strip()
    if chosen:
        return Path(os.path.abspath(_expanded(chosen)))  # noqa: PTH100 - keeps symbolic links as typed
    return _data_directory(environ, platform=platform, home=home) / "aipc"


def _expanded(chosen: str) -> Path:
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise StoreError(
            "AIPC_HOME names the home directory of an account that is not on this computer",
            expected="a directory that you can write to",
            found=chosen,
            try_next="set AIPC_HOME to another directory, or unset it",
        ) from error


def models_directory(root: Path | None = None) -> Path:
    """Return the directory that holds one directory per stored model."""
    return (store_root() if root is None else root) / "models"


def _data_directory(environ: Mapping[str, str], *, platform: str, home: Path | None) -> Path:
    if platform == "win32":
        given, default = environ.get("LOCALAPPDATA"), ("AppData", "Local")
    elif platform == "darwin":
        given, default = None, ("Library", "Application Support")
    else:
        given, default = environ.get("XDG_DATA_HOME"), (".local", "share")
    # The XDG specification has relative paths ignored: they depend on the working directory.
    if given and Path(given).is_absolute():
        return Path(given)
    return (_home() if home is None else home).joinpath(*default)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise StoreError(
            "No place for the model store: this account has no home directory",
            try_next="set AIPC_HOME to a directory that you can write to",
        ) from error
