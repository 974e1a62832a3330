"""Token ids and the small files beside tokenizer.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_tokenizer import CONTROL_TOKENS, Kind, write_tokenizer
from tokenizers import Tokenizer as LibraryTokenizer

from aipc.errors import CheckpointError, ConfigError
from aipc.tokenizer import Tokenizer
from aipc.tokenizer.config import TokenizerConfig
from aipc.tokenizer.library import library_errors

KINDS: tuple[Kind, ...] = ("llama", "bytelevel")
# Text with control tokens, their fragments, and white space around them.
FRAGMENTS = st.sampled_from(
    [*CONTROL_TOKENS, "</s>", "<s>", "<|", "end|>", " ", "\n", "\x1c", "\u3000", "Hi", "你", "😀"]
)
TANGLED = st.lists(FRAGMENTS, max_size=10).map("".join)


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, directory in made.items():
        write_tokenizer(directory, kind=kind)
    # What transformers 5 writes for Llama: a space before the first word of a text, and only there.
    first = tmp_path_factory.mktemp("first")
    shutil.copytree(made["llama"], first, dirs_exist_ok=True)
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    _change(first / "tokenizer.json", normalizer=None, pre_tokenizer=metaspace)
    return made | {"first": first}


@pytest.fixture(scope="module")
def tokenizers(directories: dict[str, Path]) -> dict[str, Tokenizer]:
    return {name: Tokenizer.load(directory) for name, directory in directories.items()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path / "model")
    return tmp_path / "model"


def _change(path: Path, **keys: Any) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(document | keys), encoding="utf-8")


def _library(directory: Path) -> LibraryTokenizer:
    return LibraryTokenizer.from_file(str(directory / "tokenizer.json"))


@pytest.mark.parametrize("name", [*KINDS, "first"])
@given(text=TANGLED)
def test_pieces_and_plain_text_between_them_are_what_the_library_makes_of_the_whole(
    directories, tokenizers, name, text
):
    tokenizer = tokenizers[name]
    ids: list[int] = []
    for index, piece in enumerate(tokenizer.pieces(text)):
        ids += [piece] if isinstance(piece, int) else tokenizer.encode_plain(piece, begins_text=index == 0)
    assert ids == _library(directories[name]).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", [*KINDS, "first"])
@given(text=st.one_of(TANGLED, st.text(max_size=30)))
def test_plain_text_has_no_control_tokens_and_comes_back(tokenizers, name, text):
    # Spellings that these tokenizers cannot tell apart: "▁" is their space, and the first one may be left out.
    assume("▁" not in text and not (name == "first" and text.startswith(" ")))
    tokenizer = tokenizers[name]
    ids = tokenizer.encode_plain(text)
    assert not {token.id for token in tokenizer.control_tokens} & set(ids)
    assert tokenizer.decode(ids) == text


def test_a_run_of_spaces_that_is_an_added_token_stays_one_in_plain_text(directory):
    document = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    # Behind the control tokens, so that its id is not the one it would get without them.
    document["added_tokens"].append({"id": 512, "content": "    "} | flags)
    (directory / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    tokenizer = Tokenizer.load(directory)
    assert 512 in tokenizer.encode_plain("a    <|end|>")
    assert tokenizer.encode_plain("a    b") == tokenizer.encode("a    b")


def test_ids_that_end_an_answer_come_from_every_file_and_from_the_turn_token(directory):
    ids = write_tokenizer(directory)
    (directory / "generation_config.json").unlink()
    assert Tokenizer.load(directory).stop_token_ids == {ids["<|endoftext|>"], ids["<|end|>"]}
    (directory / "config.json").write_text('{"eos_token_id": [7, 99999]}', encoding="utf-8")
    assert Tokenizer.load(directory).stop_token_ids == {ids["<|endoftext|>"], ids["<|end|>"], 7}


def test_a_text_begins_with_what_tokenizer_json_adds_and_not_with_what_its_config_says(directory):
    start = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
    processor = {"type": "TemplateProcessing", "single": start, "pair": start, "special_tokens": tokens}
    _change(directory / "tokenizer.json", post_processor=processor)
    _change(directory / "tokenizer_config.json", add_bos_token=False)
    tokenizer = Tokenizer.load(directory)
    assert tokenizer.encode("Hi") == [1, *tokenizer.encode("Hi", special_tokens=False)]


def test_padding_and_truncation_in_tokenizer_json_do_not_touch_a_prompt(directory):
    library = _library(directory)
    expected = library.encode("one two three four").ids
    library.enable_truncation(2)
    library.enable_padding(length=50)
    library.save(str(directory / "tokenizer.json"))
    assert Tokenizer.load(directory).encode("one two three four") == expected


@pytest.mark.parametrize("kind", KINDS)
@given(ids=st.lists(st.integers(0, 520), max_size=20))
def test_decoding_at_once_equals_decoding_token_by_token(tokenizers, kind, ids):
    text = tokenizers[kind].incremental()
    assert "".join([*map(text.push, ids), text.finish()]) == tokenizers[kind].decode(ids)


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        Tokenizer.load(tmp_path)


def test_a_sentencepiece_file_alone_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e")
    with pytest.raises(CheckpointError, match=r"SentencePiece(.|\n)*save_pretrained"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {"type": "BPE"}}'])
def test_a_malformed_tokenizer_json_is_named(directory, content):
    (directory / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.load(directory)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("content", ["{", "[]", "\ud800", '"text"'])
def test_a_malformed_small_file_is_named(directory, name, content):
    (directory / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        Tokenizer.load(directory)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("generation_config.json", "eos_token_id", "2"),
        ("generation_config.json", "eos_token_id", [1, None]),
        ("generation_config.json", "bos_token_id", -1),
        ("generation_config.json", "eos_token_id", True),
        ("tokenizer_config.json", "eos_token", 5),
        ("tokenizer_config.json", "model_max_length", "long"),
        ("tokenizer_config.json", "chat_template", 5),
        ("tokenizer_config.json", "chat_template", [{"name": "default"}]),
        ("tokenizer_config.json", "chat_template", [{"name": "rag", "template": ""}]),
    ],
)
def test_a_value_of_a_wrong_type_is_named_with_its_file_and_key(directory, name, key, value):
    _change(directory / name, **{key: value})
    with pytest.raises(ConfigError) as caught:
        Tokenizer.load(directory)
    assert name in str(caught.value)
    assert key in str(caught.value)


def test_an_end_of_text_that_no_file_places_in_the_vocabulary_is_refused(tmp_path):
    write_tokenizer(tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    document["added_tokens"] = document["added_tokens"][:3]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    _change(tmp_path / "generation_config.json", eos_token_id=512)
    with pytest.raises(ConfigError, match="eos_token_id"):
        Tokenizer.load(tmp_path)


def test_the_template_is_found_in_each_place_and_its_own_file_wins(directory):
    _change(
        directory / "tokenizer_config.json",
        chat_template=[{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}],
    )
    assert TokenizerConfig.read(directory).chat_template == "D"
    (directory / "chat_template.json").write_text('{"chat_template": "J"}', encoding="utf-8")
    assert TokenizerConfig.read(directory).chat_template == "J"
    (directory / "chat_template.jinja").write_text("grüße", encoding="utf-8")
    assert TokenizerConfig.read(directory).chat_template == "grüße"


def test_special_tokens_may_be_objects_and_missing_files_are_no_error(tmp_path):
    assert TokenizerConfig.read(tmp_path).special_tokens == {}
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "</s>"}, "pad_token": null}', "utf-8")
    config = TokenizerConfig.read(tmp_path)
    assert config.special_tokens == {"eos_token": "</s>"}
    assert config.max_tokens is None


def _without_unknown(document: dict[str, Any]) -> None:
    document["model"] = {"type": "WordLevel", "vocab": {"Hi": 0}, "unk_token": "[UNK]"}
    document |= {"normalizer": None, "decoder": None, "added_tokens": []}


@pytest.mark.parametrize("call", ["encode", "encode_plain", "incremental"])
def test_a_text_that_the_tokenizer_cannot_spell_is_an_error_of_the_checkpoint(directory, call):
    path = directory / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    _without_unknown(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    (directory / "generation_config.json").unlink()
    tokenizer = Tokenizer.load(directory)
    with pytest.raises(CheckpointError, match=r"(?s)tokenizer\.json cannot encode.*\ntry: "):
        tokenizer.incremental() if call == "incremental" else getattr(tokenizer, call)("nothing known")


def test_a_decoder_that_fails_is_an_error_of_the_checkpoint(tokenizers):
    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(library, name)

        def decode(self, *values: Any, **options: Any) -> str:
            raise Exception("the library's own")

    library = _library(tokenizers["llama"]._path.parent)
    tokenizer = Tokenizer(Failing(), tokenizers["llama"].config, path=Path("here/tokenizer.json"))
    with pytest.raises(CheckpointError, match="cannot spell an answer: found the library's own"):
        tokenizer.decode([5])
    with pytest.raises(CheckpointError, match="cannot spell an answer: found the library's own"):
        tokenizer.incremental().push(300)


def test_a_panic_of_the_library_is_an_error_of_the_checkpoint_and_an_interruption_stays_one():
    class PanicException(BaseException):
        pass

    with (
        pytest.raises(CheckpointError, match="cannot do it: found index out of bounds"),
        library_errors("cannot do it"),
    ):
        raise PanicException("index out of bounds")
    with pytest.raises(KeyboardInterrupt), library_errors("cannot do it"):
        raise KeyboardInterrupt
