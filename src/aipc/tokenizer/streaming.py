"""Tokens to text while they arrive: never half a character, never part of a stop string."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aipc.errors import UsageError
from aipc.tokenizer.byte_level import byte_level_bytes
from aipc.tokenizer.library import library_errors

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
ANCHOR_TEXT = "a"


class IncrementalText:
    """Takes one token id at a time and gives the text that is whole so far.

    Joined, it is what decoding all ids at once gives. Each token costs the same, however long the text is: its bytes
    depend on nothing but the token, except at the beginning, where some tokenizers drop a space.
    """

    def __init__(self, library: Any, *, skip_special: bool = True) -> None:
        """`library` is a `tokenizers.Tokenizer`, whose special tokens give no text with `skip_special`."""
        self._library = library
        decoder = library.decoder
        kinds = _decoder_kinds(json.loads(decoder.__getstate__())) if decoder is not None else set()
        self._is_byte_level = kinds == {"ByteLevel"}
        self._has_byte_tokens = "ByteFallback" in kinds
        added = library.get_added_tokens_decoder()
        self._skipped = {index for index, token in added.items() if token.special and skip_special}
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._is_at_start = True
        with library_errors("tokenizer.json cannot encode a letter"):
            self._anchor: list[int] = library.encode(ANCHOR_TEXT, add_special_tokens=False).ids[-1:]
        self._known: dict[int, bytes] = {}

    def push(self, token_id: int) -> str:
        """The text that became whole with this token; empty when there is none."""
        if token_id in self._skipped:
            return ""
        if token_id not in self._known:
            self._known[token_id] = self._bytes_of(token_id)
        token_bytes = self._known[token_id]
        if self._is_at_start and token_bytes:
            self._is_at_start = False
            if token_bytes.startswith(b" ") and not self._is_byte_level:
                token_bytes = self._decoded([token_id]).encode("utf-8")
        return self._characters.decode(token_bytes)

    def finish(self) -> str:
        """What is left: U+FFFD for a character whose end never came."""
        return self._characters.decode(b"", final=True)

    def _bytes_of(self, token_id: int) -> bytes:
        """The token's bytes anywhere but at the beginning; none for an id the tokenizer does not have."""
        token: str | None = self._library.id_to_token(token_id)
        if token is None:
            return b""
        if self._is_byte_level:
            spelled = byte_level_bytes(token)
            return token.encode("utf-8") if spelled is None else spelled
        if self._has_byte_tokens and (match := BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match[1], 16)])
        # Behind another token it cannot lose a leading space.
        text = self._decoded([*self._anchor, token_id])
        return text[len(self._decoded(self._anchor)) :].encode("utf-8")

    def _decoded(self, ids: Sequence[int]) -> str:
        with library_errors("tokenizer.json cannot spell an answer"):
            text: str = self._library.decode(ids, skip_special_tokens=False)
        return text


def _decoder_kinds(decoder: Mapping[str, Any]) -> set[str]:
    return {step["type"] for step in decoder.get("decoders", [decoder])}


class StopStrings:
    """Passes text through until one of the stop strings is complete, and never shows a part of one.

    What could still become a stop string is held back; nothing else is. The first stop string to be complete counts,
    and of several that end together the longest. It does not matter how the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Raises `UsageError` for an empty stop string."""
        if "" in stops:
            raise UsageError("a stop string is empty", expected="one character or more")
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None  # the stop string that ended the text

    def push(self, text: str) -> str:
        """The text that may be shown now. Once `matched` is set there is no more of it."""
        if self.matched is not None:
            return ""
        text = self._held + text
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            _, start, self.matched = min(found)
            self._held = ""
            return text[:start]
        held_from = self._possible_start(text)
        self._held = text[held_from:]
        return text[:held_from]

    def finish(self) -> str:
        """What was held back in vain, at the end of the text."""
        held, self._held = self._held, ""
        return held

    def _possible_start(self, text: str) -> int:
        """Where the longest end of `text` begins that is the beginning of a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for start in range(max(0, len(text) - longest), len(text)):
            if any(stop.startswith(text[start:]) for stop in self._stops):
                return start
        return len(text)
