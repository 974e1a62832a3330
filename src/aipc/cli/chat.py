"""Talk with a model. Ctrl-C stops an answer; Ctrl-C twice, Ctrl-D or /exit leaves; /clear forgets the conversation.

The conversation is kept until it no longer fits the model's context; then aipc says so, and /clear goes on.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from aipc.chat import Message
from aipc.cli.display import Display
from aipc.cli.parsing import (
    add_model_arguments,
    add_sampling_arguments,
    properties_of,
    recipe_of,
    sampling_of,
)
from aipc.cli.run import show, write
from aipc.errors import AipcError, TemplateError, UsageError

if TYPE_CHECKING:
    from aipc.model import Model

HELP = "Ctrl-C stops an answer, twice leaves · /clear forgets the conversation · /exit or Ctrl-D leaves"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_sampling_arguments(parser)
    parser.add_argument("--system", metavar="TEXT", help="a system message")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no statistics")


def run(arguments: argparse.Namespace) -> int:
    recipe, properties = recipe_of(arguments), properties_of(arguments)
    from aipc.model import load_ready
    from aipc.ready import ready_model

    with suppress(ImportError):
        import readline  # noqa: F401 - line editing and history where the system has it

    with Display(quiet=arguments.quiet) as display:
        ready = ready_model(arguments.model, recipe, progress=display)
        with load_ready(ready, device=arguments.device, properties=properties, progress=display) as model:
            display.end()
            if not model.chat.has_template:
                raise TemplateError(f"{model.name} has no chat template", try_next=f"aipc run -m {ready.path} TEXT")
            _warm_up_while_the_person_types(model)
            print(HELP, file=sys.stderr)
            Conversation(model, display, arguments).talk(_read_line)
    return 0


def _warm_up_while_the_person_types(model: Model) -> None:
    def warm_up() -> None:
        with suppress(AipcError):  # an engine that fails fails again, in the open, at the first answer
            model.warm_up()

    threading.Thread(target=warm_up, name="warm-up", daemon=True).start()


def _read_line() -> str:
    return input("> " if sys.stdin.isatty() else "")


class Conversation:
    """The messages so far, and the loop that adds to them."""

    def __init__(self, model: Model, display: Display, arguments: argparse.Namespace) -> None:
        self._model = model
        self._display = display
        self._arguments = arguments
        self._first = [Message("system", arguments.system)] if arguments.system is not None else []
        self.messages = list(self._first)

    def talk(self, read_line: Callable[[], str]) -> None:
        """Until the person leaves."""
        interrupts = 0
        while interrupts < 2:
            try:
                line = read_line().strip()
                if line in ("/exit", "/quit"):
                    return
                if line:
                    self.answer(line)
                interrupts = 0
            except EOFError:
                return
            except KeyboardInterrupt:
                interrupts += 1
                print("\n(Ctrl-C again leaves)" if interrupts == 1 else "", file=sys.stderr)

    def answer(self, line: str) -> None:
        """Answer one line, or obey it. What fails is told and leaves the conversation as it was."""
        if line == "/clear":
            self.messages = list(self._first)
            return
        if line.startswith("/"):
            print(HELP, file=sys.stderr)
            return
        try:
            self._answer(Message("user", line))
        except UsageError as error:
            print(f"error: {error}\nor: /clear", file=sys.stderr)

    def _answer(self, message: Message) -> None:
        answer = self._model.stream([*self.messages, message], **sampling_of(self._arguments))
        try:
            show(answer, self._display, write)
        finally:
            # A stopped answer stays: the person saw it, and the next message may refer to it.
            answer.close()
            if answer.text:
                self.messages += [message, Message("assistant", answer.text)]
        if not self._arguments.quiet:
            print(f"\n{answer.statistics()}\n", file=sys.stderr)
