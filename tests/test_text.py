"""Tokens to text while they arrive."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizer import Kind, write_tokenizer
from tokenizers import Tokenizer as LibraryTokenizer

from aipc.errors import UsageError
from aipc.tokenizer.streaming import IncrementalText, StopStrings

VOCAB_SIZE = 512
IDS = st.lists(st.integers(0, VOCAB_SIZE + 7), max_size=24)  # and some that no token has


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LibraryTokenizer]:
    kinds: tuple[Kind, ...] = ("llama", "bytelevel")
    return {kind: _library(tmp_path_factory.mktemp(kind), kind) for kind in kinds}


def _library(directory: Path, kind: Kind) -> LibraryTokenizer:
    write_tokenizer(directory, VOCAB_SIZE, kind=kind)
    return LibraryTokenizer.from_file(str(directory / "tokenizer.json"))


def _pieces(library: LibraryTokenizer, ids: list[int], *, skip_special: bool = True) -> list[str]:
    text = IncrementalText(library, skip_special=skip_special)
    return [*map(text.push, ids), text.finish()]


@given(ids=IDS, skip_special=st.booleans())
def test_joined_pieces_of_a_byte_level_vocabulary_are_the_librarys_text(libraries, ids, skip_special):
    library = libraries["bytelevel"]
    expected = library.decode(ids, skip_special_tokens=skip_special)
    assert "".join(_pieces(library, ids, skip_special=skip_special)) == expected


@given(ids=IDS, skip_special=st.booleans())
def test_joined_pieces_with_byte_fallback_are_the_librarys_text_where_all_bytes_are_utf8(libraries, ids, skip_special):
    library = libraries["llama"]
    expected = library.decode(ids, skip_special_tokens=skip_special)
    if "\ufffd" not in expected:
        assert "".join(_pieces(library, ids, skip_special=skip_special)) == expected


@pytest.mark.parametrize("kind", ["llama", "bytelevel"])
@given(text=st.text(max_size=40))
def test_any_text_comes_back_from_its_tokens(libraries, kind, text):
    ids = libraries[kind].encode(text, add_special_tokens=False).ids
    assert "".join(_pieces(libraries[kind], ids)) == libraries[kind].decode(ids)


@pytest.mark.parametrize("kind", ["llama", "bytelevel"])
@given(text=st.text(alphabet="😀👩‍👩‍👧你好世界é ab", max_size=20))
def test_no_piece_shows_a_part_of_a_character(libraries, kind, text):
    ids = libraries[kind].encode(text, add_special_tokens=False).ids
    assert not any("\ufffd" in piece for piece in _pieces(libraries[kind], ids))


@pytest.mark.parametrize("kind", ["llama", "bytelevel"])
def test_a_character_is_shown_with_its_last_byte_and_not_later(libraries, kind):
    ids = libraries[kind].encode("😀😀", add_special_tokens=False).ids
    pieces = _pieces(libraries[kind], ids)
    assert pieces[-2].endswith("😀")
    assert pieces[-1] == ""


def test_whole_characters_survive_an_answer_that_is_cut_within_one(libraries):
    ids = libraries["llama"].encode("你好", add_special_tokens=False).ids
    assert "".join(_pieces(libraries["llama"], ids[:-1])) == "你\ufffd"


def test_the_cost_of_a_token_does_not_grow_with_the_text(libraries):
    class Counting:
        """A library tokenizer that counts the ids it is asked to decode."""

        def __init__(self, library: LibraryTokenizer) -> None:
            self._library, self.decoded = library, 0

        def __getattr__(self, name: str) -> object:
            return getattr(self._library, name)

        def decode(self, ids: list[int], **options: bool) -> str:
            self.decoded += len(ids)
            return self._library.decode(ids, **options)

    counting = Counting(libraries["llama"])
    text = IncrementalText(counting)
    for step in range(2000):
        text.push(step % VOCAB_SIZE)
    assert counting.decoded < 4 * VOCAB_SIZE


STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3)


def _cut(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Character by character: the text before the stop string that is complete first, and that stop string."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - len(max(found, key=len))], max(found, key=len)
    return text, None


@given(pieces=st.lists(st.text(alphabet="ab\n", max_size=5), max_size=8), stops=STOPS)
def test_stop_strings_end_the_text_however_it_is_cut_into_pieces(pieces, stops):
    stopper = StopStrings(stops)
    shown = "".join([*map(stopper.push, pieces), stopper.finish()])
    assert (shown, stopper.matched) == _cut("".join(pieces), stops)


@given(text=st.text(alphabet="ab\n", max_size=20), stops=STOPS)
def test_only_what_may_become_a_stop_string_is_held_back(text, stops):
    stopper = StopStrings(stops)
    shown = ""
    for end, character in enumerate(text, start=1):
        shown += stopper.push(character)
        if stopper.matched is None:
            held = text[len(shown) : end]
            assert not held or any(stop.startswith(held) for stop in stops)


def test_after_a_stop_string_nothing_more_is_shown():
    stopper = StopStrings(["\nUser:"])
    assert [stopper.push("Yes.\nUs"), stopper.push("er: and"), stopper.push(" more"), stopper.finish()] == [
        "Yes.",
        "",
        "",
        "",
    ]
    assert stopper.matched == "\nUser:"


def test_a_beginning_of_a_stop_string_is_shown_once_it_is_none():
    stopper = StopStrings(["<|end|>"])
    assert [stopper.push("a <|en"), stopper.push("try|>")] == ["a ", "<|entry|>"]


def test_an_empty_stop_string_is_refused():
    with pytest.raises(UsageError, match="stop string"):
        StopStrings(["a", ""])
