"""What the model is trained on: conversations, and plain texts."""

from __future__ import annotations

from dataclasses import dataclass

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Message:
    """`role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Document:
    """A conversation, or a plain `text` when it has no messages. `kind` names the part of the text it belongs to."""

    kind: str
    messages: tuple[Message, ...] = ()
    text: str = ""

    def rendered(self) -> str:
        """The whole document as one text: a conversation as Phi-3's chat template renders it."""
        turns = "".join(f"<|{message.role}|>\n{message.content}<|end|>\n" for message in self.messages)
        return (turns or self.text) + END_OF_TEXT


def exchange(kind: str, *contents: str, system: str | None = None) -> Document:
    """A conversation of the user's and the assistant's words in turn."""
    turns = [Message("user" if i % 2 == 0 else "assistant", content) for i, content in enumerate(contents)]
    return Document(kind, (*([Message("system", system)] if system else []), *turns))
