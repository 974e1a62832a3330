"""The vocabulary and merges of a tokenizer.json, read with little memory.

A file for 200,000 tokens has 18 MB and becomes 140 MB of Python objects when it is parsed as a whole. Here its
two large members are scanned entry by entry in the memory-mapped file, and the rest is parsed as it is.
"""

from __future__ import annotations

import json
import mmap
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# JSON's own grammar, strictly. The longest token of a real vocabulary has a few hundred bytes; without a bound, one of
# megabytes would take gigabytes.
SPACE = rb"[ \t\n\r]*"
PLAIN = rb'[^"\\\x00-\x1f]{0,4096}'
STRING = rb'"(' + PLAIN + rb"(?:\\." + PLAIN + rb'){0,4096})"'
NUMBER = rb"(0|[1-9][0-9]*)"
VOCAB_START = re.compile(rb'"vocab"\s*:\s*\{')
VOCAB_ENTRY = re.compile(SPACE + STRING + SPACE + b":" + SPACE + NUMBER + SPACE + rb"([,}])")
MERGES_START = re.compile(rb'"merges"\s*:\s*\[')
PAIR = rb"\[" + SPACE + STRING + SPACE + b"," + SPACE + STRING + SPACE + rb"\]"
MERGES_ENTRY = re.compile(SPACE + b"(?:" + STRING + b"|" + PAIR + b")" + SPACE + rb"([,\]])")
# Stands where the scanned members stood, so that whoever reads the rest finds the same types.
PLACEHOLDER_VOCAB = b'{"a": 0, "b": 1, "ab": 2}'
PLACEHOLDER_MERGES = b'[["a", "b"]]'
MOST_UNUSED_IDS = 65_536


@dataclass(frozen=True)
class BpeVocabulary:
    """`tokens[i]` is the UTF-8 spelling of token i, empty where an id is not used.

    Merge i joins the tokens with the ids `left[i]` and `right[i]`.
    """

    tokens: list[bytes]
    left: array[int]
    right: array[int]


def read_bpe_vocabulary(path: Path) -> tuple[BpeVocabulary, dict[str, Any]] | None:
    """Scan `path`; also returns the document with placeholders for what was scanned.

    None when the file is not laid out as every known writer does it, or is no BPE; then it has to be parsed as a
    whole. Raises OSError, and ValueError when an id is absurd (see `refuse_absurd_id`) or the rest of the file is no
    JSON.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        vocab_start, merges_start = VOCAB_START.search(text), MERGES_START.search(text)
        if not vocab_start or not merges_start:
            return None
        ids, vocab_end = _scan_vocab(text, vocab_start.end())
        refuse_absurd_id(max(ids.values(), default=-1), tokens=len(ids))
        left, right, merges_end = _scan_merges(text, merges_start.end(), ids)
        if not vocab_end or not merges_end:
            return None
        vocab_span = (vocab_start.end() - 1, vocab_end, PLACEHOLDER_VOCAB)
        merges_span = (merges_start.end() - 1, merges_end, PLACEHOLDER_MERGES)
        rest = _replaced(text, sorted([vocab_span, merges_span]))
    tokens = [b""] * (max(ids.values(), default=-1) + 1)
    for token, index in ids.items():
        tokens[index] = token
    return BpeVocabulary(tokens, left, right), json.loads(rest)


def refuse_absurd_id(index: int, *, tokens: int) -> None:
    """Raise ValueError for a token id that no vocabulary of so many tokens has, as each id up to it takes memory.

    Real ones leave out a few, such as 35 of Phi-4-mini's 200,064.
    """
    limit = 2 * tokens + MOST_UNUSED_IDS
    if index >= limit:
        raise ValueError(f"a token has the id {index!s:.20}; expected ids below {limit}, as there are {tokens} tokens")


def _scan_vocab(text: mmap.mmap, start: int) -> tuple[dict[bytes, int], int | None]:
    """The ids, and where the object ended; None when something in it was not understood."""
    ids: dict[bytes, int] = {}
    end = None
    for entry in _entries(VOCAB_ENTRY, text, start):
        token = _unescape(entry[1])
        token.decode("utf-8")  # or it is no JSON
        ids[token] = int(entry[2])
        end = entry.end() if entry[3] == b"}" else None
    return ids, end


def _scan_merges(text: mmap.mmap, start: int, ids: Mapping[bytes, int]) -> tuple[array[int], array[int], int | None]:
    left, right = array("i"), array("i")
    end = None
    for entry in _entries(MERGES_ENTRY, text, start):
        # Older files spell a pair as one string, "le ft".
        first, _, second = (entry[2], b"", entry[3]) if entry[1] is None else entry[1].partition(b" ")
        first, second = _unescape(first), _unescape(second)
        left_id, right_id = ids.get(first), ids.get(second)
        if left_id is None or right_id is None or first + second not in ids:
            return left, right, None
        left.append(left_id)
        right.append(right_id)
        end = entry.end() if entry[4] == b"]" else None
    return left, right, end


def _entries(pattern: re.Pattern[bytes], text: mmap.mmap, start: int) -> Iterator[re.Match[bytes]]:
    """Entries that follow one another without a gap, up to the one that closes the list or object."""
    position = start
    while entry := pattern.match(text, position):
        yield entry
        if entry[pattern.groups] != b",":
            return
        position = entry.end()


def _unescape(string: bytes) -> bytes:
    if b"\\" not in string:
        return string
    text: str = json.loads(b'"' + string + b'"')
    return text.encode("utf-8")


def _replaced(text: mmap.mmap, spans: list[tuple[int, int, bytes]]) -> bytes:
    parts, position = [], 0
    for start, end, replacement in spans:
        parts += [text[position:start], replacement]
        position = end
    return b"".join([*parts, text[position:]])
