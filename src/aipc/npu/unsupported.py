"""Classes that the NPU library had and aipc has no models for. Loading one says what to use."""

from __future__ import annotations

from typing import NoReturn

from aipc.errors import UnsupportedModelError


class NPUModel:
    """The library's base class, for any class of transformers. Nothing can be loaded by it."""

    _has = "models of any class of transformers"

    @classmethod
    def from_pretrained(cls, model_name_or_path: object, *arguments: object, **keywords: object) -> NoReturn:
        """Raises `UnsupportedModelError`."""
        raise UnsupportedModelError(
            f"{cls.__name__} cannot load {model_name_or_path}",
            expected="a model that generates text, such as microsoft/Phi-3-mini-4k-instruct",
            found=cls._has,
            try_next="aipc.npu.NPUModelForCausalLM.from_pretrained",
        )


class NPUAutoModel(NPUModel):
    """The library's class for models without a head. Nothing can be loaded by it."""

    _has = "a class for models without a language-modelling head"


class NPUModelForSeq2SeqLM(NPUModel):
    """The library's class for encoder-decoder models. Nothing can be loaded by it."""

    _has = "a class for encoder-decoder models"
