"""What a caller gives a model to answer, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aipc.chat import Chat, Message
from aipc.errors import EmptyPromptError, UsageError

Prompt = str | Sequence[Message | Mapping[str, str]]

_MESSAGE = '{"role": "user", "content": "…"}'


def prompt_ids(chat: Chat, prompt: Prompt, *, raw: bool = False) -> list[int]:
    """The token ids that a model is given. With `raw`, or without a chat template, a text is continued as it is.

    Raises `EmptyPromptError`, `UsageError` and `TemplateError`.
    """
    if not isinstance(prompt, str):
        if raw:
            raise UsageError("raw continues one text", expected="a string", found="a conversation")
        return chat.prompt_ids(checked_messages(prompt))
    if not prompt.strip():
        raise EmptyPromptError("the prompt is empty", try_next='aipc run "Can you introduce yourself?"')
    if raw or not chat.has_template:
        return chat.tokenizer.encode(checked_text(prompt, "the prompt"))
    return chat.prompt_ids([Message("user", checked_text(prompt, "the prompt"))])


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
    if not all(stops):
        raise UsageError("a stop string is empty", expected="one character or more")
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
