"""How byte-level tokenizers (GPT-2, GPT-4, Phi-4) spell bytes as characters in their vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache


@lru_cache(maxsize=1)
def _bytes_of_characters() -> Mapping[int, int]:
    """GPT-2's table: printable bytes stand for themselves, the others for U+0100 and up, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    unknown = dict.fromkeys(others, 0xFFFF)  # what is not in the table must not pass as latin-1
    return unknown | {0x0100 + index: byte for index, byte in enumerate(others)}


def byte_level_bytes(token: str) -> bytes | None:
    """The bytes of a token's spelling: b" the" for "Ġthe". None when a character of it stands for no byte."""
    try:
        return token.translate(_bytes_of_characters()).encode("latin-1")
    except UnicodeEncodeError:
        return None
