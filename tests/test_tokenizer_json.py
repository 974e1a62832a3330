"""tokenizer.json: malformed and hostile files, noticed before any work, and the vocabulary scanned in whole ones."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizer import write_tokenizer

from aipc.errors import CheckpointError
from aipc.graph.openvino.tokenizer import write_openvino_tokenizer
from aipc.tokenizer import Tokenizer
from aipc.tokenizer import config as tokenizer_config
from aipc.tokenizer.bpe_vocabulary import read_bpe_vocabulary
from aipc.tokenizer.tokenizer_json import check_tokenizer, read_tokenizer_json

TOKEN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path)
    return tmp_path


def change(directory: Path, edit: Any) -> None:
    path = directory / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    edit(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def refused(directory: Path, message: str) -> None:
    for read in (check_tokenizer, lambda given: write_openvino_tokenizer(given, given)):
        with pytest.raises(CheckpointError, match=message) as caught:
            read(directory)
        assert "tokenizer.json" in str(caught.value)
        assert "\ntry: " in str(caught.value)


@pytest.mark.parametrize("index", [70_000, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**30, 10**4000])
@pytest.mark.parametrize("where", ["vocab", "a token that is merged", "added_tokens"])
@pytest.mark.parametrize("scanned", [True, False])
def test_an_absurd_id_is_refused_before_memory_is_taken_for_all_below_it(directory, index, where, scanned):
    def edit(document):
        if where == "vocab":
            document["model"]["vocab"]["far"] = index
        elif where == "a token that is merged":
            document["model"]["vocab"]["e"] = index
        else:
            document["added_tokens"].append({"id": index, "content": "far", **TOKEN})

    change(directory, edit)
    if not scanned:
        path = directory / "tokenizer.json"
        path.write_text(path.read_text(encoding="utf-8").replace('"vocab"', '"voc\\u0061b"'), encoding="utf-8")
    begun = time.monotonic()
    refused(
        directory, rf"id {str(index)[:20]}; expected ids below 6\d,\d\d\d|id {str(index)[:20]}; expected ids below 6"
    )
    assert time.monotonic() - begun < 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_absurd_id_takes_no_memory(directory):
    change(directory, lambda document: document["model"]["vocab"].update(far=2**31 - 1))
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from aipc.tokenizer.tokenizer_json import check_tokenizer\n"
        "try:\n    check_tokenizer(Path(sys.argv[1]))\nexcept Exception:\n    pass\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    command = [sys.executable, "-c", program, str(directory)]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) < 100 * 1024


def test_the_gaps_of_real_vocabularies_are_kept(directory):
    def leave_out_ids(document):
        document["model"]["vocab"]["<|far|>"] = 546
        document["added_tokens"].append({"id": 546, "content": "<|far|>", **TOKEN})

    change(directory, leave_out_ids)
    check_tokenizer(directory)
    write_openvino_tokenizer(directory, directory)
    assert Tokenizer.load(directory).encode("<|far|>") == [546]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (None, "the list added_tokens"),
        ({}, "the list added_tokens"),
        ("x", "the list added_tokens"),
        ([5], r"added_tokens\[0\]: expected an object, found 5"),
        ([[]], r"added_tokens\[0\]: expected an object"),
        ([{"content": "a", **TOKEN}], r"added_tokens\[0\]: expected the key id"),
        ([{"id": 511, **TOKEN}], r"added_tokens\[0\]: expected the key content"),
        ([{"id": "511", "content": "a", **TOKEN}], r"added_tokens\[0\]\.id: expected a whole number, found '511'"),
        ([{"id": 1.5, "content": "a", **TOKEN}], r"added_tokens\[0\]\.id: expected a whole number, found 1\.5"),
        ([{"id": True, "content": "a", **TOKEN}], r"added_tokens\[0\]\.id: expected a whole number, found True"),
        ([{"id": -1, "content": "a", **TOKEN}], r"the id of 'a': expected a whole number from 0, found -1"),
        ([{"id": 511, "content": 5, **TOKEN}], r"added_tokens\[0\]\.content: expected a string, found 5"),
        ([{"id": 511, "content": "a", **TOKEN, "lstrip": 1}], r"\.lstrip: expected true or false, found 1"),
        ([{"id": 511, "content": "a"}], r"added_tokens\[0\]: expected the key single_word"),
    ],
)
def test_a_malformed_added_token_is_named_with_what_was_expected_and_found(directory, tokens, message):
    change(directory, lambda document: document.update(added_tokens=tokens))
    refused(directory, message)


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document["model"].update(vocab={"a": -1}),
        lambda document: document["model"].update(vocab={"a": "0"}),
        lambda document: document["model"].update(vocab=None),
        lambda document: document["model"].update(vocab=[["a"]]),
        lambda document: document["model"].update(merges=[["a", "nothing"]]),
        lambda document: document["model"].update(merges=[["e", "<|x"]]),
        lambda document: document["model"].update(merges=5),
        lambda document: document["model"]["vocab"].pop("▁the"),  # what a merge makes
        lambda document: document["model"].update(continuing_subword_prefix="a"),
        lambda document: document["model"].update(type="Nothing"),
        lambda document: document.update(model=[]),
        lambda document: document.update(normalizer={"type": "Nothing"}),
        lambda document: document.update(pre_tokenizer=5),
        lambda document: document.update(decoder={"type": "Strip"}),
        lambda document: document.update(post_processor={"type": "TemplateProcessing", "single": 1}),
        lambda document: document.update(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Removed", "invert": False}
        ),
    ],
)
def test_what_the_library_would_refuse_later_is_refused_at_once(directory, edit):
    change(directory, edit)
    with pytest.raises(CheckpointError, match=r"(?s)tokenizer\.json.*\ntry: "):
        check_tokenizer(directory)


@pytest.mark.parametrize("bytes_", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"vocab": {"\xff": 1}, "merges": []}'])
def test_what_is_no_json_is_refused_at_once(directory, bytes_):
    (directory / "tokenizer.json").write_bytes(bytes_)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        check_tokenizer(directory)


def test_a_vocabulary_with_bytes_that_are_no_utf_8_is_refused_at_once(directory):
    path = directory / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace("▁".encode(), b"\xe2\x96", 1))
    refused(directory, "utf-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [(": 10,", ": 010,"), (": 10,", ":\v10,"), (": 10,", ": +10,"), ('"<0x05>"', '"<0x\x0505>"'), ("[\n", "[\f")],
)
def test_what_json_does_not_allow_is_refused_in_the_vocabulary_too(directory, old, new):
    path = directory / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    start = text.index('"merges"' if old == "[\n" else '"vocab"')
    path.write_text(text[:start] + text[start:].replace(old, new, 1), encoding="utf-8")
    assert text != path.read_text(encoding="utf-8")
    refused(directory, "cannot read")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("piece", ["a", "\\\\n"])
def test_a_token_of_megabytes_takes_no_gigabytes(directory, piece):
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from aipc.tokenizer.bpe_vocabulary import read_bpe_vocabulary\n"
        "path = Path(sys.argv[1], 'long.json')\n"
        f"path.write_text('{{\"vocab\": {{\"' + '{piece}' * 5_000_000 + '\": 1}}, \"merges\": []}}')\n"
        "print(read_bpe_vocabulary(path))\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=True)
    found, peak_kib = result.stdout.split()
    assert found == "None"  # it is read as a whole, by a parser whose memory is in proportion
    assert int(peak_kib) < 150 * 1024


def test_a_file_larger_than_any_tokenizer_is_not_read(directory, monkeypatch):
    monkeypatch.setattr(tokenizer_config, "LARGEST_BYTES", 1000)
    refused(directory, "too large: expected at most 1,000 bytes")
    with pytest.raises(CheckpointError, match="too large"):
        Tokenizer.load(directory)


def test_checking_a_vocabulary_of_32_000_takes_little_time_and_no_openvino(tmp_path):
    write_tokenizer(tmp_path, 32_064)
    begun = time.perf_counter()
    check_tokenizer(tmp_path)
    assert time.perf_counter() - begun < 0.5  # a tenth of a second on a PC with nothing else to do
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from aipc.tokenizer.tokenizer_json import check_tokenizer\n"
        "check_tokenizer(Path(sys.argv[1]))\n"
        "print([name for name in ('openvino', 'openvino_tokenizers', 'transformers') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_whole_tokenizer_passes_and_reads_the_same(directory):
    check_tokenizer(directory)
    document, vocabulary = read_tokenizer_json(directory)
    assert vocabulary is not None
    assert len(vocabulary.tokens) == 507
    assert document["model"]["type"] == "BPE"


@pytest.mark.parametrize("style", ["pairs", "strings", "compact"])
def test_the_vocabulary_is_scanned_as_json_reads_it_however_it_is_laid_out(tmp_path, style):
    path = tmp_path / "tokenizer.json"
    write_tokenizer(tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    # Tokens that look like the file's own structure, and ones that JSON escapes.
    odd = ['"', "\\", "\n", '"vocab": {', "}", "]", '"merges": [', ",", "\U0001f600"]
    vocab = {token: index for index, token in enumerate(dict.fromkeys([*document["model"]["vocab"], *odd]))}
    merges = [*document["model"]["merges"], ['"', "\\"], ["}", "]"]]
    vocab |= {'"\\': len(vocab), "}]": len(vocab) + 2}  # an id is left out
    layout = [" ".join(pair) for pair in merges] if style == "strings" else merges
    document["model"] |= {"vocab": vocab, "merges": layout}
    separators = (",", ":") if style == "compact" else None
    path.write_text(json.dumps(document, ensure_ascii=style == "compact", separators=separators), encoding="utf-8")

    scanned, rest = read_bpe_vocabulary(path)
    assert {token.decode(): index for index, token in enumerate(scanned.tokens) if token} == vocab
    pairs = zip(scanned.left, scanned.right, strict=True)
    assert [[scanned.tokens[left].decode(), scanned.tokens[right].decode()] for left, right in pairs] == merges
    del document["model"]["vocab"], document["model"]["merges"], rest["model"]["vocab"], rest["model"]["merges"]
    assert rest == document
