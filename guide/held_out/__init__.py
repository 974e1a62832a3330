"""Questions that are never trained on, and what a right answer to them has.

`questions.txt` is worded unlike all the text that is trained on; who wrote that text knew of it. `exam.txt` was written
by somebody who had not read the text, and was asked only when the text was finished; some of its questions are what
anybody would ask, and are in the text by chance.

    [npu]                                           the topic
    My sticker says NPU. What for? => neural|AI && power !! do not know

A right answer matches every regular expression between `=>` and `!!`, and none behind `!!`; upper and lower case are
the same. A question is a conversation's last message where it has ` >> ` in it: what comes before are earlier messages
of the user and the assistant in turn. `\\n` is a new line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# In these topics a refusal is no answer, though it may have the right words by chance.
KNOWN_TOPICS = {"aipc", "commands", "hardware", "runtimes", "quantisation", "speed", "models", "trouble", "follow-up"}
REFUSAL = r"do(?: not|n't) (?:know|understand)|cannot (?:tell|know|advise)|know nothing|very small model for"


@dataclass(frozen=True)
class Question:
    """`earlier` are the messages before it, the user's first."""

    topic: str
    text: str
    required: tuple[str, ...]
    forbidden: tuple[str, ...]
    earlier: tuple[str, ...] = ()

    def is_answered_by(self, answer: str) -> bool:
        """Whether the answer has all that is required and nothing that is forbidden."""
        found = [bool(re.search(pattern, answer, re.IGNORECASE)) for pattern in self.required]
        wrong = [bool(re.search(pattern, answer, re.IGNORECASE)) for pattern in self.forbidden]
        return bool(answer.strip()) and all(found) and not any(wrong)


QUESTIONS = Path(__file__).parent / "questions.txt"
EXAM = Path(__file__).parent / "exam.txt"


def read_held_out(path: Path = QUESTIONS) -> list[Question]:
    """Raises `ValueError` naming the line that is not understood."""
    questions, topic = [], ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if match := re.fullmatch(r"\[([\w-]+)\]", line):
            topic = match[1]
        elif line.strip() and not line.startswith("#"):
            asked, separator, wanted = line.partition(" => ")
            if not separator or not topic:
                raise ValueError(f"{path.name}:{number}: expected QUESTION => WANTED !! UNWANTED, found {line!r}")
            questions.append(_question(topic, asked, wanted))
    return questions


def _question(topic: str, asked: str, wanted: str) -> Question:
    *earlier, text = asked.strip().replace("\\n", "\n").split(" >> ")
    required, _, forbidden = wanted.partition("!!")
    patterns = [tuple(part.strip() for part in side.split("&&") if part.strip()) for side in (required, forbidden)]
    refusal = (REFUSAL,) if topic in KNOWN_TOPICS else ()
    return Question(topic, text, patterns[0], (*patterns[1], *refusal), tuple(earlier))
