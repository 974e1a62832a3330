"""Text to token ids and back, as tokenizer.json says; run by the `tokenizers` library."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aipc.errors import ConfigError
from aipc.tokenizer.config import TokenizerConfig
from aipc.tokenizer.library import library_errors, read_library_tokenizer
from aipc.tokenizer.streaming import IncrementalText

# Tokens that end a turn though some checkpoints list only the end of the text in their files.
TURN_ENDS = ("<|end|>", "<|im_end|>")
REPLACEMENT_CHARACTER = "\ufffd"
# Unicode's White_Space, which the library strips; Python's str.strip() takes a few control characters more.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


@dataclass(frozen=True)
class ControlToken:
    """A token that a program writes and a person never means: `<|user|>`, `</s>`.

    `lstrip` and `rstrip`: the white space before or after it belongs to it.
    """

    id: int
    content: str
    lstrip: bool
    rstrip: bool
    special: bool


class Tokenizer:
    """A checkpoint's tokenizer. Safe to use from several threads."""

    def __init__(self, library: Any, config: TokenizerConfig, *, path: Path) -> None:
        """`path` is the file that messages name."""
        self._library = library
        self.config = config
        self._path = path
        self._added_ids = frozenset(library.get_added_tokens_decoder())

    @classmethod
    def load(cls, model_dir: Path) -> Tokenizer:
        """Read tokenizer.json and the small files beside it.

        Raises `CheckpointError` when tokenizer.json is missing or malformed, and `ConfigError` when the files name
        a token or an id that it does not have.
        """
        config = TokenizerConfig.read(model_dir)
        tokenizer = cls(read_library_tokenizer(model_dir), config, path=model_dir / "tokenizer.json")
        outside = [index for index in sorted(tokenizer.config.eos_ids) if index >= tokenizer.vocab_size]
        if outside and not tokenizer.stop_token_ids:
            raise ConfigError(
                f"{model_dir}: eos_token_id", expected=f"an id below {tokenizer.vocab_size}", found=outside
            )
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """Tokens in tokenizer.json, added ones included. A model's embedding may have more rows."""
        return int(self._library.get_vocab_size(with_added_tokens=True))

    @cached_property
    def bos_id(self) -> int | None:
        """The id of the token that begins a text, if there is one."""
        named = self.id_of(self.config.special_tokens.get("bos_token", ""))
        return self.config.bos_id if named is None else named

    @cached_property
    def stop_token_ids(self) -> frozenset[int]:
        """Every id after which an answer is over."""
        names = (self.config.special_tokens.get("eos_token", ""), *TURN_ENDS)
        named = {index for name in names if (index := self.id_of(name)) is not None}
        return frozenset(named) | {index for index in self.config.eos_ids if index < self.vocab_size}

    @cached_property
    def control_tokens(self) -> tuple[ControlToken, ...]:
        """Added tokens that are no ordinary words or runs of white space, longest first."""
        added = self._library.get_added_tokens_decoder().items()
        controls = [
            ControlToken(index, token.content, token.lstrip, token.rstrip, token.special)
            for index, token in added
            if len(token.content) > 1 and not token.content.isspace() and (token.special or not token.normalized)
        ]
        return tuple(sorted(controls, key=lambda token: (-len(token.content), token.content)))

    def id_of(self, token: str) -> int | None:
        """The id of the token spelled exactly so, or None."""
        index: int | None = self._library.token_to_id(token)
        return index

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """Token ids of `text`, in which control tokens are recognised.

        With `special_tokens`, what tokenizer.json asks for is added at the beginning and the end. Raises
        `CheckpointError` when tokenizer.json has no way to spell the text.
        """
        with self._encoding():
            ids: list[int] = self._library.encode(text, add_special_tokens=special_tokens).ids
        return ids

    def encode_plain(self, text: str, *, begins_text: bool = True) -> list[int]:
        """Token ids of `text` in which `<|user|>` and its like are ordinary characters. Nothing is added.

        `begins_text` is False for a piece that follows another one: some tokenizers treat the first word apart.
        Raises as `encode` does.
        """
        with self._encoding():
            twin = self._plain_twin if begins_text else self._plain_twin_inside
            encoding = twin.encode(text, add_special_tokens=False)
        if not len(twin.get_added_tokens_decoder()):
            return list(encoding.ids)
        first_added = self._library.get_vocab_size(with_added_tokens=False)
        return [
            index if index < first_added else self._library.token_to_id(token)
            for index, token in zip(encoding.ids, encoding.tokens, strict=True)
        ]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD.

        Equals the library's, but for one thing: where byte tokens follow one another and some are no UTF-8, the
        library gives up all of them, and here the whole characters among them are kept, as in streaming.
        """
        with library_errors(f"{self._path} cannot spell an answer"):
            text: str = self._library.decode(list(ids), skip_special_tokens=skip_special)
        if REPLACEMENT_CHARACTER not in text:
            return text
        incremental = self.incremental(skip_special=skip_special)
        return "".join([*map(incremental.push, ids), incremental.finish()])

    def incremental(self, *, skip_special: bool = True) -> IncrementalText:
        """A fresh `IncrementalText` for one answer. Both raise `CheckpointError` for a decoder that fails."""
        return IncrementalText(self._library, skip_special=skip_special)

    def _encoding(self) -> AbstractContextManager[None]:
        return library_errors(f"{self._path} cannot encode the text")

    @cached_property
    def _plain_twin(self) -> Any:
        """The same model without its control tokens; it shares the vocabulary's memory."""
        from tokenizers import Tokenizer as LibraryTokenizer

        twin = LibraryTokenizer(self._library.model)
        # Assigning None to a part raises, so only what is there is set.
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            if getattr(self._library, part) is not None:
                setattr(twin, part, getattr(self._library, part))
        controls = {token.id for token in self.control_tokens}
        added = self._library.get_added_tokens_decoder()
        twin.add_tokens([added[index] for index in sorted(added) if index not in controls])
        return twin

    @cached_property
    def _plain_twin_inside(self) -> Any:
        """The twin for pieces within a text: no space is put before the first word by a `first` Metaspace."""
        from tokenizers import Tokenizer as LibraryTokenizer
        from tokenizers import pre_tokenizers

        state = self._library.pre_tokenizer.__getstate__() if self._library.pre_tokenizer is not None else b""
        changed = re.sub(rb'("prepend_scheme":\s*)"first"', rb'\1"never"', state)
        if changed == state:
            return self._plain_twin
        twin = LibraryTokenizer.from_str(self._plain_twin.to_str())
        inside = pre_tokenizers.Sequence([])
        inside.__setstate__(changed)
        twin.pre_tokenizer = inside
        return twin

    def pieces(self, text: str) -> Iterator[str | int]:
        """Split `text` at control tokens: their ids, and the text between, with white space given to its token.

        Where two tokens begin at one place the longer one counts, as in the library.
        """
        position = 0
        for match in self._control_pattern.finditer(text):
            if match.start() < position:  # its beginning was white space that the token before took
                continue
            token = self._control_by_content[match[0]]
            before = text[position : match.start()]
            between = before.rstrip(WHITE_SPACE) if token.lstrip else before
            if between:
                yield between
            yield token.id
            position = match.end()
            if token.rstrip:
                position += len(text) - position - len(text[position:].lstrip(WHITE_SPACE))
        if text[position:]:
            yield text[position:]

    @cached_property
    def _control_by_content(self) -> dict[str, ControlToken]:
        return {token.content: token for token in self.control_tokens}

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        """Matches any control token, or nothing at all when there is none."""
        return re.compile("|".join(re.escape(token.content) for token in self.control_tokens) or r"(?!)")
