"""Lines with choices: `{Hi|Hello} $person` stands for many texts.

`{a|b|c}` is one of its parts, which may hold choices themselves or be empty. `$word` is a word of the list of that
name, the same one all through a document; `$word2` is another word of the same list; `$word+` is its plural.
`$they`, `$them` and `$their` stand for `$person`. `a(n)` becomes a or an.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random

_VARIABLE = re.compile(r"\$([a-zA-Z]+)(\d?)(\+?)")
_SHORT_I = re.compile(r"\b([Aa])\(n\) (?=([\"“‘]?)(\w))")
_CONSONANT_SOUND = re.compile(r"(?:uni|use|usu|eu|one\b|once)", re.IGNORECASE)

_PLURALS = {
    "mouse": "mice",
    "sheep": "sheep",
    "goose": "geese",
    "deer": "deer",
    "fish": "fish",
    "wolf": "wolves",
    "knife": "knives",
    "leaf": "leaves",
    "garlic": "garlic",
    "celery": "celery",
}
PRONOUNS = ("they", "them", "their")

Part = str | tuple["Branch", ...]  # a text, or a choice
Branch = tuple[Part, ...]


@dataclass
class Words:
    """The words that `$name` stands for in one document."""

    lists: Mapping[str, Sequence[str]]
    random: Random
    chosen: dict[str, str] = field(default_factory=dict)

    def get(self, name: str, number: str) -> str:
        """The word for `$name`; `$Name` is the same one with a capital. Raises `KeyError` for an unknown list."""
        key = name.lower() + number
        if name.lower() in PRONOUNS:
            self.get("person", number)
        if key not in self.chosen:
            taken = {word for other, word in self.chosen.items() if other.rstrip("0123456789") == name.lower()}
            free = [word for word in self.lists[name.lower()] if word not in taken]
            self.choose(key, self.random.choice(free))
        word = self.chosen[key]
        return word[:1].upper() + word[1:] if name[0].isupper() else word

    def choose(self, key: str, word: str) -> None:
        """Fix a word. `Anna:she:her:her` brings its pronouns along: `$they`, `$them` and `$their`."""
        word, *pronouns = word.split(":")
        self.chosen[key] = word
        number = key[len(key.rstrip("0123456789")) :]
        for name, pronoun in zip(PRONOUNS, pronouns, strict=False):
            self.chosen.setdefault(name + number, pronoun)


@cache
def parse(line: str) -> Branch:
    """The line as texts and choices; a | outside all braces is text. Raises `ValueError` for unmatched braces."""
    branch, end = _branch(line, 0, outside=True)
    if end != len(line):
        raise ValueError(f"a brace is closed that was never opened: {line!r}")
    return branch


def _branch(line: str, position: int, *, outside: bool) -> tuple[Branch, int]:
    """What stands from `position` up to the end of this alternative, and where that is."""
    stop = re.compile(r"[{}]|$" if outside else r"[{}|]|$")
    parts: list[Part] = []
    while True:
        end = stop.search(line, position).start()  # type: ignore[union-attr]
        parts.append(line[position:end])
        if line[end : end + 1] != "{":
            return tuple(parts), end
        choice, position = _choice(line, end)
        parts.append(choice)


def _choice(line: str, opened: int) -> tuple[tuple[Branch, ...], int]:
    """The alternatives in the braces that are opened there, and the position behind them."""
    branches: list[Branch] = []
    position = opened
    while line[position : position + 1] != "}":
        if position == len(line):
            raise ValueError(f"a brace is never closed: {line!r}")
        branch, position = _branch(line, position + 1, outside=False)
        branches.append(branch)
    return tuple(branches), position + 1


def expand(line: str, words: Words) -> str:
    """One of the texts that `line` stands for."""
    return _finished(_with_words(_expanded(parse(line), words.random), words))


def _expanded(branch: Branch, random: Random) -> str:
    return "".join(part if isinstance(part, str) else _expanded(random.choice(part), random) for part in branch)


def _with_words(text: str, words: Words) -> str:
    def word(match: re.Match[str]) -> str:
        found = words.get(match[1], match[2])
        return plural(found) if match[3] else found

    return _VARIABLE.sub(word, text)


def plural(word: str) -> str:
    """The plural of an English noun."""
    if word in _PLURALS:
        return _PLURALS[word]
    if re.search(r"(s|x|ch|sh|[^aeiou]o)$", word):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", word) else f"{word}s"


def _finished(text: str) -> str:
    """Without the double spaces that empty choices leave, and with a or an."""
    text = re.sub(r" {2,}", " ", text).strip()
    text = re.sub(r" ([.,!?;:])(?=\s|$)", r"\1", text)
    return _SHORT_I.sub(lambda match: f"{_article(match[1], text[match.end() :])} ", text)


def _article(letter: str, following: str) -> str:
    following = following.lstrip('"“‘')
    vowel = following[:1].lower() in "aeiou" and not _CONSONANT_SOUND.match(following)
    return f"{letter}n" if vowel else letter


def pattern(line: str, lists: Mapping[str, Sequence[str]]) -> str:
    """A regular expression for all texts of `line` as `normalised` makes them."""
    return _pattern(parse(line), lists)


def _pattern(branch: Branch, lists: Mapping[str, Sequence[str]]) -> str:
    parts = [_text_pattern(part, lists) if isinstance(part, str) else _choice_pattern(part, lists) for part in branch]
    return "".join(parts)


def _choice_pattern(choice: Sequence[Branch], lists: Mapping[str, Sequence[str]]) -> str:
    return f"(?:{'|'.join(_pattern(branch, lists) for branch in choice)})"


def _text_pattern(text: str, lists: Mapping[str, Sequence[str]]) -> str:
    texts = re.split(f"({_VARIABLE.pattern.replace('(', '(?:')})", text.replace("a(n)", " a n "))
    found = [_word_pattern(piece, lists) if i % 2 else _bare_pattern(piece) for i, piece in enumerate(texts)]
    return "".join(found).replace("a *n", "an?")


def _word_pattern(variable: str, lists: Mapping[str, Sequence[str]]) -> str:
    words = lists.get(variable.strip("$+0123456789").lower(), PRONOUNS)
    named = [word.split(":")[0] for word in words]
    return f"(?:{'|'.join(_bare_pattern(plural(word) if variable[-1] == '+' else word) for word in named)})"


def _bare_pattern(text: str) -> str:
    return " *".join(map(re.escape, re.split(r"\s+", _bare(text))))


def normalised(text: str) -> str:
    """Lower case, and without punctuation: what is left of a question when its spelling is not looked at."""
    return re.sub(r"\s+", " ", _bare(text)).strip()


def _bare(text: str) -> str:
    return re.sub(r"[^\w\s]", " ", text.lower().replace("'", "").replace("’", ""))
