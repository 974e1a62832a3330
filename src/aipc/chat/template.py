"""A checkpoint's chat template: from messages to the one string that the model was trained on.

A template is a program that comes with a model. It is run in `aipc.chat.bounded_jinja`'s environment.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import CodeType
from typing import Any

from aipc.errors import TemplateError

LONGEST_TEMPLATE_CHARACTERS = 64_000  # published ones have under 20,000; compiling takes 20 µs a character
DEFAULT_SECONDS = 2.0
TRY_NEXT = "get the template again from the model's repository; or --raw, which continues the prompt without one"
# What a template may write beyond the messages themselves, and how often it may write those.
EXTRA_CHARACTERS = 4_000_000
MESSAGES_WRITTEN = 4


class ChatTemplate:
    """`source` is the template's text, compiled by `prepare` or when it is first rendered. Safe to use from several
    threads.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str], *, seconds: float = DEFAULT_SECONDS) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)
        self._seconds = seconds

    def prepare(self) -> None:
        """Compile. Raises `TemplateError` when the template is no Jinja."""
        _ = self._code

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """The text of the conversation; with `add_generation_prompt`, up to where the model's answer begins.

        Raises `TemplateError`, with the line, when the template is no Jinja, refuses the messages, takes longer
        than its seconds, or makes something larger than the messages account for.
        """
        from aipc.chat.bounded_jinja import BoundedEnvironment

        characters = EXTRA_CHARACTERS + MESSAGES_WRITTEN * _characters(messages)
        environment = BoundedEnvironment(seconds=self._seconds, characters=characters)
        template = environment.template_class.from_code(environment, self._code, environment.make_globals(None))
        variables = self._special_tokens | {
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
        }
        try:
            text = "".join(template.root_render_func(template.new_context(variables)))
            text.encode("utf-8")  # half a surrogate pair is no character, and no tokenizer takes it
            return text
        except (Exception, RecursionError, MemoryError) as error:
            raise _template_error(error, template) from error

    @cached_property
    def _code(self) -> CodeType:
        from jinja2 import TemplateSyntaxError

        from aipc.chat.bounded_compiler import compile_bounded
        from aipc.chat.bounded_jinja import BoundedEnvironment
        from aipc.chat.limits import LimitReachedError

        if len(self.source) > LONGEST_TEMPLATE_CHARACTERS:
            raise TemplateError(
                "the chat template is too long",
                expected=f"at most {LONGEST_TEMPLATE_CHARACTERS:,} characters",
                found=f"{len(self.source):,}",
                try_next=TRY_NEXT,
            )
        environment = BoundedEnvironment(seconds=self._seconds, characters=EXTRA_CHARACTERS)
        try:
            return compile_bounded(environment, self.source)
        except TemplateSyntaxError as error:
            what = f"line {error.lineno} of the chat template is no Jinja: {error.message}"
            raise TemplateError(what, try_next=TRY_NEXT) from error
        except LimitReachedError as error:
            raise TemplateError(f"the chat template goes past its limits: {error}", try_next=TRY_NEXT) from error
        except (Exception, RecursionError, MemoryError) as error:
            what = f"the chat template cannot be compiled: {str(error) or type(error).__name__}"
            raise TemplateError(what, try_next=TRY_NEXT) from error


def _template_error(error: BaseException, template: Any) -> TemplateError:
    from aipc.chat.bounded_jinja import RaisedByTemplateError
    from aipc.chat.limits import LimitReachedError

    where = f"line {_line(error, template)} of the chat template"
    if isinstance(error, RaisedByTemplateError):
        return TemplateError(f"the chat template refuses the messages: {error}", try_next="other messages, or --raw")
    if isinstance(error, LimitReachedError):
        return TemplateError(f"{where} went past its limits: {error}", try_next=TRY_NEXT)
    return TemplateError(f"{where} failed: {type(error).__name__}: {error}", try_next=TRY_NEXT)


def _line(error: BaseException, template: Any) -> int | str:
    """The last line of the template that was at work."""
    from aipc.chat.bounded_compiler import TEMPLATE_FILENAME

    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == TEMPLATE_FILENAME]
    return int(template.get_corresponding_lineno(lines[-1])) if lines else "?"


def _characters(value: object) -> int:
    """Characters in all strings of `value`, however deep."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_characters(key) + _characters(item) for key, item in value.items())
    return sum(map(_characters, value)) if isinstance(value, (list, tuple)) else 0
