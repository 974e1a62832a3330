"""The OpenVINO tokenizer, against the `tokenizers` library and what openvino_genai makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_tokenizer import Kind, write_tokenizer
from tokenizers import Tokenizer as LibraryTokenizer

from aipc.chat import Chat, Message
from aipc.errors import CheckpointError
from aipc.graph.openvino.tokenizer import write_openvino_tokenizer
from aipc.tokenizer.bpe_vocabulary import read_bpe_vocabulary

KINDS: tuple[Kind, ...] = ("llama", "bytelevel")
TEXTS = [
    "Hello world",
    " a leading space,  two  inside, one behind ",
    "def add(a, b):\n    return a + b\n",
    "你好世界 こんにちは привет",
    "😀 👩‍👩‍👧 é e\u0301",
    "<|user|>\nHi<|end|>\n<|assistant|>\n",
    "a</s> b<s>c",
    "12345 + 6 = don't",
]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, directory in made.items():
        write_tokenizer(directory, kind=kind)
        write_openvino_tokenizer(directory, directory)
    return made


def _genai(directory: Path):
    import openvino_genai

    return openvino_genai.Tokenizer(str(directory))


def _library(directory: Path) -> LibraryTokenizer:
    return LibraryTokenizer.from_file(str(directory / "tokenizer.json"))


@pytest.mark.parametrize("kind", KINDS)
def test_openvino_encodes_and_decodes_as_the_library_does(directories, kind):
    genai, library = _genai(directories[kind]), _library(directories[kind])
    for text in TEXTS:
        expected = library.encode(text).ids
        assert np.asarray(genai.encode(text).input_ids.data).ravel().tolist() == expected
        assert genai.decode(expected, skip_special_tokens=True) == library.decode(expected)
        assert genai.decode(expected, skip_special_tokens=False) == library.decode(expected, skip_special_tokens=False)


@pytest.mark.parametrize("kind", KINDS)
def test_openvino_genai_finds_the_template_and_the_special_tokens(directories, kind):
    genai, chat = _genai(directories[kind]), Chat.load(directories[kind])
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Yes?"),
        Message("user", "Go"),
    ]
    history = [{"role": message.role, "content": message.content} for message in messages]
    assert genai.apply_chat_template(history, add_generation_prompt=True) == chat.render(messages)
    assert genai.get_bos_token_id() == chat.tokenizer.bos_id
    assert genai.get_eos_token_id() == chat.tokenizer.id_of("<|endoftext|>")
    assert genai.get_pad_token_id() == chat.tokenizer.id_of("<|endoftext|>")


def test_a_beginning_that_tokenizer_json_adds_is_added(tmp_path):
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    start = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
    processor = {"type": "TemplateProcessing", "single": start, "pair": start, "special_tokens": tokens}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"post_processor": processor}), "utf-8")
    write_openvino_tokenizer(tmp_path, tmp_path)
    ids = np.asarray(_genai(tmp_path).encode("Hi").input_ids.data).ravel().tolist()
    assert ids == _library(tmp_path).encode("Hi").ids
    assert ids[0] == 1


def test_a_tokenizer_json_alone_is_enough(tmp_path):
    write_tokenizer(tmp_path / "whole")
    (tmp_path / "tokenizer.json").write_bytes((tmp_path / "whole" / "tokenizer.json").read_bytes())
    write_openvino_tokenizer(tmp_path, tmp_path)
    ids = np.asarray(_genai(tmp_path).encode("Hi there").input_ids.data).ravel().tolist()
    assert ids == _library(tmp_path).encode("Hi there").ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_padded_on_the_left(directories, kind):
    mask = _genai(directories[kind]).encode(["a", "a longer text"]).attention_mask.data
    assert mask[0][0] == 0
    assert mask[0][-1] == 1


def test_nothing_is_left_of_the_stand_in_for_transformers(directories, tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from aipc.graph.openvino.tokenizer import write_openvino_tokenizer\n"
        "write_openvino_tokenizer(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print([name for name in sys.modules if 'transformers' in name or 'hf_parser' in name])\n"
    )
    command = [sys.executable, "-c", program, str(directories["llama"]), str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_cache_is_as_large_as_the_whole_vocabulary_asks_for(tmp_path):
    write_tokenizer(tmp_path, 120_064)
    write_openvino_tokenizer(tmp_path, tmp_path)
    tokens = len(read_bpe_vocabulary(tmp_path / "tokenizer.json")[0].tokens)
    assert f'cache_capacity="{tokens // 5}"' in (tmp_path / "openvino_tokenizer.xml").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_scanned_is_parsed_as_a_whole_with_the_same_result(directories, tmp_path):
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    # No writer escapes a letter in a key; to a JSON parser it is the same key.
    _written(path, json.dumps(document, ensure_ascii=False).replace('"vocab"', '"voc\\u0061b"'))
    assert read_bpe_vocabulary(path) is None
    write_openvino_tokenizer(tmp_path, tmp_path)
    for name in ("openvino_tokenizer.bin", "openvino_detokenizer.bin"):
        assert (tmp_path / name).read_bytes() == (directories["llama"] / name).read_bytes()


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"model": {}}', '{"model": {"type": "None"}, "added_tokens": []}']
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content):
    if content is not None:
        _written(tmp_path / "tokenizer.json", content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        write_openvino_tokenizer(tmp_path, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_vocabulary_of_32_000_takes_less_than_100_mb(tmp_path):
    write_tokenizer(tmp_path, 32_064)
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from aipc.graph.openvino.tokenizer import write_openvino_tokenizer\n"
        "write_openvino_tokenizer(Path(sys.argv[1]), Path(sys.argv[1]))\n"
        # A child's ru_maxrss begins with its parent's, VmHWM with its own program.
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    peak_kib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak_kib < 100 * 1024
