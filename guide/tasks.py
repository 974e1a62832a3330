"""Small work on a text or a word: copying, quoting, continuing, answering from it, spelling, listing, little sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from guide import wording
from guide.dialogues import Library
from guide.documents import Document, Message, exchange
from guide.grammar import Words, expand
from guide.stories import LETTERLIKE, Plot, Story, tell
from guide.topics import Section

CATEGORIES = {
    "animal": "animals",
    "colour": "colours",
    "fruit": "fruits",
    "vegetable": "vegetables",
    "city": "cities",
    "country": "countries",
    "job": "professions",
    "month": "months",
    "weekday": "days of the week",
    "thing": "things in a house",
    "person": "names",
    "food": "foods",
    "place": "places",
    "mood": "moods",
}
COUNTS = {"a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "2": 2, "3": 3, "4": 4, "some": 3}
LARGEST_SUMMAND = 12
LARGEST_FACTOR = 10
SIGNS = {"+": ("+", "plus"), "-": ("-", "minus"), "*": ("*", "x", "times")}
RANDOM_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass
class Tasks:
    """Writes one task after another."""

    library: Library
    plots: list[Plot]
    opposites: list[tuple[str, str]]
    random: Random

    def story(self, **fixed: str) -> Story:
        return tell(self.random.choice(self.plots), self.library.words, self.random, **fixed)

    def any(self) -> Document:
        """A task of any kind."""
        kinds: Mapping[Callable[[], Document], float] = {
            self.copy: 5,
            self.quote: 1,
            self.first_or_last: 2,
            self.summary: 1.5,
            self.continuation: 2,
            self.question_on_text: 4,
            self.told_story: 2.5,
            self.spelling: 1.5,
            self.listing: 2,
            self.arithmetic: 2.5,
            self.opposite: 1.2,
            self.name_remembered: 1.5,
        }
        return self.random.choices(list(kinds), list(kinds.values()))[0]()

    def asked(self, task: str, text: str, *, slot: str = "*", typed: bool = True) -> str:
        """The request, with `text` where its wording has a place for it."""
        line = expand(self.random.choice(self.library.tasks[task]), Words(self.library.words, self.random))
        before, _, after = line.replace("\\n", "\n").partition(slot)
        if typed:
            before, after = wording.lowered(before, self.random), wording.typed(after, self.random)
        return f"{before}{text}{after}"

    def copy(self) -> Document:
        text = self.passage()
        return exchange("tasks/copy", self.asked("copy", text), text)

    def quote(self) -> Document:
        text = self.random.choice(self.story().sentences).replace('"', "")
        return exchange("tasks/quote", self.asked("quote", text), f'"{text}"')

    def passage(self) -> str:
        """Anything to copy: sentences, a list of words, a row of letters and digits, an answer on a topic."""
        chance = self.random.random()
        if chance < 0.4:
            sentences = self.story().sentences
            begin = self.random.randrange(len(sentences))
            return " ".join(sentences[begin : begin + self.random.randint(1, 5)])
        if chance < 0.65:
            return " ".join(self.word() for _ in range(self.random.randint(1, 9)))
        if chance < 0.75:
            return ", ".join(self.word() for _ in range(self.random.randint(2, 8)))
        if chance < 0.85:
            return " ".join(self._code() for _ in range(self.random.randint(1, 4)))
        section = self.random.choice(self.library.sections)
        return expand(self.random.choice(section.answers), Words(self.library.words, self.random))

    def word(self) -> str:
        return self.random.choice(self.library.words[self.random.choice(list(self.library.words))]).split(":")[0]

    def _code(self) -> str:
        return "".join(self.random.choices(RANDOM_LETTERS, k=self.random.randint(2, 7)))

    def first_or_last(self) -> Document:
        story = self.story()
        sentences = story.sentences[: self.random.randint(2, 6)]
        if self.random.random() < 0.6:
            return exchange("tasks/first", self.asked("first", " ".join(sentences)), sentences[0])
        return exchange("tasks/last", self.asked("last", " ".join(sentences)), sentences[-1])

    def summary(self) -> Document:
        """The first sentence: all that so small a model can honestly do."""
        text = self.story().text if self.random.random() < 0.7 else self.article(sentences=4)
        return exchange("tasks/summary", self.asked("summary", text), wording.first_sentence(text))

    def article(self, *, sentences: int) -> str:
        """Answers of one topic in a row."""
        topic = self.random.choice(self.library.sections).topic
        sections = [section for section in self.library.sections if section.topic == topic]
        chosen = self.random.sample(sections, min(len(sections), sentences))
        words = Words(self.library.words, self.random)
        return " ".join(expand(self.random.choice(section.answers), words) for section in chosen)

    def continuation(self) -> Document:
        sentences = self.story().sentences
        cut = self.random.randint(1, max(1, len(sentences) - 2))
        return exchange(
            "tasks/continue", self.asked("continue", " ".join(sentences[:cut])), " ".join(sentences[cut : cut + 4])
        )

    def question_on_text(self) -> Document:
        """One to three questions on a text; the first comes with it."""
        story = self.story()
        separator = "\n" if story.plot in LETTERLIKE and self.random.random() < 0.5 else " "
        questions = self.random.sample(story.questions, self.random.randint(1, len(story.questions)))
        question, answer = questions[0]
        contents = [self.asked_on(separator.join(story.sentences), question), answer]
        for question, answer in questions[1:]:
            contents += [wording.typed(question, self.random), answer]
        return exchange("tasks/ask", *contents)

    def asked_on(self, text: str, question: str) -> str:
        line = self.asked("ask", text, typed=False)
        return line.replace("@", wording.typed(question, self.random))

    def told_story(self) -> Document:
        """A story on request; where the request names a thing or an animal, the story has it."""
        kind = self.random.choice(["thing", "animal", "job", "place"])
        plots = [plot for plot in self.plots if any(f"${kind}" in line.lower() for line, _ in plot.lines[:2])]
        subject = self.random.choice(self.library.words[kind])
        line = self.random.choice(self.library.tasks["story"])
        if "*" in line and plots:
            story = tell(self.random.choice(plots), self.library.words, self.random, **{kind: subject})
        else:
            story = self.story()
        named = expand(f"{{a(n)|the}} {subject}", Words({}, self.random))
        request = expand(line, Words({}, self.random)).replace("*", named)
        return exchange("tasks/story", wording.typed(request, self.random), story.text)

    def spelling(self) -> Document:
        word = self.word() if self.random.random() < 0.8 else self._code()
        word = word.split(" ")[-1]
        return exchange("tasks/spell", self.asked("spell", word), " ".join(word))

    def listing(self) -> Document:
        kind, named = self.random.choice(list(CATEGORIES.items()))
        said, count = self.random.choice(list(COUNTS.items()))
        if count == 1:
            named = kind if kind not in ("weekday", "thing") else {"weekday": "day", "thing": "thing in a house"}[kind]
            named = "name" if kind == "person" else named
        request = self.asked("list", f"a(n) {named}" if said == "a" else said).replace(
            "@", "" if said == "a" else named
        )
        request = expand(request, Words({}, self.random))
        chosen = [word.split(":")[0] for word in self.random.sample(self.library.words[kind], count)]
        return exchange("tasks/list", request, _listed(chosen))

    def arithmetic(self) -> Document:
        """Sums, differences and products small enough to be learned; for larger ones see unknown.txt."""
        sign = self.random.choice(list(SIGNS))
        largest = LARGEST_FACTOR if sign == "*" else LARGEST_SUMMAND
        one, two = self.random.randint(0, largest), self.random.randint(0, largest)
        if sign == "-":
            one, two = max(one, two), min(one, two)
        result = {"+": one + two, "-": one - two, "*": one * two}[sign]
        term = f"{one} {self.random.choice(SIGNS[sign])} {two}"
        answer = f"{one} {sign if sign != '*' else 'x'} {two} = {result}"
        return exchange("tasks/sum", self.asked("sum", term), answer)

    def opposite(self) -> Document:
        one, two = self.random.choice(self.opposites)
        if self.random.random() < 0.5:
            one, two = two, one
        quote = self.random.choice(['"', ""])
        line = "{What is|What's|Tell me|Do you know|Name|Give me} the opposite of {the word |}@{, please|}?"
        request = expand(line, Words({}, self.random)).replace("@", f"{quote}{one}{quote}")
        answer = expand(f"The opposite of {one} is {two}.", Words({}, self.random))
        return exchange("tasks/opposite", wording.typed(request, self.random), answer)

    def name_remembered(self) -> Document:
        """The user's name, told in the first message and asked for later."""
        words = Words(self.library.words, self.random)
        sections = {section.name: section for section in self.library.sections}
        messages = self._said(sections["hello-name"], words)
        for _ in range(self.random.randint(0, 2)):
            messages += self._said(self.random.choice([s for s in sections.values() if s.asks]), words)
        question = expand(self.random.choice(self.library.tasks["myname"]), words)
        answer = expand("{Your name is $person|You are $person|You said that your name is $person}.", words)
        messages += [Message("user", wording.typed(question, self.random)), Message("assistant", answer)]
        return Document("tasks/name", tuple(messages))

    def _said(self, section: Section, words: Words) -> list[Message]:
        asks, answers = section.asks, section.answers
        question, answer = expand(self.random.choice(asks), words), expand(self.random.choice(answers), words)
        return [Message("user", question), Message("assistant", answer)]

    def long_text(self, characters: int) -> Document:
        """A long passage of several stories, with questions on one of them, so that far things are looked up."""
        stories = [self.story()]
        while sum(len(story.text) for story in stories) < characters:
            stories.append(self.story())
        text = "\n".join(story.text for story in stories)
        if self.random.random() < 0.3:
            line = self.asked("first", text)
            return exchange("long/first", line, stories[0].sentences[0])
        names = [story.chosen.get("person") for story in stories]
        alone = [story for story in stories if names.count(story.chosen.get("person")) == 1 and _named(story)]
        if not alone:
            return exchange("long/last", self.asked("last", text), stories[-1].sentences[-1])
        story = self.random.choice(alone)
        question, answer = self.random.choice(_named(story))
        return exchange("long/ask", self.asked_on(text, question), answer)

    def long_copy(self, characters: int) -> Document:
        """A passage of several stories to copy."""
        text = self.story().text
        while len(text) < characters:
            text += " " + self.story().text
        return exchange("long/copy", self.asked("copy", text), text)


def _named(story: Story) -> list[tuple[str, str]]:
    """The questions that name the story's person, so that only this story answers them."""
    name = story.chosen.get("person")
    return [(question, answer) for question, answer in story.questions if name and name in question]


def _listed(words: list[str]) -> str:
    text = ", ".join(words)
    return text[:1].upper() + text[1:] + "."
