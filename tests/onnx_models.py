"""ONNX Runtime GenAI directories for tests, and a stand-in for GenAI built for other providers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aipc.conversion import write_model
from aipc.errors import MissingPackageError
from aipc.onnx_import import import_genai
from aipc.quant.recipe import Recipe
from aipc.store import Origin
from aipc.targets import target_of


def genai_or_skip() -> Any:
    """Imported as aipc imports it: without its telemetry."""
    pytest.importorskip("onnx", reason='onnx is missing: pip install ".[onnx]"')
    try:
        return import_genai()
    except MissingPackageError:
        pytest.skip('onnxruntime_genai is missing: pip install ".[onnx]"', allow_module_level=True)


def convert_to_onnx(checkpoint: Path, out: Path, weights: str = "fp32", device: str = "cpu", **recipe: Any) -> Path:
    origin = Origin(checkpoint.name, str(checkpoint))
    target = target_of("onnx", device)
    return write_model(checkpoint, origin, out, Recipe(weights, **recipe), target=target).path


class FakeGenai:
    """GenAI as another build: it records what a model was loaded with and generates no token."""

    def __init__(self, *, dml: bool = False, cuda: bool = False, device_type: str | None = None) -> None:
        self.__id__ = "onnxruntime-genai-fake"
        self.configs: list[FakeConfig] = []
        self._dml, self._cuda, self._device_type = dml, cuda, device_type

    def is_dml_available(self) -> bool:
        return self._dml

    def is_cuda_available(self) -> bool:
        return self._cuda

    def Config(self, path: str) -> FakeConfig:  # noqa: N802 - GenAI's name
        self.configs.append(FakeConfig(path))
        return self.configs[-1]

    def Model(self, config: FakeConfig) -> SimpleNamespace:  # noqa: N802 - GenAI's name
        return SimpleNamespace(device_type=self._device_type or (config.providers or ["cpu"])[-1].upper())


class FakeConfig:
    def __init__(self, path: str) -> None:
        self.path = path
        self.providers = ["of the file"]
        self.options: dict[tuple[str, str], str] = {}
        self.overlays: list[str] = []

    def clear_providers(self) -> None:
        self.providers.clear()

    def append_provider(self, name: str) -> None:
        self.providers.append(name)

    def set_provider_option(self, provider: str, key: str, value: str) -> None:
        self.options[provider, key] = value

    def overlay(self, text: str) -> None:
        self.overlays.append(text)
