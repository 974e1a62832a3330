"""Small tokenizers in the files real checkpoints have, made in 50 ms by the `tokenizers` library alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

Kind = Literal["llama", "bytelevel"]

CONTROL_TOKENS = ("<|endoftext|>", "<|assistant|>", "<|end|>", "<|system|>", "<|user|>")
SMALLEST_VOCAB = {"llama": 320, "bytelevel": 288}

PHI3_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
PHI4_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
GPT4_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEXT = """
The quick brown fox jumps over the lazy dog. A language model reads a prompt and writes the answer, one token
after another. An AI PC has a CPU, a GPU and an NPU; the same model runs on each of them, and the numbers say
which one is faster today. Can you introduce yourself? My name is Guide, and I am a small model in this package.
What is the capital of France? The capital of France is Paris. What is the capital of Italy? It is Rome.
def add(first, second):
    return first + second
Weights are read, packed and written: 4 bits for most of them, 8 bits for the embedding, 16 for the scales.
Grüße aus Köln, ça va bien, mañana será otro día, 你好世界, こんにちは, привет, мир. 1234567890 + 2 * 3 = 42!
"""


def write_tokenizer(directory: Path, vocab_size: int = 512, *, kind: Kind = "llama") -> dict[str, int]:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and generation_config.json.

    "llama" is Phi-3-mini's kind (BPE with byte fallback), "bytelevel" that of Phi-4 and GPT-4. `vocab_size`
    counts everything, the five control tokens at the end included; the ids of all special tokens are returned.
    Invented words fill the vocabulary when `TEXT` has too few, so every size from the smallest up works.
    """
    if vocab_size < SMALLEST_VOCAB[kind]:
        raise ValueError(f"a {kind} vocabulary has at least {SMALLEST_VOCAB[kind]} entries, not {vocab_size}")
    directory.mkdir(parents=True, exist_ok=True)
    base_size = vocab_size - len(CONTROL_TOKENS)
    document = _llama_document(base_size) if kind == "llama" else _bytelevel_document(base_size)
    ids = {token["content"]: token["id"] for token in document["added_tokens"]}
    _write(directory / "tokenizer.json", document)
    _write(directory / "tokenizer_config.json", _config(kind, document["added_tokens"]))
    _write(directory / "special_tokens_map.json", _special_tokens(kind))
    stops = [ids["<|endoftext|>"], ids["<|end|>"]]
    bos = ids["<s>"] if kind == "llama" else ids["<|endoftext|>"]
    _write(
        directory / "generation_config.json",
        {"bos_token_id": bos, "eos_token_id": stops, "pad_token_id": stops[0]},
    )
    return ids


def _llama_document(base_size: int) -> dict[str, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers

    start = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    words = [word for line in TEXT.splitlines() for word in _metaspace_words(line)]
    vocab, merges = _train(words, start, base_size)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    document = json.loads(tokenizer.to_str())
    document["post_processor"] = _no_special_tokens()
    document["added_tokens"] = [
        _added(0, "<unk>"),
        _added(1, "<s>"),
        _added(2, "</s>", rstrip=True, special=False),
        _added(base_size, "<|endoftext|>"),
        *(_added(base_size + 1 + i, token, rstrip=True) for i, token in enumerate(CONTROL_TOKENS[1:])),
    ]
    return document


def _bytelevel_document(base_size: int) -> dict[str, Any]:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT4_SPLIT), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
    )
    words = [word for word, _ in pre_tokenizer.pre_tokenize_str(TEXT)]
    vocab, merges = _train(words, sorted(pre_tokenizers.ByteLevel.alphabet()), base_size)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [
        _added(base_size + i, token, lstrip=i == 0, rstrip=True) for i, token in enumerate(CONTROL_TOKENS)
    ]
    return document


def _train(words: list[str], start: list[str], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte pair encoding in its plainest form; ties are broken by spelling, so the result is always the same."""
    vocab = {token: index for index, token in enumerate(start)}
    for character in sorted({character for word in words for character in word} - set(vocab)):
        if len(vocab) < size and ord(character) < 0x3000:  # what is left out comes by byte fallback
            vocab[character] = len(vocab)
    merges = []
    pieces = [[character for character in word if character in vocab] for word in words]
    while len(vocab) < size and (pair := _most_frequent_pair(pieces)):
        merges.append(pair)
        vocab["".join(pair)] = len(vocab)
        pieces = [_merge(word, pair) for word in pieces]
    filler = _filler_merges()
    while len(vocab) < size:
        pair = next(filler)
        if "".join(pair) not in vocab:
            merges.append(pair)
            vocab["".join(pair)] = len(vocab)
    return vocab, merges


def _most_frequent_pair(pieces: list[list[str]]) -> tuple[str, str] | None:
    counts: dict[tuple[str, str], int] = {}
    for word in pieces:
        for pair in itertools.pairwise(word):
            counts[pair] = counts.get(pair, 0) + 1
    return max(counts, key=lambda pair: (counts[pair], pair)) if counts else None


def _merge(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    position = 0
    while position < len(word):
        if tuple(word[position : position + 2]) == pair:
            merged.append("".join(pair))
            position += 2
        else:
            merged.append(word[position])
            position += 1
    return merged


def _filler_merges() -> Iterator[tuple[str, str]]:
    """Pairs of letters, then of what those made: an endless supply of valid merges."""
    letters = "etaoinshrdlucmfwypvbgk"
    words = list(letters)
    while True:
        longer = []
        for word in words:
            for letter in letters:
                longer.append(word + letter)
                yield word, letter
        words = longer


def _metaspace_words(line: str) -> list[str]:
    return ["▁" + word for word in line.split(" ") if word]


def _added(
    token_id: int, content: str, *, lstrip: bool = False, rstrip: bool = False, special: bool = True
) -> dict[str, Any]:
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": lstrip,
        "rstrip": rstrip,
        "normalized": False,
        "special": special,
    }


def _no_special_tokens() -> dict[str, Any]:
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    return {"type": "TemplateProcessing", "single": [first], "pair": [first, second], "special_tokens": {}}


def _config(kind: Kind, added_tokens: list[dict[str, Any]]) -> dict[str, Any]:
    decoder = {str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in added_tokens}
    common = {
        "added_tokens_decoder": decoder,
        "bos_token": "<s>" if kind == "llama" else "<|endoftext|>",
        "chat_template": PHI3_CHAT_TEMPLATE if kind == "llama" else PHI4_CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "model_max_length": 4096,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
    }
    if kind == "bytelevel":
        return common | {
            "add_prefix_space": False,
            "tokenizer_class": "GPT2Tokenizer",
            "unk_token": "<|endoftext|>",
        }
    llama = {"add_bos_token": False, "add_eos_token": False, "legacy": False, "sp_model_kwargs": {}}
    return common | llama | {"tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>"}


def _special_tokens(kind: Kind) -> dict[str, Any]:
    bos, unk = ("<s>", "<unk>") if kind == "llama" else ("<|endoftext|>", "<|endoftext|>")
    contents = {
        "bos_token": bos,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": unk,
    }
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {name: {"content": content} | flags for name, content in contents.items()}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")
