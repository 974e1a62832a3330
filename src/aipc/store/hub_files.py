"""Which of a repository's files a conversion reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from aipc.errors import ConfigError, WeightError
from aipc.store.names import validate_file_name

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SMALL = {"config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json", INDEX}
_SMALL_BEGINNINGS = ("tokenizer", "chat_template")
_SMALL_ENDINGS = (".json", ".model", ".txt", ".jinja")
_OTHER_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack")


def small_files(names: Iterable[str], *, where: str) -> list[str]:
    """Return configuration, tokenizer and template files among `names`. Raises `ConfigError` without
    config.json."""
    wanted = sorted(name for name in names if "/" not in name and _is_small(name))
    if "config.json" not in wanted:
        raise ConfigError(
            f"{where} has no config.json, so it is no Hugging Face checkpoint",
            try_next="choose a repository with config.json and *.safetensors",
        )
    return wanted


def refuse_without_weights(names: Iterable[str], *, where: str) -> None:
    """Raise `WeightError` unless a single or a sharded checkpoint is among `names`; says what there is instead."""
    names = set(names)
    if names & {_SINGLE, INDEX}:
        return
    others = sorted(name for name in names if name.endswith(_OTHER_WEIGHTS))
    raise WeightError(
        f"{where} has no weights that aipc reads (.bin and .pt can run code when they are opened)",
        expected=f"{_SINGLE} or {INDEX}",
        found=", ".join(others[:3]) or "neither",
        try_next="look for a safetensors version of the model on the hub",
    )


def weight_files(names: Iterable[str], *, index: Path, where: str) -> list[str]:
    """Return the weight files among `names`: the shards that the index names, or else `model.safetensors`.

    `index` is where the index lies when there is one. Other files, such as `consolidated.safetensors`, hold the
    same weights once more. Raises `WeightError` for an index that is no JSON, names a file outside the directory,
    or names one that is not among `names`.
    """
    names = set(names)
    shards = _shards(index, where=where) if index.is_file() else [_SINGLE]
    missing = [name for name in shards if name not in names]
    if missing or not all(name.endswith(".safetensors") for name in shards):
        raise WeightError(
            f"{where}: {INDEX} names a file that is no weight file of it",
            expected=f"{missing[0]} in the repository" if missing else "names ending in .safetensors",
            found=", ".join(sorted(name for name in names if name.endswith(".safetensors"))[:4]) or "none",
            try_next="get the checkpoint again, or tell its author",
        )
    return shards


def _is_small(name: str) -> bool:
    return name in _SMALL or (name.startswith(_SMALL_BEGINNINGS) and name.endswith(_SMALL_ENDINGS))


def _shards(index: Path, *, where: str) -> list[str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = set(weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightError(
            f"{where}: {INDEX} cannot be read",
            expected='a JSON object with "weight_map"',
            found=f"{type(error).__name__}: {error}",
            try_next="get the checkpoint again, or tell its author",
        ) from error
    return sorted(validate_file_name(name, where=f"{where}: {INDEX}", error=WeightError) for name in names)
