"""The tokenizer, the chat template and the OpenVINO tokenizer against transformers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizer import Kind, write_tokenizer

from aipc.chat import Chat, Message
from aipc.graph.openvino.tokenizer import write_openvino_tokenizer

pytestmark = pytest.mark.peers
KINDS: tuple[Kind, ...] = ("llama", "bytelevel")
FRAGMENTS = ["<|user|>", "<|end|>", "</s>", "<s>", "  ", "\n", "Hi", "你好", "😀", "e\u0301", "123", "don't", "{}"]
TEXT = st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join)
ROLES = st.sampled_from(["system", "user", "assistant"])
# A control token that somebody types is text to aipc and a control token to transformers; Hypothesis draws it at times,
# as it is among this repository's constants.
TYPED = st.text(max_size=20).filter(lambda text: "<" not in text)
MESSAGES = st.lists(st.builds(Message, ROLES, TYPED), min_size=1, max_size=4)


def _checkpoint(directory: Path, kind: Kind) -> Path:
    write_tokenizer(directory, kind=kind)
    # With it transformers takes tokenizer.json as it is, and does not build a Llama tokenizer of its own.
    config = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: _checkpoint(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(scope="module")
def theirs(directories: dict[str, Path]):
    from transformers import AutoTokenizer

    return {kind: AutoTokenizer.from_pretrained(directory) for kind, directory in directories.items()}


@pytest.fixture(scope="module")
def ours(directories: dict[str, Path]) -> dict[str, Chat]:
    return {kind: Chat.load(directory) for kind, directory in directories.items()}


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.one_of(TEXT, st.text(max_size=30)))
def test_ids_and_text_equal_those_of_transformers(ours, theirs, kind, text):
    tokenizer = ours[kind].tokenizer
    ids = tokenizer.encode(text)
    assert ids == theirs[kind](text)["input_ids"]
    assert tokenizer.decode(ids) == theirs[kind].decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
@given(messages=MESSAGES, prompt=st.booleans())
def test_a_conversation_equals_that_of_transformers(ours, theirs, kind, messages, prompt):
    history = [{"role": message.role, "content": message.content} for message in messages]
    rendered = theirs[kind].apply_chat_template(history, tokenize=False, add_generation_prompt=prompt)
    assert ours[kind].render(messages, add_generation_prompt=prompt) == rendered
    ids = theirs[kind].apply_chat_template(history, add_generation_prompt=prompt, return_dict=False)
    assert ours[kind].prompt_ids(messages, add_generation_prompt=prompt) == ids


@pytest.fixture(scope="module", params=["plain", "bos"])
def openvino_directories(request, tmp_path_factory: pytest.TempPathFactory):
    """For each kind: what aipc writes, and what openvino_tokenizers makes with transformers."""
    import openvino
    from openvino_tokenizers import convert_tokenizer
    from transformers import AutoTokenizer

    made = {}
    for kind in KINDS:
        source = _checkpoint(tmp_path_factory.mktemp(kind), kind)
        if request.param == "bos":
            _add_beginning(source / "tokenizer.json")
        ours_dir, theirs_dir = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
        write_openvino_tokenizer(source, ours_dir)
        tokenizer = AutoTokenizer.from_pretrained(source)
        tokenizer.padding_side = tokenizer.truncation_side = "left"  # as optimum-intel sets it
        names = ("openvino_tokenizer.xml", "openvino_detokenizer.xml")
        for name, model in zip(names, convert_tokenizer(tokenizer, with_detokenizer=True), strict=True):
            openvino.save_model(model, theirs_dir / name)
        made[kind] = (ours_dir, theirs_dir)
    return made


def _add_beginning(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    token = next(token for token in document["added_tokens"] if token["content"] in ("<s>", "<|endoftext|>"))
    name = token["content"]
    first = [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    second = [{"SpecialToken": {"id": name, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": first,
        "pair": first + second,
        "special_tokens": {name: {"id": name, "ids": [token["id"]], "tokens": [name]}},
    }
    path.write_text(json.dumps(document), encoding="utf-8")


def _comparable(xml: str) -> str:
    """Without the numbers in names, and without what records who converted with which packages."""
    xml = re.sub(r"\b([A-Z]\w*?)_\d+\b", r"\1", xml)
    records = r"original_tokenizer_class|\w+_version"
    return re.sub(rf"\s*<({records}) value=.*/>", "", xml)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["openvino_tokenizer", "openvino_detokenizer"])
def test_the_openvino_tokenizer_is_the_one_made_with_transformers(openvino_directories, kind, name):
    ours_dir, theirs_dir = openvino_directories[kind]
    assert (ours_dir / f"{name}.bin").read_bytes() == (theirs_dir / f"{name}.bin").read_bytes()
    our_xml, their_xml = ((folder / f"{name}.xml").read_text(encoding="utf-8") for folder in (ours_dir, theirs_dir))
    assert _comparable(our_xml) == _comparable(their_xml)


@pytest.mark.parametrize("kind", KINDS)
def test_openvino_genai_cannot_tell_them_apart(openvino_directories, kind):
    import openvino_genai

    first, second = (openvino_genai.Tokenizer(str(directory)) for directory in openvino_directories[kind])
    for text in [*FRAGMENTS, " ".join(FRAGMENTS), "".join(FRAGMENTS)]:
        ids = np.asarray(first.encode(text).input_ids.data).ravel().tolist()
        assert ids == np.asarray(second.encode(text).input_ids.data).ravel().tolist()
        assert first.decode(ids) == second.decode(ids)
    history = [{"role": "user", "content": "Hi"}]
    templates = [one.apply_chat_template(history, add_generation_prompt=True) for one in (first, second)]
    assert templates[0] == templates[1]
    assert first.get_eos_token_id() == second.get_eos_token_id()
    assert first.get_bos_token_id() == second.get_bos_token_id()
