"""What a caller gives a model to answer, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aipc.chat import Message
from aipc.errors import EmptyPromptError, UsageError

Prompt = str | Sequence[Message | Mapping[str, str]]

_MESSAGE = '{"role": "user", "content": "…"}'


def checked_messages(messages: Sequence[Message | Mapping[str, str]]) -> list[Message]:
    """A conversation as `Message`s.

    Raises `UsageError` for anything but messages and mappings with a `role` and a `content` of text, and
    `EmptyPromptError` when the last message is an empty one of the user, or when there is none.
    """
    if not isinstance(messages, Sequence):
        raise UsageError("the prompt", expected="a text or a list of messages", found=type(messages).__name__)
    checked = [_message(item, index) for index, item in enumerate(messages)]
    if not checked or (checked[-1].role == "user" and not checked[-1].content.strip()):
        raise EmptyPromptError("the conversation ends with nothing to answer", try_next=f"end it with {_MESSAGE}")
    return checked


def checked_text(text: str, what: str) -> str:
    """Raises `UsageError` for half a character, which an undecodable byte on a command line becomes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{what} is not Unicode text", expected="whole characters", found=ascii(text[error.start])
        ) from error
    return text


def checked_stops(stop: str | Sequence[str]) -> list[str]:
    """The texts to stop before. Raises `UsageError` for anything but a text or several."""
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, Sequence) or not all(isinstance(text, str) for text in stops):
        raise UsageError("stop", expected="a text or a list of texts", found=repr(stop))
    return list(stops)


def _message(item: Message | Mapping[str, str], index: int) -> Message:
    what = f"message {index}"
    if isinstance(item, Message):
        role, content = item.role, item.content
    elif isinstance(item, Mapping) and set(item) == {"role", "content"}:
        role, content = item["role"], item["content"]
    else:
        found = f"the keys {', '.join(map(str, item))}" if isinstance(item, Mapping) else type(item).__name__
        raise UsageError(what, expected=_MESSAGE, found=found)
    for name, value in (("role", role), ("content", content)):
        if not isinstance(value, str):
            raise UsageError(f"{what}, {name}", expected="a text", found=type(value).__name__)
    return Message(role, checked_text(content, f"{what}, content"))
