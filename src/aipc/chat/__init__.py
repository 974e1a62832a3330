"""A conversation as token ids: the template's control tokens, and between them text that is only text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aipc.chat.template import ChatTemplate
from aipc.errors import EmptyPromptError, TemplateError, UsageError
from aipc.tokenizer import Tokenizer

# Templates write `'<|' + message['role'] + '|>'`: any other role could spell a control token.
ROLES = ("system", "user", "assistant", "tool", "developer")
PRIVATE_USE_AREA = range(0xE000, 0xF900)


@dataclass(frozen=True)
class Message:
    """`role` is one of `ROLES`. Raises `UsageError` for another one."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UsageError("a message's role", expected=f"one of {', '.join(ROLES)}", found=repr(self.role))


class Chat:
    """A checkpoint's tokenizer and chat template together. Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> None:
        self.tokenizer = tokenizer
        self.template = template

    @classmethod
    def load(cls, model_dir: Path) -> Chat:
        """Raises what `Tokenizer.load` raises. The template is compiled when it is used, or by `prepare`."""
        tokenizer = Tokenizer.load(model_dir)
        config = tokenizer.config
        source = config.chat_template
        return cls(tokenizer, ChatTemplate(source, config.special_tokens) if source is not None else None)

    def prepare(self) -> None:
        """Compile the template now, which takes 20 ms. Raises the `TemplateError` that the first use would."""
        if self.template is not None:
            self.template.prepare()

    @property
    def has_template(self) -> bool:
        """False for a model that was not trained on conversations: it is given the prompt as it is."""
        return self.template is not None

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as one string, to be looked at. Raises as `prompt_ids` does."""
        if self.template is None:
            raise TemplateError("the model has no chat template", try_next="give it a prompt to continue, as one text")
        if not messages:
            raise EmptyPromptError("there is no message to answer")
        items = [{"role": message.role, "content": message.content} for message in messages]
        return self.template.render(items, add_generation_prompt=add_generation_prompt)

    def prompt_ids(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """The token ids of the conversation, in which only the template makes control tokens.

        What a message spells like one (`<|end|>`) is text. In an answer, which the model wrote, added tokens that
        are not special (`</think>`, `<|tool_call|>`) are what they were. Raises `TemplateError` from the template
        or when there is none, and `EmptyPromptError` without messages.
        """
        marker = self._marker(messages)
        marked = [Message(message.role, self._marked(message, marker)) for message in messages]
        rendered = self.render(marked, add_generation_prompt=add_generation_prompt)
        if marked == list(messages):
            return self.tokenizer.encode(rendered, special_tokens=False)
        return self.ids_between_marks(rendered, marker)

    def ids_between_marks(self, rendered: str, marker: str) -> list[int]:
        """The ids of `rendered`: its control tokens, and as plain text what is between them without `marker`."""
        ids: list[int] = []
        begins_text = True
        for piece in self.tokenizer.pieces(rendered):
            if isinstance(piece, int):
                ids.append(piece)
            elif text := piece.replace(marker, ""):
                ids += self.tokenizer.encode_plain(text, begins_text=begins_text)
            begins_text = False
        return ids

    def _marker(self, messages: Sequence[Message]) -> str:
        """A character that is in no message and not in the template."""
        source = self.template.source if self.template else ""
        used = set(source).union(*(message.content for message in messages))
        return next(character for code in PRIVATE_USE_AREA if (character := chr(code)) not in used)

    def _marked(self, message: Message, marker: str) -> str:
        """The content with `marker` behind the first character of whatever reads like a control token.

        So it is none while the template is rendered and split, and the template sees the text nearly as it is.
        """
        stops = self.tokenizer.stop_token_ids
        spelled = [
            token.content
            for token in self.tokenizer.control_tokens
            if message.role != "assistant" or token.special or token.id in stops
        ]
        if not any(content in message.content for content in spelled):
            return message.content
        # A lookahead, as control tokens can overlap.
        pattern = "|".join(f"{re.escape(content[0])}(?={re.escape(content[1:])})" for content in spelled)
        return re.sub(pattern, lambda match: match[0] + marker, message.content)
