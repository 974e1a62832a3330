"""An answer on stdout while it comes, and its statistics on stderr."""

from __future__ import annotations

from itertools import chain

from aipc.answer import Answer
from aipc.cli.display import Display
from aipc.placing import Placed


def show(answer: Answer, display: Display, *, visible: bool = True) -> None:
    """Read an answer to its end and, when it is `visible`, write its text to stdout as it comes.

    The time to its first token is shown as a stage. The text ends with a line break, also when the answer fails.
    """
    with display.stage("first token"):
        first = next(answer, None)
    has_ended = False
    try:
        for step in chain([first] if first else [], answer):
            if visible and step.text:
                print(step.text, end="", flush=True)
        has_ended = True
    finally:
        if visible and not answer.text.endswith("\n") and (has_ended or answer.text):
            print(flush=True)


def note_choice(place: Placed, display: Display) -> None:
    """What `--device auto` took, and why."""
    display.end()
    if place.device_choice is not None:
        display.note(f"auto: {place.device_choice}")


def note_statistics(answer: Answer, display: Display, *, when_full: str | None = None) -> None:
    """What the answer cost, and whether it was cut. `when_full` is what helps once the context is full."""
    if display.quiet:
        return  # measuring the memory's bandwidth would take time for nothing
    if answer.finish_reason == "length":
        tokens = "1 token" if len(answer.steps) == 1 else f"{len(answer.steps)} tokens"
        display.note(f"(cut after {tokens}; {_what_cut(answer, when_full)})")
    display.note(f"\n{answer.statistics()}")


def _what_cut(answer: Answer, when_full: str | None) -> str:
    if not answer.fills_context:
        return "--max-tokens sets how many"
    full = f"the context of {answer.context_tokens} tokens is full"
    return full if when_full is None else f"{full}: {when_full}"
