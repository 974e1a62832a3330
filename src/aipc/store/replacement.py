"""What a new model may replace: nothing, or with `force` a converted model and not one file besides."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from aipc.errors import StoreError
from aipc.store.manifest import MANIFEST, read_manifest
from aipc.store.model_files import GENAI_CONFIG, OPENVINO_XML

_MODELS = {OPENVINO_XML, GENAI_CONFIG}
_MOST_NAMED = 3
# What aipc, optimum-cli and openvino_tokenizers write, and what systems put into any directory. No README.md: where a
# person's notes are the manifest does not list them.
_PART_OF_A_MODEL = re.compile(
    r"openvino_[\w.-]+\.(xml|bin|json)"
    r"|model\.onnx(\.data)?|genai_config\.json"
    r"|(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json"
    r"|(preprocessor|processor)_config\.json"
    r"|chat_template\.jinja|merges\.txt|vocab\.txt|tokenizer\.model|spiece\.model"
    r"|\.gitattributes|\.DS_Store|Thumbs\.db|desktop\.ini"
)


def refuse_replacement(destination: Path, *, force: bool) -> None:
    """Raise `StoreError` unless a model may be put at `destination`.

    It may where nothing is or an empty directory. With `force` also where a converted model is, in a directory
    that holds nothing else: its entries are files that its manifest lists, or have names of a converted model's.
    """
    if not os.path.lexists(destination):
        return
    if destination.is_dir() and not destination.is_symlink():
        names = {entry.name for entry in destination.iterdir()}
        if not names:
            return
        if names & {MANIFEST, *_MODELS}:
            if not force:
                raise StoreError(
                    f"{destination} already holds a model",
                    try_next="give another directory, or --force to replace it",
                )
            _refuse_others(destination)
            return
    # With force too: replacing means deleting, and this may be anything.
    raise StoreError(
        f"{destination} exists and is no converted model", try_next="give a directory that does not exist yet"
    )


def _refuse_others(destination: Path) -> None:
    """Raise `StoreError` naming what is in the directory and no part of the model."""
    listed = {MANIFEST}
    with suppress(StoreError):  # a damaged model may be replaced, too
        listed |= set(read_manifest(destination).files)
    others = sorted(entry.name for entry in destination.iterdir() if not _is_part(entry, listed))
    if not others:
        return
    more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    raise StoreError(
        f"{destination} holds more than a converted model, and replacing it would delete that too",
        expected="a model's files alone",
        found=", ".join(others[:_MOST_NAMED]) + more,
        try_next="move what you want to keep out of it, or give another directory",
    )


def _is_part(entry: Path, listed: set[str]) -> bool:
    if stat.S_ISDIR(entry.lstat().st_mode):
        return False
    return entry.name in listed or _PART_OF_A_MODEL.fullmatch(entry.name) is not None
