"""Names of models and of files, valid on POSIX and Windows at once, and the one place that makes paths of
them.

A store may lie on a USB stick or a network share and be opened by either system, so a name must be safe on
both. Sources: https://learn.microsoft.com/windows/win32/fileio/naming-a-file and POSIX.1-2017, 3.282.
"""

from __future__ import annotations

import re
from pathlib import Path

from aipc.errors import AipcError, StoreError, UsageError

LONGEST_MODEL_NAME = 96  # characters; leaves room for the hidden neighbours `.NAME.partial` and Windows' 260
LONGEST_FILE_NAME = 200  # bytes of UTF-8; ext4 takes 255, eCryptfs 143 is left to the disk to refuse
GUIDE = "guide"  # the embedded model

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
_NOT_IN_A_SLUG = re.compile(r"[^a-z0-9._]+")


def validate_file_name(name: object, *, where: str, error: type[AipcError] = StoreError) -> str:
    """Return `name` when it can only mean a file directly inside the directory that `where` describes.

    Raises `error` for separators, `..`, drive letters, control characters, Windows' device names, a
    trailing dot or space, a leading space, and names over 200 bytes. `where` says who holds the name, such
    as `"aipc.json"`.
    """
    fault = _fault(name)
    if fault is None:
        return str(name)
    raise error(
        f"{where} names a file that is not safe to open",
        expected="a plain file name",
        found=f"{_shown(name)} ({fault})",
        try_next="get the model again from where it came from",
    )


def validate_model_name(name: object) -> str:
    """Return `name` when a model can be stored under it: letters, digits, `.`, `_` and `-`, at most 96
    characters.

    Raises `UsageError`. `guide` is refused as it is the embedded model's name.
    """
    fault = _model_name_fault(name)
    if fault is None:
        return str(name)
    raise UsageError(
        f"{_shown(name)} cannot be a model's name",
        expected="letters, digits, '.', '_' and '-', beginning with a letter or digit",
        found=fault,
        try_next="aipc models lists the names in the store",
    )


def is_model_name(name: str) -> bool:
    """Whether `name` could be a stored model's."""
    return _model_name_fault(name) is None


def model_path(name: object, *, models_dir: Path) -> Path:
    """Return the directory of the model called `name`. The only way from a model's name to a path."""
    return models_dir / validate_model_name(name)


def slug(text: str) -> str:
    """Return `text` as part of a model's name: lower case, every run of other characters one `-`."""
    cleaned = _NOT_IN_A_SLUG.sub("-", text.casefold()).strip("-._")
    return cleaned or "model"


def _model_name_fault(name: object) -> str | None:
    fault = _fault(name)
    if fault is not None:
        return fault
    text = str(name)
    if not _MODEL_NAME.fullmatch(text):
        return "other characters"
    if len(text) > LONGEST_MODEL_NAME:
        return f"{len(text)} characters, {LONGEST_MODEL_NAME} at most"
    if text.casefold() == GUIDE:
        return "the embedded model's name"
    return None


def _fault(name: object) -> str | None:
    """What is wrong with `name` as a name inside one directory; None when nothing is."""
    if not isinstance(name, str):
        return f"{type(name).__name__} instead of text"
    if name in {"", ".", ".."}:
        return "empty" if not name else "a directory above or itself"
    if _FORBIDDEN.search(name):
        return "a separator or a character that Windows forbids"
    if name != name.strip() or name.endswith("."):
        return "a space at an end, or a dot at the end"
    if _DEVICES.fullmatch(name.split(".")[0].rstrip()):
        return "a device on Windows"
    if len(name.encode("utf-8")) > LONGEST_FILE_NAME:
        return f"longer than {LONGEST_FILE_NAME} bytes"
    return None


def _shown(name: object) -> str:
    text = ascii(name)
    return text if len(text) <= 80 else f"{text[:77]}…"
