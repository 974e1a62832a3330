"""Choices, words and plurals."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guide.grammar import Words, expand, normalised, parse, pattern, plural
from guide.wording import first_sentence, typed

LISTS = {"person": ["Anna:she:her:her"], "fruit": ["apple", "pear"], "thing": ["umbrella"]}


def words(seed: int = 0) -> Words:
    return Words(LISTS, Random(seed))


def test_a_choice_gives_each_of_its_parts() -> None:
    random = Random(0)
    found = {expand("{Hi|Hello{ there|}}!", Words({}, random)) for _ in range(99)}
    assert found == {"Hi!", "Hello!", "Hello there!"}


def test_a_bar_outside_braces_is_text() -> None:
    assert expand("`echo x | aipc run`", words()) == "`echo x | aipc run`"


@pytest.mark.parametrize("line", ["{a|b", "a}", "{a|{b}", "{a}}"])
def test_unmatched_braces_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="brace"):
        parse(line)


def test_a_word_stays_the_same_in_a_document_and_its_number_makes_another() -> None:
    text = expand("$fruit $fruit $fruit2 $Fruit", words())
    first, again, other, capital = text.split()
    assert first == again == capital.lower() != other


def test_pronouns_follow_the_person() -> None:
    assert expand("$They saw $person and $their dog", words()) == "She saw Anna and her dog"


def test_an_article_follows_the_sound() -> None:
    texts = [expand(f"a(n) {word}", words()) for word in ("$thing", "pear", "university", "hour-long")]
    assert texts[:3] == ["an umbrella", "a pear", "a university"]


@pytest.mark.parametrize(
    ("one", "many"), [("box", "boxes"), ("cherry", "cherries"), ("key", "keys"), ("wolf", "wolves")]
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


@given(st.integers())
def test_the_pattern_of_a_line_matches_whatever_it_expands_to(seed: int) -> None:
    line = "{What is|What's} a(n) {$thing|$fruit+|NPU{ exactly|}}, $person?"
    text = expand(line, Words(LISTS, Random(seed)))
    assert re.fullmatch(f" *{pattern(line, LISTS)} *", normalised(text))
    assert not re.fullmatch(f" *{pattern(line, LISTS)} *", normalised(text + " Really"))


def test_the_first_sentence_ends_outside_quotation_marks_and_commands() -> None:
    assert first_sentence('Type `aipc run "Hi. There"`. It answers.') == 'Type `aipc run "Hi. There"`.'
    assert first_sentence("Phi-3.5 is one. Good.") == "Phi-3.5 is one."
    assert first_sentence("你好！我是 Guide。") == "你好！"


@given(st.integers())
def test_slips_leave_commands_as_they_are(seed: int) -> None:
    text = typed("what does --group-size mean in `aipc convert`", Random(seed)).lower()
    assert "--group-size" in text
    assert "`aipc convert`" in text
