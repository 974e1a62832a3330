"""Little stories, notes and descriptions, with questions about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from guide.grammar import Words, expand
from guide.topics import read_lines

LETTERLIKE = {"letter", "meeting-note"}


@dataclass
class Plot:
    """A text as a row of sentences, some of which may be left out, and the questions it answers."""

    name: str
    lines: list[tuple[str, bool]] = field(default_factory=list)
    questions: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Story:
    """One telling of a plot."""

    plot: str
    sentences: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    chosen: Mapping[str, str]

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


def read_plots(path: Path) -> list[Plot]:
    """Raises `ValueError` for a question without an answer."""
    plots: list[Plot] = []
    for number, line in read_lines(path):
        if line.startswith("== "):
            plots.append(Plot(line[3:]))
        elif line.startswith("Q: "):
            question, separator, answer = line[3:].rpartition(" | ")
            if not separator:
                raise ValueError(f"{path.name}:{number}: a question needs ' | ' and an answer")
            plots[-1].questions.append((question, answer))
        else:
            plots[-1].lines.append((line.removeprefix("? "), line.startswith("? ")))
    return plots


def tell(plot: Plot, lists: Mapping[str, Sequence[str]], random: Random, **fixed: str) -> Story:
    """`fixed` words are used as they are, such as thing="lamp"."""
    words = Words(lists, random)
    for key, word in fixed.items():
        words.choose(key, word)
    lines = [line for line, optional in plot.lines if not optional or random.random() < 0.5]
    sentences = tuple(_sentence(expand(line, words)) for line in lines)
    questions = tuple((_sentence(expand(q, words)), _answer(expand(a, words))) for q, a in plot.questions)
    return Story(plot.name, sentences, questions, dict(words.chosen))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _answer(text: str) -> str:
    text = _sentence(text)
    return text if text.endswith((".", "!", "?")) else f"{text}."
