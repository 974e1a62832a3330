"""The guide's tokenizer, as `tokenizers` and aipc run it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipc.chat import Chat, Message
from aipc.config import ConfigFile
from aipc.graph.inventory import weights_used
from aipc.models import read_architecture
from guide.documents import Document
from guide.export import config_of
from guide.packing import ROW_TOKENS, USER_WEIGHT, batches, encode
from guide.shape import Shape
from guide.tokenizer import IDS, VOCABULARY_SIZE, read_tokenizer, write_tokenizer

ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


def test_the_vocabulary_has_the_size_of_the_network(tokenizer_dir: Path) -> None:
    tokenizer = read_tokenizer(tokenizer_dir)
    assert tokenizer.get_vocab_size(with_added_tokens=True) == VOCABULARY_SIZE == Shape().vocab_size
    assert sorted(tokenizer.get_vocab(with_added_tokens=True).values()) == list(range(VOCABULARY_SIZE))


@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT)
def test_every_text_comes_back(tokenizer_dir: Path, text: str) -> None:
    chat = Chat.load(tokenizer_dir)
    assert chat.tokenizer.decode(chat.tokenizer.encode_plain(text)) == text


def test_the_ids_of_training_are_the_ids_that_aipc_prompts_with(tokenizer_dir: Path, documents: list[Document]) -> None:
    chat, tokenizer = Chat.load(tokenizer_dir), read_tokenizer(tokenizer_dir)
    for document in documents[:200]:
        if document.messages:
            messages = [Message(message.role, message.content) for message in document.messages]
            prompt = chat.prompt_ids(messages[:-1])
            trained = tokenizer.encode(document.rendered(), add_special_tokens=False).ids
            assert trained[: len(prompt)] == prompt
            assert trained[-2:] == [IDS["<|end|>"], IDS["<|endoftext|>"]]


def test_both_ends_of_an_answer_stop_it(tokenizer_dir: Path) -> None:
    assert Chat.load(tokenizer_dir).tokenizer.stop_token_ids == {IDS["<|end|>"], IDS["<|endoftext|>"]}


def test_digits_and_punctuation_are_tokens_of_their_own(tokenizer_dir: Path) -> None:
    tokens = read_tokenizer(tokenizer_dir).encode("INT4, NPU? 2048").tokens
    assert [token for token in tokens if token.strip("▁") in "4,?2048" and token != "▁"] == ["4", ",", "?", *"2048"]


def test_training_twice_gives_the_same_files(tokenizer_dir: Path, documents: list[Document], tmp_path: Path) -> None:
    write_tokenizer(tmp_path, [message.content for document in documents for message in document.messages])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tokenizer_dir / name).read_bytes()


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fewer than"):
        write_tokenizer(tmp_path, ["only a few words"] * 9)


def test_only_what_the_model_writes_counts_in_full(tokenizer_dir: Path) -> None:
    from guide.documents import exchange

    tokenizer = read_tokenizer(tokenizer_dir)
    (encoded,) = encode([exchange("x", "What is an NPU?", "A processor.")], tokenizer)
    tokens = [tokenizer.id_to_token(index) for index in encoded.ids.tolist()]
    answer = tokens.index("<|assistant|>") + 1
    assert tokens[-2:] == ["<|end|>", "<|endoftext|>"]
    assert encoded.weights[answer:-1].tolist() == [1.0] * (len(tokens) - answer - 1)
    assert encoded.weights[1 : answer - 1].tolist() == pytest.approx([USER_WEIGHT] * (answer - 2))
    assert encoded.weights[[0, answer - 1, -1]].tolist() == [0.0, 0.0, 0.0]


def test_packing_loses_no_document_but_in_unfilled_batches(tokenizer_dir: Path, documents: list[Document]) -> None:
    encoded = encode(documents[:1500], read_tokenizer(tokenizer_dir))
    packed = batches(encoded, seed=3)
    assert {batch.ids.shape[1] for batch in packed} == set(ROW_TOKENS)
    wanted = sum(float(one.weights[1:].sum()) for one in encoded)
    assert 0.9 * wanted < sum(float(batch.weights.sum()) for batch in packed) <= wanted + 1
    for batch in packed:
        assert np.array_equal(batch.ids[:, 1:], batch.targets[:, :-1])


def test_packing_depends_on_the_seed_alone(tokenizer_dir: Path, documents: list[Document]) -> None:
    encoded = encode(documents[:300], read_tokenizer(tokenizer_dir))
    one, same, other = (batches(encoded, seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a.ids, b.ids) for a, b in zip(one, other, strict=True) if a.ids.shape == b.ids.shape)


def test_aipc_reads_the_configuration_as_a_network_of_the_size_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of(Shape())), encoding="utf-8")
    architecture = read_architecture(ConfigFile.load(tmp_path / "config.json"))
    assert sum(int(np.prod(use.shape)) for use in weights_used(architecture.describe)) == Shape().parameters
