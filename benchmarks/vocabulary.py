"""A tokenizer in Phi-3's form, trained on made-up words: 32,000 BPE entries and eleven special tokens.

The form is that of Llama's: "▁" for a space, merges over whole lines, and a `<0xHH>` token for every byte
that no entry covers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

ENTRIES = 32_000
WORDS = 90_000
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
FIRST_ENTRIES = ["<unk>", "<s>", "</s>", *BYTE_TOKENS]
SPECIAL_TOKENS = [
    "<|endoftext|>",  # id 32000, and so on upwards
    "<|assistant|>",
    "<|placeholder1|>",
    "<|placeholder2|>",
    "<|placeholder3|>",
    "<|placeholder4|>",
    "<|system|>",
    "<|end|>",
    "<|placeholder5|>",
    "<|placeholder6|>",
    "<|user|>",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
ONSETS = [*"bcdfghjklmnp", "qu", *"rstvwyz", "st", "tr", "ch", "sh", "th", "pl", "br", "gr", "sp", "cl"]
NUCLEI = [*"aeiou", "ai", "ea", "ou", "io", "ee"]
CODAS = ["", "", "", "n", "r", "s", "t", "l", "ng", "nt", "ck", "st"]


def write_tokenizer(folder: Path, *, seed: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json into `folder`.

    Takes a few seconds. Raises `RuntimeError` when the made-up words give fewer than 32,000 entries.
    """
    tokenizer = _train(seed=seed)
    if tokenizer["model"]["vocab"].keys() & set(SPECIAL_TOKENS) or len(tokenizer["model"]["vocab"]) != ENTRIES:
        raise RuntimeError(f"expected {ENTRIES} entries, found {len(tokenizer['model']['vocab'])}")
    tokenizer["added_tokens"] = _added_tokens()
    _write_json(folder / "tokenizer.json", tokenizer)
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    _write_json(
        folder / "special_tokens_map.json",
        {
            "bos_token": "<s>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<unk>",
        },
    )


def _train(*, seed: int) -> dict:
    """Return the content of tokenizer.json, without its added tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES,
        special_tokens=FIRST_ENTRIES,
        initial_alphabet=[chr(code) for code in range(33, 127)] + ["\n"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(seed=seed), trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {**trained, "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True},
    }


def _lines(*, seed: int) -> Iterator[str]:
    """Yield lines of made-up words; a word's frequency falls with its rank, as in text."""
    generator = random.Random(seed)
    words = sorted({_word(generator) for _ in range(WORDS)})
    generator.shuffle(words)
    for start in range(0, len(words), 16):
        repeats = 1 + 4_000 // (start + 16)
        line = " ".join(words[start : start + 16])
        for _ in range(1 + repeats):
            yield line


def _word(generator: random.Random) -> str:
    syllables = generator.choice((1, 2, 2, 3, 3, 4))
    word = "".join(
        generator.choice(ONSETS) + generator.choice(NUCLEI) + generator.choice(CODAS) for _ in range(syllables)
    )
    return word.capitalize() if generator.random() < 0.2 else word


def _added_tokens() -> list[dict]:
    contents = [(0, "<unk>"), (1, "<s>"), (2, "</s>"), *enumerate(SPECIAL_TOKENS, start=ENTRIES)]
    return [
        {
            "id": token_id,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": token_id == 2 or token_id > ENTRIES,
            "normalized": False,
            "special": content != "</s>",
        }
        for token_id, content in contents
    ]


def _tokenizer_config() -> dict:
    return {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in _added_tokens()
        },
        "bos_token": "<s>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "model_max_length": 4096,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
