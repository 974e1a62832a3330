"""aipc: Phi-3-class language models on an AI PC, from a Hugging Face checkpoint to streamed text.

    import aipc

    aipc.convert("path/to/checkpoint", "phi3-int4", weights="int4")
    with aipc.load("phi3-int4", device="cpu") as model:
        for step in model.stream("Can you introduce yourself?"):
            print(step.text, end="", flush=True)

Importing this starts nothing and imports no engine: the names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aipc.answer import Answer as Answer
    from aipc.conversion import Conversion as Conversion
    from aipc.conversion import convert as convert
    from aipc.errors import AipcError as AipcError
    from aipc.model import Model as Model
    from aipc.model import load as load

_HOMES = {
    "AipcError": "aipc.errors",
    "Answer": "aipc.answer",
    "Conversion": "aipc.conversion",
    "Model": "aipc.model",
    "convert": "aipc.conversion",
    "load": "aipc.model",
}

__version__ = "0.1.0"
__all__ = ["AipcError", "Answer", "Conversion", "Model", "convert", "load"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'aipc' has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
