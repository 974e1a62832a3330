"""Topic files: what the guide knows, as questions and answers that people can read and correct.

    == npu                      a section: one thing to know, under a name
    what: an NPU | NPUs         the question wordings of that kind, from wordings.txt, about these subjects
    compare: an NPU / a GPU     the same with two subjects
    ? Which chip is it for?     a wording of its own
    ~ And what is it good for?  a wording that makes sense only after a section named by `after:`
    after: ai-pc, gpu
    = An NPU is a processor …   an answer; each `=` line is another way to say it. Its first sentence stands alone.
    + It needs little power.    a sentence that may follow any of the answers
    - no-wrap                   a mark: the question is asked as it is, without pleasantries

Lines use the choices and words of `guide.grammar`. A line that begins with # is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TEXT = Path(__file__).parent / "text"
MARKS = {"?": "asks", "~": "follow_ups", "=": "answers", "+": "additions"}


@dataclass
class Section:
    """One thing to know: how it is asked for, and what to say."""

    name: str
    topic: str
    asks: list[str] = field(default_factory=list)
    follow_ups: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    additions: list[str] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)
    weight: float = 1.0


def read_sections(path: Path, wordings: Mapping[str, Sequence[str]]) -> list[Section]:
    """Raises `ValueError` naming the line that is not understood, or the section without an answer."""
    sections: list[Section] = []
    for number, line in read_lines(path):
        try:
            if line.startswith("== "):
                sections.append(Section(line[3:].strip(), path.stem))
            else:
                _add(sections[-1], line, wordings)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{path.name}:{number}: {line!r}: {error!r}") from error
    for section in sections:
        if not section.answers or not section.asks + section.follow_ups:
            raise ValueError(f"{path.name}: section {section.name} lacks an answer or a question")
    return sections


def _add(section: Section, line: str, wordings: Mapping[str, Sequence[str]]) -> None:
    if line[:2] in {f"{mark} " for mark in MARKS}:
        getattr(section, MARKS[line[0]]).append(line[2:].strip())
        return
    if line.startswith("- "):
        section.marks.add(line[2:].strip())
        return
    kind, subjects = (part.strip() for part in line.split(":", 1))
    if kind == "after":
        section.after += [name.strip() for name in subjects.split(",")]
    elif kind == "weight":
        section.weight = float(subjects)
    else:
        section.asks += _worded(wordings[kind], [subject.strip() for subject in _top_level(subjects)])


def _worded(templates: Iterable[str], subjects: list[str]) -> list[str]:
    """One line with a choice of subjects for each template; subjects with a / fill both of a template's places."""
    if all(" / " not in subject for subject in subjects):
        choice = "{" + "|".join(subjects) + "}"
        return [template.replace("*", choice) for template in templates]
    pairs = [subject.split(" / ") for subject in subjects]
    return [t.replace("*1", one).replace("*2", two) for t in templates for one, two in pairs]


def _top_level(text: str) -> list[str]:
    """Split at the | that are outside braces."""
    parts, depth = [""], 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def read_wordings(path: Path) -> dict[str, list[str]]:
    """`[kind]` headings, each with the templates below it."""
    wordings: dict[str, list[str]] = {}
    for _, line in read_lines(path):
        if match := re.fullmatch(r"\[([\w-]+)\]", line):
            current = wordings.setdefault(match[1], [])
        else:
            current.append(line)
    return wordings


def read_words(directory: Path) -> dict[str, list[str]]:
    """Each file is a list, named as the file: words between commas, or one a line."""
    lists = {}
    for path in sorted(directory.glob("*.txt")):
        entries = [entry.strip() for _, line in read_lines(path) for entry in line.split(",")]
        lists[path.stem] = [entry for entry in dict.fromkeys(entries) if entry]
    return lists


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()
