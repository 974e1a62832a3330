"""Conversations from the topic files: questions in many wordings, follow-ups, pleasantries, system messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from guide import wording
from guide.documents import Document, Message
from guide.grammar import Words, expand
from guide.topics import TEXT, Section, read_lines, read_sections, read_wordings, read_words

# Files of the text folder that hold something else than topics.
OTHER_FILES = {"wordings", "pleasantries", "tasks", "stories", "opposites", "synonyms"}
# Of the questions that take other words: how many are reworded, and how much of one.
REWORDED_SHARE = 0.5
EXCHANGED_SHARE = 0.4
HURRIED_SHARE = 0.06
TURNS = (1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6)


@dataclass
class Library:
    """All the text files, read once."""

    sections: list[Section]
    pleasantries: dict[str, list[str]]
    tasks: dict[str, list[str]]
    words: dict[str, list[str]]
    synonyms: wording.Synonyms

    @classmethod
    def read(cls) -> Library:
        wordings = read_wordings(TEXT / "wordings.txt")
        topics = [path for path in sorted(TEXT.glob("*.txt")) if path.stem not in OTHER_FILES]
        library = cls(
            [section for path in topics for section in read_sections(path, wordings)],
            read_wordings(TEXT / "pleasantries.txt"),
            read_wordings(TEXT / "tasks.txt"),
            read_words(TEXT / "words"),
            wording.Synonyms(line for _, line in read_lines(TEXT / "synonyms.txt")),
        )
        names = [section.name for section in library.sections]
        unknown = {name for section in library.sections for name in section.after} - set(names)
        if unknown or len(set(names)) < len(names):
            raise ValueError(
                f"sections that are not there: {sorted(unknown)}, or twice: {len(names) - len(set(names))}"
            )
        return library


@dataclass
class Dialogues:
    """Writes one conversation after another."""

    library: Library
    random: Random
    _following: dict[str, list[Section]] = field(default_factory=lambda: defaultdict(list))
    _by_topic: dict[str, list[Section]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._asked = [section for section in self.library.sections if section.asks]
        self._weights = [section.weight for section in self._asked]
        for section in self.library.sections:
            self._by_topic[section.topic] += [section] if section.asks else []
            for name in section.after:
                self._following[name].append(section)

    def conversation(self) -> Document:
        """One to six questions and answers."""
        system, brief = self._system()
        words = Words(self.library.words, self.random)
        section = self._any_section()
        messages = [Message("system", system)] if system else []
        messages += self._turn(section, words, brief=brief)
        for _ in range(self.random.choice(TURNS) - 1):
            section, turn = self._next(section, messages, brief=brief)
            messages += turn
        return Document(f"topics/{section.topic}", tuple(messages))

    def _any_section(self) -> Section:
        return self.random.choices(self._asked, self._weights)[0]

    def _next(self, section: Section, messages: Sequence[Message], *, brief: bool) -> tuple[Section, list[Message]]:
        """A follow-up, another question on the same topic or on any, or about the answer itself."""
        words = Words(self.library.words, self.random)
        chance = self.random.random()
        if chance < 0.05:
            return section, self._about_answer("echo", messages, lambda text: text)
        if chance < 0.1:
            return section, self._about_answer("shorter", messages, wording.first_sentence)
        if chance < 0.55 and (following := self._following[section.name]):
            following_section = self.random.choice(following)
            return following_section, self._turn(following_section, words, brief=brief, follow_up=True)
        section = self.random.choice(self._by_topic[section.topic]) if chance < 0.75 else self._any_section()
        return section, self._turn(section, words, brief=brief)

    def _about_answer(self, task: str, messages: Sequence[Message], change: Callable[[str], str]) -> list[Message]:
        question = expand(self.random.choice(self.library.tasks[task]), Words({}, self.random))
        return [
            Message("user", wording.typed(question, self.random)),
            Message("assistant", change(messages[-1].content)),
        ]

    def _turn(self, section: Section, words: Words, *, brief: bool, follow_up: bool = False) -> list[Message]:
        follow_up = follow_up and bool(section.follow_ups)
        question = expand(self.random.choice(section.follow_ups if follow_up else section.asks), words)
        answer = self.answer(section, words)
        if "no-wrap" not in section.marks:
            question = self._in_other_words(question)
        if not follow_up and "no-wrap" not in section.marks:
            if self.random.random() < 0.04:
                question = expand(self.random.choice(self.library.pleasantries["brief"]), words).replace("*", question)
                brief = True
            else:
                question = wording.with_pleasantries(question, self.library.pleasantries, self.random)
        question = wording.typed(_capital(question), self.random)
        return [Message("user", question), Message("assistant", wording.first_sentence(answer) if brief else answer)]

    def _in_other_words(self, question: str) -> str:
        if self.random.random() < REWORDED_SHARE:
            question = self.library.synonyms.reworded(question, self.random, share=EXCHANGED_SHARE)
        return wording.hurried(question, self.random) if self.random.random() < HURRIED_SHARE else question

    def answer(self, section: Section, words: Words) -> str:
        """One of the section's answers, sometimes with one of its additions."""
        answer = expand(self.random.choice(section.answers), words)
        if section.additions and self.random.random() < 0.35:
            answer += " " + expand(self.random.choice(section.additions), words)
        return _capital(answer)

    def _system(self) -> tuple[str | None, bool]:
        chance = self.random.random()
        if chance > 0.25:
            return None, False
        brief = chance < 0.05
        return self.random.choice(self.library.pleasantries["system-brief" if brief else "system"]), brief


def _capital(text: str) -> str:
    """A sentence begins with a capital, but a command or a name keeps its spelling."""
    return text if text.startswith(("aipc", "safetensors", "optimum", "config.json")) else text[:1].upper() + text[1:]
