"""The training text: a seeded stream of documents. `python -m guide.corpus` prints some of it, or its figures."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from guide.dialogues import Dialogues, Library
from guide.documents import Document
from guide.grammar import normalised
from guide.held_out import read_held_out
from guide.stories import read_plots
from guide.tasks import Tasks
from guide.topics import TEXT

# Shares of documents. A conversation is short and a long passage long: by text the shares are others.
SHARES = {"conversation": 0.66, "task": 0.25, "story": 0.05, "article": 0.025, "long": 0.011, "long copy": 0.004}
LONGEST_PASSAGE_CHARACTERS = 7600
LONGEST_COPY_CHARACTERS = 3200
TRAINING_SEED = 1
HELD_OUT_SEED = 2  # documents for perplexity, written by the same scripts but never trained on


@dataclass
class Corpus:
    """Writes documents for ever; the same seed writes the same ones."""

    seed: int

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        library = Library.read()
        opposites = [
            (one.strip(), two.strip())
            for line in (TEXT / "opposites.txt").read_text(encoding="utf-8").splitlines()
            for one, _, two in [line.partition("/")]
        ]
        self._dialogues = Dialogues(library, self._random)
        self._tasks = Tasks(library, read_plots(TEXT / "stories.txt"), opposites, self._random)
        self._held_out = {normalised(question.text) for question in read_held_out()}
        self._writers: dict[str, Callable[[], Document]] = {
            "conversation": self._dialogues.conversation,
            "task": self._tasks.any,
            "story": self._story,
            "article": self._article,
            "long": lambda: self._tasks.long_text(self._random.randint(1500, LONGEST_PASSAGE_CHARACTERS)),
            "long copy": lambda: self._tasks.long_copy(self._random.randint(600, LONGEST_COPY_CHARACTERS)),
        }

    def __iter__(self) -> Iterator[Document]:
        """A document in which rewording made a held-out question by chance is left out."""
        while True:
            kind = self._random.choices(list(SHARES), list(SHARES.values()))[0]
            document = self._writers[kind]()
            if not any(m.role == "user" and normalised(m.content) in self._held_out for m in document.messages):
                yield document

    def _story(self) -> Document:
        return Document("story", text=self._tasks.story().text)

    def _article(self) -> Document:
        return Document("article", text=self._tasks.article(sentences=self._random.randint(3, 10)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Print documents of the training text.")
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--seed", type=int, default=TRAINING_SEED)
    parser.add_argument("--figures", action="store_true", help="count instead of printing")
    arguments = parser.parse_args()
    documents = islice(Corpus(arguments.seed), arguments.documents)
    if not arguments.figures:
        for document in documents:
            print(f"### {document.kind}\n{document.rendered()}\n")
        return
    counts: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for document in documents:
        counts[document.kind] += 1
        characters[document.kind] += len(document.rendered())
    for kind, count in counts.most_common():
        print(f"{kind:20} {count:8} documents {characters[kind]:12} characters")
    print(f"{'all':20} {counts.total():8} documents {characters.total():12} characters")


if __name__ == "__main__":
    main()
