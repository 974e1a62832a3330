"""genai_config.json as far as a check needs it.

Source: ONNX Runtime GenAI's configuration reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipc.config import ConfigFile
from aipc.errors import ConfigError, IntegrityError
from aipc.graph.onnx.genai_names import DEVICE_OF_PROVIDER
from aipc.store.manifest import source_of
from aipc.store.model_files import GENAI_CONFIG
from aipc.store.names import validate_file_name

# What GenAI takes for names that the file leaves out.
_USUAL_INPUTS = {
    **{
        name: name
        for name in (
            "input_ids",
            "attention_mask",
            "position_ids",
            "past_sequence_length",
            "current_sequence_length",
            "total_sequence_length",
            "cache_indirection",
        )
    },
    "past_key_names": "past_key_values.%d.key",
    "past_value_names": "past_key_values.%d.value",
}
_USUAL_OUTPUTS = {
    "logits": "logits",
    "present_key_names": "present.%d.key",
    "present_value_names": "present.%d.value",
}


@dataclass(frozen=True)
class Provider:
    """An entry of `provider_options`; `device` is its name as aipc spells it."""

    name: str
    options: Mapping[str, Any]

    @property
    def device(self) -> str:
        name = self.name.casefold()
        return DEVICE_OF_PROVIDER.get(name, name)


@dataclass(frozen=True)
class GenaiConfig:
    """Sizes, names and providers. `inputs` and `outputs` map GenAI's roles to the graph's names; %d is a layer."""

    path: Path
    file_name: str
    layers: int
    query_heads: int | None
    kv_heads: int
    head_size: int
    vocabulary: int
    context_tokens: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    providers: tuple[Provider, ...]
    window_tokens: int | None
    chunk_tokens: int | None

    @property
    def made_for(self) -> str:
        """The device of the first provider; without one it is the CPU."""
        return self.providers[0].device if self.providers else "cpu"


def read_genai_config(directory: Path) -> GenaiConfig:
    """Read genai_config.json. Raises `ConfigError` naming the key, `IntegrityError` for an unsafe file name."""
    try:
        return _read(directory)
    except ConfigError as error:  # which knows of checkpoints alone
        again = f"aipc convert {source_of(directory)} OUT --to onnx"
        raise ConfigError(error.what, expected=error.expected, found=error.found, try_next=again) from error


def _read(directory: Path) -> GenaiConfig:
    config = ConfigFile.load(directory / GENAI_CONFIG)
    model = _section(config, "model")
    decoder = _section(model, "decoder")
    search = config.section("search")
    window = decoder.section("sliding_window")
    return GenaiConfig(
        path=config.path,
        file_name=validate_file_name(decoder.text("filename"), where=GENAI_CONFIG, error=IntegrityError),
        layers=decoder.count("num_hidden_layers"),
        query_heads=decoder.optional_count("num_attention_heads"),
        kv_heads=decoder.count("num_key_value_heads"),
        head_size=decoder.count("head_size"),
        vocabulary=model.count("vocab_size"),
        context_tokens=model.count("context_length"),
        inputs={**_USUAL_INPUTS, **_texts(decoder, "inputs")},
        outputs={**_USUAL_OUTPUTS, **_texts(decoder, "outputs")},
        providers=tuple(_providers(decoder)),
        window_tokens=None if window is None else window.optional_count("window_size"),
        chunk_tokens=None if search is None else search.optional_count("chunk_size"),
    )


def layer_pattern(name: str) -> re.Pattern[str]:
    """Matches what a name with %d means; its group is the layer."""
    return re.compile(re.escape(name).replace("%d", r"(\d{1,9})", 1))


def _section(config: ConfigFile, key: str) -> ConfigFile:
    section = config.section(key)
    if section is None:
        raise ConfigError(f"{config.path}: {config.key(key)}", expected="an object", found="no such key")
    return section


def _texts(decoder: ConfigFile, key: str) -> dict[str, str]:
    section = decoder.section(key)
    return {} if section is None else {role: section.text(role) for role in section.values}


def _providers(decoder: ConfigFile) -> list[Provider]:
    options = decoder.section("session_options")
    listed = [] if options is None else options.values.get("provider_options") or []
    found = []
    for entry in listed if isinstance(listed, list) else [listed]:
        if not isinstance(entry, dict) or not all(isinstance(value, dict) for value in entry.values()):
            raise ConfigError(
                f"{decoder.path}: {decoder.key('session_options')}.provider_options",
                expected='a list of {"provider": {options}}',
                found=repr(entry)[:80],
            )
        found += [Provider(name, value) for name, value in entry.items()]
    return found
