"""Architectures, one file per `model_type`, found by name.

Each file offers `read(config: ConfigFile) -> Architecture`, and nothing else needs to know it exists.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, TypeVar

from aipc.config import ConfigFile
from aipc.errors import UnsupportedModelError
from aipc.graph import Graph, Heads

V = TypeVar("V")


class Architecture(Protocol):
    """A network as its config describes it."""

    @property
    def context_tokens(self) -> int:
        """Most tokens that prompt and answer can have together."""

    @property
    def vocabulary_size(self) -> int:
        """Rows of the embedding."""

    @property
    def num_hidden_layers(self) -> int: ...

    @property
    def hidden_size(self) -> int:
        """Features of a token between layers."""

    @property
    def attention_sizes(self) -> Heads:
        """The heads of every layer."""

    @property
    def sliding_window(self) -> int | None:
        """The most tokens that a token attends to, itself counted; None for all."""

    @property
    def kv_elements_per_token(self) -> int:
        """Elements that one token adds to the KV cache, all layers together."""

    @property
    def rope_switch_tokens(self) -> int | None:
        """Sequences longer than this use other rotary frequencies (LongRoPE); None when there is no such length."""

    def describe(self, graph: Graph[V]) -> None:
        """The network, as calls on `graph`."""


def known_model_types() -> list[str]:
    """The `model_type`s that can be read: the names of the files in this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def read_architecture(config: ConfigFile) -> Architecture:
    """The architecture that `config` describes.

    Raises `UnsupportedModelError` for an unknown `model_type`, `ConfigError` for a key that is missing or wrong.
    """
    model_type = config.text("model_type")
    if model_type not in known_model_types():
        raise UnsupportedModelError(
            f"{config.path}: model_type",
            expected=f"one of {', '.join(known_model_types())}",
            found=model_type,
            try_next="a checkpoint of one of these families, such as microsoft/Phi-3-mini-4k-instruct",
        )
    module = importlib.import_module(f"aipc.models.{model_type}")
    architecture: Architecture = module.read(config)
    return architecture
