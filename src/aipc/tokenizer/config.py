"""What the JSON files beside tokenizer.json say: special tokens, ids that end an answer, the chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipc.errors import CheckpointError, ConfigError

SPECIAL_TOKEN_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
TRY_NEXT = "download the file again"
LARGEST_BYTES = 128 * 1024 * 1024  # a vocabulary of 262,000 tokens takes 34 MB


@dataclass(frozen=True)
class TokenizerConfig:
    """`special_tokens` maps names such as "eos_token" to strings; a token the files do not name is not in it.

    `bos_id` and `eos_ids` are what generation_config.json and config.json say, the former first. `max_tokens` is
    `model_max_length`, when that is a limit. Whether a text begins with a token is tokenizer.json's matter alone, as
    in transformers 5.
    """

    special_tokens: Mapping[str, str]
    bos_id: int | None
    eos_ids: frozenset[int]
    max_tokens: int | None
    chat_template: str | None

    @classmethod
    def read(cls, model_dir: Path) -> TokenizerConfig:
        """Read the JSON files of `model_dir`, each of which may be absent, and the template's own file.

        Raises `CheckpointError` for a file that is no JSON object, `ConfigError` for a value of a wrong type.
        """
        own = read_json_object(model_dir / "tokenizer_config.json")
        path = model_dir / "tokenizer_config.json"
        generation = model_dir / "generation_config.json"
        sources = [(file, read_json_object(file)) for file in (generation, model_dir / "config.json")]
        return cls(
            special_tokens=_special_tokens(model_dir, own),
            bos_id=next((ids[0] for file, keys in sources if (ids := _ids(file, keys, "bos_token_id"))), None),
            eos_ids=frozenset(token for file, keys in sources for token in _ids(file, keys, "eos_token_id")),
            max_tokens=_max_tokens(path, own),
            chat_template=_chat_template(model_dir, own),
        )


def refuse_too_large(path: Path) -> None:
    """Raise `CheckpointError` for a file that no tokenizer is as large as. Raises OSError when it is not there."""
    size_bytes = path.stat().st_size
    if size_bytes > LARGEST_BYTES:
        raise CheckpointError(
            f"{path} is too large",
            expected=f"at most {LARGEST_BYTES:,} bytes",
            found=f"{size_bytes:,} bytes",
            try_next=TRY_NEXT,
        )


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """What to say of a file that the system does not let one read."""
    return CheckpointError(f"cannot read {path}: {error.strerror}", try_next="check the disk and its permissions")


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when there is no such file. Raises `CheckpointError` for anything else."""
    try:
        refuse_too_large(path)
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}", try_next=TRY_NEXT) from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f"cannot read {path}", expected="a JSON object", found=f"a {type(value).__name__}", try_next=TRY_NEXT
        )
    return value


def _special_tokens(model_dir: Path, own: Mapping[str, Any]) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for path, keys in (
        (model_dir / "special_tokens_map.json", read_json_object(model_dir / "special_tokens_map.json")),
        (model_dir / "tokenizer_config.json", own),
    ):
        for name in SPECIAL_TOKEN_NAMES:
            value = keys.get(name)
            if isinstance(value, dict):  # {"content": "</s>", "lstrip": false, …}
                value = value.get("content")
            if value is None:
                continue
            if not isinstance(value, str):
                raise ConfigError(f"{path}: {name}", expected="a string", found=f"{value!r:.80}", try_next=TRY_NEXT)
            tokens[name] = value
    return tokens


def _ids(path: Path, keys: Mapping[str, Any], name: str) -> list[int]:
    value = keys.get(name)
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    for item in values:
        if isinstance(item, bool) or not isinstance(item, int) or item < 0:
            raise ConfigError(
                f"{path}: {name}", expected="a token id or a list of them", found=f"{value!r:.80}", try_next=TRY_NEXT
            )
    return values


def _max_tokens(path: Path, keys: Mapping[str, Any]) -> int | None:
    value = keys.get("model_max_length")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ConfigError(
            f"{path}: model_max_length", expected="a number of tokens", found=f"{value!r:.80}", try_next=TRY_NEXT
        )
    # transformers writes 1e30 for "no limit"
    return int(value) if value < 2**31 else None


def _chat_template(model_dir: Path, own: Mapping[str, Any]) -> str | None:
    """chat_template.jinja wins over chat_template.json, and that over tokenizer_config.json."""
    file = model_dir / "chat_template.jinja"
    try:
        refuse_too_large(file)
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unreadable(file, error) from error
    except ValueError as error:
        raise CheckpointError(f"cannot read {file}: {error}", try_next=TRY_NEXT) from error
    for path, keys in (
        (model_dir / "chat_template.json", read_json_object(model_dir / "chat_template.json")),
        (model_dir / "tokenizer_config.json", own),
    ):
        if keys.get("chat_template") is not None:
            return _default_template(path, keys["chat_template"])
    return None


def _default_template(path: Path, value: object) -> str | None:
    """`value` is the template, or a list of {"name", "template"} of which "default" is meant."""
    if isinstance(value, str):
        return value
    problem = ConfigError(
        f"{path}: chat_template",
        expected='a string or a list of {"name", "template"}',
        found=f"{value!r:.80}",
        try_next=TRY_NEXT,
    )
    if not isinstance(value, list):
        raise problem
    named: dict[str, str] = {}
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("template"), str):
            raise problem
        named[str(entry.get("name"))] = entry["template"]
    if named and "default" not in named:
        raise ConfigError(
            f"{path}: chat_template", expected='one named "default"', found=", ".join(sorted(named)), try_next=TRY_NEXT
        )
    return named.get("default")
