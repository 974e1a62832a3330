"""Talk with a model: with -m, or with the small one that aipc ships, called guide.

Ctrl-C stops an answer, and the conversation goes on with what was said so far; Ctrl-C twice, Ctrl-D or /exit leaves,
with exit code 0; /clear forgets the conversation. It is kept until it no longer fits the model's context; then aipc
says so, and /clear goes on. From a pipe each line is one message, and the exit code is 1 when one had no answer.

examples:
  aipc chat
  aipc chat -m ./phi3-int4
  aipc chat -m ./phi3-int4 --system "Answer in one sentence." --temperature 0.7
"""

from __future__ import annotations

import argparse
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from aipc.chat import Message
from aipc.cli.display import Display
from aipc.cli.parsing import (
    add_model_arguments,
    add_sampling_arguments,
    chosen_recipe_of,
    sampling_of,
    wanted_place_of,
)
from aipc.cli.show import note_choice, note_statistics, show
from aipc.errors import AipcError, ContextLengthError, TemplateError, UsageError
from aipc.measuring import remember
from aipc.model import Model, load_placed
from aipc.placing import placed
from aipc.quoting import quoted

HELP = "Ctrl-C stops an answer, twice leaves · /clear forgets the conversation · /exit or Ctrl-D leaves"
_COMMAND = re.compile(r"/[a-z]*")  # and not a path such as /etc/passwd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_sampling_arguments(parser)
    parser.add_argument("--system", metavar="TEXT", help="a system message")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no statistics")


def run(arguments: argparse.Namespace) -> int:
    if sys.stdin is None:
        raise UsageError("there is no stdin to read messages from", try_next="aipc run TEXT")
    recipe, wanted, sampling = chosen_recipe_of(arguments), wanted_place_of(arguments), sampling_of(arguments)
    with Display(quiet=arguments.quiet) as display:
        place = placed(arguments.model, recipe, wanted, progress=display)
        note_choice(place, display)
        _check_max_tokens(arguments.max_tokens, place.ready.context_tokens)
        with load_placed(place, progress=display, note=display.note) as model:
            display.end()
            if not model.chat.has_template:
                raise TemplateError(
                    f"{model.name} has no chat template", try_next=f"aipc run -m {quoted(place.ready.path)} TEXT"
                )
            conversation = Conversation(model, display, sampling, system=arguments.system)
            conversation.check_room()
            display.note(f"{model.name} on {model.session.device} ({model.session.device_name})\n{HELP}\n")
            with _warming_up(model, display):
                conversation.talk(_line_reader())
    return 1 if conversation.has_failed and not sys.stdin.isatty() else 0


def _check_max_tokens(max_tokens: int | None, context_tokens: int, message_tokens: int = 1) -> None:
    """Before the first message, as each one would be refused."""
    if max_tokens is not None and max_tokens + message_tokens > context_tokens:
        raise ContextLengthError(
            "--max-tokens leaves no room for a message",
            expected=f"less than the context, {context_tokens} tokens, by what is said",
            found=max_tokens,
            try_next="a smaller --max-tokens, or none",
        )


@contextmanager
def _warming_up(model: Model, display: Display) -> Iterator[None]:
    """Run the slow first inference while the person types."""
    thread = threading.Thread(target=_warm_up, args=(model,), name="warm-up", daemon=True)
    thread.start()
    try:
        yield
    finally:
        # An inference cannot be stopped, and a Python that ends meanwhile aborts the process.
        with display.stage("warm-up"):
            thread.join()


def _warm_up(model: Model) -> None:
    with suppress(AipcError):  # an engine that fails fails again, in the open, at the first answer
        model.warm_up()


def _line_reader() -> Callable[[], str]:
    """Reads the next line; raises `EOFError` at the end."""
    if not sys.stdin.isatty():
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        return input
    with suppress(ImportError):
        import readline  # noqa: F401 - line editing and history where the system has it
    return _typed_line


def _typed_line() -> str:
    if sys.stdout is not None and sys.stdout.isatty():
        return input("> ")
    print("> ", end="", file=sys.stderr, flush=True)  # input() would put it into the file that stdout is
    return input()


class Conversation:
    """The messages so far, and the loop that adds to them."""

    def __init__(self, model: Model, display: Display, sampling: dict[str, Any], *, system: str | None) -> None:
        self._model = model
        self._display = display
        self._note_once = cache(display.note)  # and not after every answer
        self._sampling = sampling
        self._first = [Message("system", system)] if system is not None else []
        self.messages = list(self._first)
        self.has_failed = False  # at any message so far

    def check_room(self) -> None:
        """Raises `ContextLengthError` when --max-tokens leaves none for a word, behind the system message."""
        if self._sampling["max_tokens"] is not None:
            with suppress(TemplateError):  # told by the first message, which may be another
                shortest = self._model.prompt_ids([*self.messages, Message("user", "Hi")])
                context_tokens = self._model.capabilities.context_tokens
                _check_max_tokens(self._sampling["max_tokens"], context_tokens, len(shortest))

    def talk(self, read_line: Callable[[], str]) -> None:
        """Until the person leaves."""
        interrupts = 0
        while interrupts < 2:
            try:
                line = read_line().strip()
                interrupts = 0
                if line.lower() in ("/exit", "/quit"):
                    return
                self.obey_or_answer(line)
            except EOFError:
                if sys.stdin.isatty():
                    self._display.note("")
                return
            except KeyboardInterrupt:
                interrupts += 1
                self._display.note("\n(Ctrl-C again leaves)\n" if interrupts == 1 else "")

    def obey_or_answer(self, line: str) -> None:
        """What fails is told, and leaves the conversation as it was."""
        command = line.lower()
        if command == "/clear":
            self.messages = list(self._first)
            self._display.note("(the conversation is forgotten)\n")
        elif _COMMAND.fullmatch(command):
            self._display.note(f"{HELP}\n" if command == "/help" else f"there is no {line}: {HELP}\n")
        elif line:
            try:
                self._answer(Message("user", line))
            except AipcError as error:
                self.has_failed = True
                is_long = isinstance(error, ContextLengthError) and self.messages != self._first
                clear = "\nor: /clear" if is_long else ""
                print(f"error: {error}{clear}\n", file=sys.stderr)

    def _answer(self, message: Message) -> None:
        answer = self._model.stream([*self.messages, message], **self._sampling)
        try:
            show(answer, self._display)
        finally:
            answer.close()
            # A stopped answer stays: the person saw it, and the next message may refer to it.
            if answer.text and answer.finish_reason != "error":
                self.messages += [message, Message("assistant", answer.text)]
        remember(self._model, answer, note=self._note_once)
        note_statistics(answer, self._display, when_full="/clear forgets the conversation")
        self._display.note("")
