"""The guide's tokenizer: Phi-3-mini's kind (BPE with byte fallback, as Llama 2), trained on the guide's text.

Newlines are bytes, digits stand alone and no token reaches over a space or a punctuation mark, so that words are the
same tokens wherever they stand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VOCABULARY_SIZE = 4096
CONTEXT_TOKENS = 2048
# In Phi-3-mini's order.
ADDED_TOKENS = (
    "<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>", "<|placeholder4|>",
    "<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>",
)  # fmt: skip
FIRST_ADDED = VOCABULARY_SIZE - len(ADDED_TOKENS)
IDS = {token: FIRST_ADDED + i for i, token in enumerate(ADDED_TOKENS)}
BOS_ID = 1
# Characters with a token of their own; the others are spelled as bytes.
ALPHABET_SIZE = 160
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def write_tokenizer(directory: Path, texts: Iterable[str]) -> None:
    """Train on `texts` and write tokenizer.json, tokenizer_config.json, special_tokens_map.json and
    generation_config.json. The same texts give the same files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    document = _document(*_trained(texts))
    end = IDS["<|endoftext|>"]
    _write(directory / "tokenizer.json", document)
    _write(directory / "tokenizer_config.json", _config(document["added_tokens"]))
    _write(directory / "special_tokens_map.json", _special_tokens_map())
    _write(
        directory / "generation_config.json",
        {"bos_token_id": BOS_ID, "eos_token_id": [end, IDS["<|end|>"]], "pad_token_id": end},
    )


def read_tokenizer(directory: Path) -> Any:
    """The written tokenizer, as `tokenizers` runs it."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def _trained(texts: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges. The pieces that training must not join are cut before; running needs no such cut, as
    no merge reaches over one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    start = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    lines = [line for text in texts for line in text.split("\n")]
    alphabet = _alphabet(lines)
    trainer = trainers.BpeTrainer(
        vocab_size=FIRST_ADDED,
        special_tokens=start,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if len(model["vocab"]) != FIRST_ADDED:
        raise ValueError(f"the text gives {len(model['vocab'])} tokens, fewer than {FIRST_ADDED}")
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _alphabet(lines: Iterable[str]) -> list[str]:
    """The most frequent characters. Chosen here, as the library leaves to chance which of two equals it takes."""
    counts = Counter(character for line in lines for character in line if character != " ")
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    return ["▁", *frequent[: ALPHABET_SIZE - 1]]


def _document(vocab: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, Any]:
    """tokenizer.json, with the parts that Phi-3-mini's has."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    first = {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first],
        "pair": [first, second],
        "special_tokens": {},
    }
    document["added_tokens"] = [
        _added(0, "<unk>"),
        _added(1, "<s>"),
        _added(2, "</s>", rstrip=True, special=False),
        *(_added(IDS[name], name, rstrip=name != "<|endoftext|>") for name in ADDED_TOKENS),
    ]
    return document


def _added(token_id: int, content: str, *, rstrip: bool = False, special: bool = True) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": rstrip, "normalized": False, "special": special}
    return {"id": token_id, "content": content, **flags}


def _config(added_tokens: list[dict[str, Any]]) -> dict[str, Any]:
    decoder = {str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in added_tokens}
    return {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": decoder,
        "bos_token": "<s>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "model_max_length": CONTEXT_TOKENS,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }


def _special_tokens_map() -> dict[str, Any]:
    contents = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<unk>"}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {name: {"content": content} | flags for name, content in contents.items()}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")
