"""How a question is typed: with pleasantries, in lower case, without its question mark, with a slip of the finger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from random import Random

LETTERS_NEAR = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
# Left as it is typed: commands, flags, quotations, and whatever else has more than plain words.
_VERBATIM = re.compile(r"`[^`]*`|\"[^\"]*\"|\S*[-./]\S*|\S*[A-Z]{2}\S*")


# What a hurried person leaves out.
SMALL_WORDS = {"a", "an", "the", "is", "are", "do", "does", "to", "of", "me", "it", "can", "you", "please", "that"}


class Synonyms:
    """Words and phrases that may stand for one another, each line of `lines` a set of them between commas."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._others: dict[str, list[str]] = {}
        for line in lines:
            phrases = [phrase.strip() for phrase in line.split(",")]
            for phrase in phrases:
                self._others.setdefault(phrase.lower(), []).extend(other for other in phrases if other != phrase)
        longest_first = sorted(self._others, key=len, reverse=True)
        self._phrase = re.compile(rf"(?<![\w'-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w'-])", re.IGNORECASE)

    def reworded(self, text: str, random: Random, *, share: float) -> str:
        """`share` of the known phrases outside commands and quotations are exchanged. The grammar may suffer, as it
        does when people type.
        """
        verbatim = [match.span() for match in _VERBATIM.finditer(text)]

        def exchanged(match: re.Match[str]) -> str:
            begin, end = match.span()
            if random.random() > share or any(b < end and begin < e for b, e in verbatim):
                return match[0]
            other = random.choice(self._others[match[0].lower()])
            return other[:1].upper() + other[1:] if match[0][0].isupper() and begin == 0 else other

        return self._phrase.sub(exchanged, text)


def hurried(text: str, random: Random) -> str:
    """Without some of the small words: `how I run model on NPU`."""
    words = text.split(" ")
    left = [word for word in words if word.lower() not in SMALL_WORDS or random.random() > 0.6]
    return " ".join(left) if len(left) > 1 else text


def with_pleasantries(question: str, pleasantries: Mapping[str, Sequence[str]], random: Random) -> str:
    """Sometimes with words before or behind."""
    if random.random() < 0.22:
        before = random.choice(pleasantries["before"])
        keeps_capital = before[-1] in ".!:" or _begins_with_name(question)
        question = f"{before} {question if keeps_capital else question[:1].lower() + question[1:]}"
    if random.random() < 0.12:
        after = random.choice(pleasantries["after"])
        question = f"{question[:-1]}, {after}{question[-1]}" if after == "please" else f"{question} {after}"
    return question


def typed(text: str, random: Random) -> str:
    """As people type: most often well, sometimes in lower case, without punctuation, or with a slip."""
    if random.random() < 0.3:
        text = _plain_words_lowered(text) if random.random() < 0.7 else text.lower()
    elif random.random() < 0.02:
        text = text.upper()
    if random.random() < 0.3:
        text = re.sub(r"[.?!]+$", "", text) or text
    elif random.random() < 0.05:
        text = text.rstrip(".?!") + random.choice(["??", "!!", "???", "?!", " ?", "..."])
    if random.random() < 0.08:
        text = text.replace("'", "")
    if random.random() < 0.15:
        text = _swapped_spelling(text)
    return with_slip(text, random) if random.random() < 0.12 else text


def lowered(text: str, random: Random) -> str:
    """For the part of a request before a passage: sometimes in lower case, sometimes with a slip."""
    if random.random() < 0.3:
        text = _plain_words_lowered(text)
    return with_slip(text, random) if random.random() < 0.08 else text


def with_slip(text: str, random: Random) -> str:
    """One letter of one plain word is doubled, left out, exchanged with its neighbour or with a near key."""
    words = [match.span() for match in re.finditer(r"[A-Za-z]{4,}", text)]
    words = [(begin, end) for begin, end in words if not _overlaps_verbatim(text, begin, end)]
    if not words:
        return text
    begin, end = random.choice(words)
    at = random.randrange(begin + 1, end - 1)
    letter = text[at]
    changed = random.choice(["", letter * 2, text[at + 1] + letter, random.choice(LETTERS_NEAR[letter.lower()])])
    return text[:at] + changed + text[at + (2 if len(changed) == 2 and changed[0] != changed[1] else 1) :]


def first_sentence(text: str) -> str:
    """Up to the first full stop outside quotation marks and backticks that a new sentence follows."""
    for match in re.finditer(r"[.!?。！？](?=\s+\S|$)|[。！？]", text):
        begun = text[: match.end()]
        if begun.count('"') % 2 == 0 and begun.count("`") % 2 == 0:
            return begun
    return text


def _begins_with_name(question: str) -> bool:
    first = question.split(" ", 1)[0]
    return first in {"I", "I'm", "I'd", "I've", "aipc"} or any(letter.isupper() for letter in first[1:])


def _plain_words_lowered(text: str) -> str:
    """Lower case but for abbreviations and names such as NPU and INT4."""
    return re.sub(r"[A-Z][a-z']*\b|\bI\b", lambda match: match[0].lower(), text)


def _overlaps_verbatim(text: str, begin: int, end: int) -> bool:
    return any(match.start() < end and begin < match.end() for match in _VERBATIM.finditer(text))


def _swapped_spelling(text: str) -> str:
    """British spelling to American."""
    return re.sub(r"(?<=[a-z])is(?=(e|ed|ing|ation)\b)", "iz", text) if "quanti" in text else text
