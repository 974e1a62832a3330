"""What the text says, and what it must not hold."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from random import Random

from aipc.chat.template import ChatTemplate
from aipc.cli import VERBS
from aipc.cli.parser import Parser
from guide.corpus import Corpus
from guide.dialogues import Library
from guide.documents import Document, Message
from guide.grammar import Words, expand, normalised
from guide.held_out import read_held_out
from guide.held_out.trained import trained_wordings
from guide.shape import Shape
from guide.tokenizer import CHAT_TEMPLATE, CONTEXT_TOKENS, VOCABULARY_SIZE
from guide.wording import Synonyms, hurried

PLACEHOLDERS = {"COMMAND": "run", "NAME": "phi3", "N": "8", "K": "8", "T": "0.5", "P": "0.5", "R": "0.5", "S": "1"}


def spans(library: Library) -> Iterator[str]:
    """All that stands in backticks in the answers, from several expansions of each."""
    words = Words(library.words, Random(0))
    for section in library.sections:
        for line in section.answers + section.additions:
            for text in {expand(line, words) for _ in range(12)}:
                yield from re.findall(r"`([^`]*)`", text)


def parser_of(verb: str) -> Parser:
    parser = Parser(prog=f"aipc {verb}")
    importlib.import_module(f"aipc.cli.{verb}").add_arguments(parser)
    parser.add_argument("--debug", action="store_true")
    return parser


def test_the_same_seed_writes_the_same_documents() -> None:
    assert list(islice(Corpus(5), 60)) == list(islice(Corpus(5), 60))
    assert list(islice(Corpus(5), 60)) != list(islice(Corpus(6), 60))


def test_no_held_out_question_is_a_wording_of_the_text(library: Library) -> None:
    assert list(trained_wordings(library, [question.text for question in read_held_out()])) == []


def test_a_wording_of_the_text_is_found_behind_courtesies(library: Library) -> None:
    known = ["Hi, what is an NPU? Thanks!", "HOW DO I LEAVE THE CHAT", "Who was Albert Einstein?"]
    assert {text for text, _ in trained_wordings(library, known)} == set(known)


def test_a_document_with_a_held_out_question_is_left_out() -> None:
    corpus = Corpus(1)
    asked = [m.content for d in islice(Corpus(1), 50) for m in d.messages if m.role == "user"]
    corpus._held_out.add(normalised(asked[-1]))
    written = [m.content for d in islice(corpus, 50) for m in d.messages if m.role == "user"]
    assert asked[0] in written
    assert asked[-1] not in written


def test_held_out_questions_are_many_and_all_different() -> None:
    questions = read_held_out()
    asked = {(question.earlier, normalised(question.text)) for question in questions}
    assert len(asked) == len(questions) >= 150


def test_a_refusal_is_no_answer_where_an_answer_is_known() -> None:
    question = next(question for question in read_held_out() if question.topic == "quantisation")
    assert not question.is_answered_by("I do not know what quantisation is: I am a very small model with few bits.")
    assert question.is_answered_by("Quantisation stores the weights with fewer bits, so the model becomes smaller.")
    assert not question.is_answered_by("")


def test_every_conversation_renders_as_the_chat_template_does(documents: list[Document]) -> None:
    template = ChatTemplate(CHAT_TEMPLATE, {"eos_token": "<|endoftext|>"})
    for document in documents[:300]:
        if document.messages:
            messages = [{"role": message.role, "content": message.content} for message in document.messages]
            assert template.render(messages, add_generation_prompt=False) == document.rendered()


def test_user_and_assistant_take_turns_and_the_assistant_has_the_last_word(documents: list[Document]) -> None:
    for document in documents:
        roles = [message.role for message in document.messages if message.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message.content.strip() for message in document.messages)


def test_no_trace_of_the_grammar_is_left_in_the_documents(documents: list[Document]) -> None:
    for document in documents:
        text = document.text + "".join(message.content for message in document.messages)
        assert not re.search(r"[{}]|\$\w|\(n\)|\*|@(?!main|[ .,])| {2}", text.replace(" * ", "")), text


def test_every_command_in_an_answer_is_one_that_aipc_takes(library: Library) -> None:
    commands = {span for span in spans(library) if "aipc" in span.split()}
    assert len(commands) > 40
    for command in commands:
        _parse(command)


def _parse(command: str) -> None:
    words = shlex.split(re.sub(r".*\| (?=aipc)", "", command).partition(" > ")[0])
    words = [PLACEHOLDERS.get(word, word) for word in words[words.index("aipc") + 1 :]]
    if words in (["--help"], ["--version"]) or command.startswith("pip "):
        return
    assert words[0] in VERBS, command
    if len(words) > 1 and "--help" not in words:  # a verb alone is only named
        parser_of(words[0]).parse_words(words[1:])


def test_every_flag_in_the_text_exists(library: Library) -> None:
    known = {flag for verb in VERBS for flag in parser_of(verb)._option_string_actions} | {"--version", "--help"}
    lines = [line for section in library.sections for line in section.asks + section.answers + section.additions]
    flags = {flag for line in lines for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line)}
    assert flags - known <= {"--force-reinstall", "--upgrade"}
    assert len(flags) > 20


def test_the_list_of_commands_is_complete(library: Library) -> None:
    section = next(section for section in library.sections if section.name == "commands-list")
    for line in section.answers:
        assert all(verb in line for verb in VERBS)
        assert "five" in line
        assert len(VERBS) == 5


def test_what_it_says_of_its_own_size_is_true(library: Library) -> None:
    shape = Shape()
    assert round(shape.parameters / 1e6) == 6
    assert round(shape.parameters * 2 / 1e6) == 12
    assert round(3.8e9 / shape.parameters, -2) == 600
    assert CONTEXT_TOKENS == shape.max_position_embeddings == 2048
    said = next(section for section in library.sections if section.name == "phi3-self").answers[-1]
    for figure in (shape.num_hidden_layers, shape.hidden_size, shape.num_attention_heads, VOCABULARY_SIZE):
        assert str(figure) in said


def test_the_dimensions_are_multiples_of_128() -> None:
    shape = Shape()
    assert not any(size % 128 for size in (shape.vocab_size, shape.hidden_size, shape.intermediate_size))


def test_messages_are_never_longer_than_a_context(documents: list[Document]) -> None:
    longest = max(len(document.rendered()) for document in documents)
    assert 6000 < longest < 4 * CONTEXT_TOKENS * 1.2


def test_a_name_told_is_a_name_remembered(documents: list[Document]) -> None:
    remembered = [document.messages for document in documents if document.kind == "tasks/name"]
    assert len(remembered) > 20
    for messages in remembered:
        name = messages[-1].content.rstrip(".").split()[-1]
        assert name in messages[0].content


def test_copies_are_exact(documents: list[Document]) -> None:
    for document in documents:
        if document.kind in ("tasks/copy", "tasks/first", "tasks/last", "long/copy"):
            request, answer = (message.content for message in document.messages)
            assert answer in request


def test_messages_have_the_roles_of_the_template(documents: list[Document]) -> None:
    assert {message.role for document in documents for message in document.messages} == {"system", "user", "assistant"}
    assert Message("user", "x").role == "user"


def test_other_words_are_of_the_same_line_and_commands_and_quotations_keep_theirs() -> None:
    synonyms = Synonyms(["show, display", "model, network"])
    reworded = {synonyms.reworded("Show the model `show model`", Random(seed), share=0.5) for seed in range(50)}
    assert reworded == {f"{one} the {two} `show model`" for one in ("Show", "Display") for two in ("model", "network")}
    assert synonyms.reworded("showing models", Random(1), share=1.0) == "showing models"


def test_a_hurried_question_keeps_what_matters() -> None:
    hurried_ones = {hurried("How do I run a model on the NPU?", Random(seed)) for seed in range(50)}
    assert len(hurried_ones) > 3
    assert all(all(word in one for word in ("How", "run", "model", "NPU?")) for one in hurried_ones)
