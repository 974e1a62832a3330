"""tokenizer.json, read with little memory and checked: what reads it later neither fails nor takes all memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aipc.errors import CheckpointError
from aipc.tokenizer.bpe_vocabulary import BpeVocabulary, read_bpe_vocabulary, refuse_absurd_id
from aipc.tokenizer.config import TRY_NEXT, TokenizerConfig, read_json_object, refuse_too_large, unreadable
from aipc.tokenizer.library import library_errors, missing_tokenizer, read_library_tokenizer

ADDED_TOKEN_KEYS = {
    "id": int,
    "content": str,
    "single_word": bool,
    "lstrip": bool,
    "rstrip": bool,
    "normalized": bool,
    "special": bool,
}
KINDS: dict[type, str] = {int: "a whole number", str: "a string", bool: "true or false"}


def check_tokenizer(model_dir: Path) -> tuple[dict[str, Any], BpeVocabulary | None]:
    """What `read_tokenizer_json` gives, when aipc can tokenize with it.

    Raises `CheckpointError` for files on which aipc, or the tokenizer's conversion, would fail later. In a tenth of a
    second for 32,000 tokens and without OpenVINO; what OpenVINO cannot express shows only later.
    """
    from tokenizers import Tokenizer as LibraryTokenizer

    document, vocabulary = read_tokenizer_json(model_dir)
    TokenizerConfig.read(model_dir)
    # With a prefix, what a merge makes is not its two tokens put together.
    if vocabulary is None or document["model"].get("continuing_subword_prefix"):
        read_library_tokenizer(model_dir)
        return document, vocabulary
    # The vocabulary was checked as it was scanned. Without it this takes a millisecond and no memory.
    with library_errors(f"cannot read {model_dir / 'tokenizer.json'}"):
        LibraryTokenizer.from_str(json.dumps(document))
    return document, vocabulary


def read_tokenizer_json(model_dir: Path) -> tuple[dict[str, Any], BpeVocabulary | None]:
    """The document, and its vocabulary when that was left out of the document.

    Raises `CheckpointError` when the file is missing, malformed, or has ids that would take all memory.
    """
    path = model_dir / "tokenizer.json"
    if not path.is_file():
        raise missing_tokenizer(model_dir)
    try:
        refuse_too_large(path)
        scanned = read_bpe_vocabulary(path)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}", try_next=TRY_NEXT) from error
    vocabulary, document = scanned if scanned else (None, read_json_object(path))
    model = document.get("model")
    if not isinstance(model, dict) or not isinstance(document.get("added_tokens"), list):
        expected = "the object model and the list added_tokens"
        raise CheckpointError(f"cannot read {path}", expected=expected, try_next=TRY_NEXT)
    _check_added_tokens(path, document["added_tokens"])
    _check_ids(path, document, vocabulary)
    return document, vocabulary


def _check_added_tokens(path: Path, tokens: list[Any]) -> None:
    for position, token in enumerate(tokens):
        if not isinstance(token, dict):
            raise _malformed(path, f"added_tokens[{position}]", expected="an object", found=token)
        for key, kind in ADDED_TOKEN_KEYS.items():
            if key not in token:
                raise _malformed(path, f"added_tokens[{position}]", expected=f"the key {key}", found=token)
            if type(token[key]) is not kind:  # to isinstance, a flag is a number
                where = f"added_tokens[{position}].{key}"
                raise _malformed(path, where, expected=KINDS[kind], found=token[key])


def _check_ids(path: Path, document: Mapping[str, Any], vocabulary: BpeVocabulary | None) -> None:
    """Whatever reads them makes a list up to the highest."""
    vocab = document["model"].get("vocab")
    if vocabulary or not isinstance(vocab, (dict, list)):  # a list has tokens in the order of their ids
        vocab = {}
    ids = vocab if isinstance(vocab, dict) else {}
    added = {token["content"]: token["id"] for token in document["added_tokens"]}
    tokens = len(added) + (len(vocabulary.tokens) if vocabulary else len(vocab))
    for content, index in (*ids.items(), *added.items()):
        if type(index) is not int or index < 0:
            raise _malformed(path, f"the id of {content!r:.80}", expected="a whole number from 0", found=index)
        try:
            refuse_absurd_id(index, tokens=tokens)
        except ValueError as error:
            raise CheckpointError(f"cannot read {path}: {error}", try_next=TRY_NEXT) from error


def _malformed(path: Path, where: str, *, expected: str, found: object) -> CheckpointError:
    return CheckpointError(f"{path}: {where}", expected=expected, found=f"{found!r:.80}", try_next=TRY_NEXT)
