"""The directory that a model is loaded from, and whether it is what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aipc.errors import UsageError
from aipc.npu.compiler import CompilerConfig, checked_config
from aipc.npu.dtypes import Dtype
from aipc.progress import Progress
from aipc.quant.recipe import Recipe
from aipc.ready import ReadyModel, ready_model
from aipc.store import resolve

_CLASSES = ("AutoModelForCausalLM", "Phi3ForCausalLM")


def checked_arguments(config: object, dtype: object, transformers_class: Any) -> CompilerConfig | None:
    """`config`, or one of `dtype` where that is of aipc.npu.

    Raises `UsageError` for what `from_pretrained` cannot follow.
    """
    name = getattr(transformers_class, "__name__", transformers_class)
    if name is not None and name not in _CLASSES:
        raise UsageError("transformers_class", expected=f"None or {' or '.join(_CLASSES)}", found=name)
    if isinstance(dtype, Dtype):
        if config is not None and checked_config(config).precision is not dtype:
            raise UsageError("dtype", expected=f"the config's, {checked_config(config).precision}", found=dtype)
        return CompilerConfig(dtype=dtype)
    return None if config is None else checked_config(config)


def prepared(
    model: str | Path, config: CompilerConfig | None, *, revision: str | None, progress: Progress
) -> ReadyModel:
    """Find the model; download it and convert it into the store where that is needed.

    Raises a leaf of `AipcError`: `UsageError` when it is converted already, to something else than `config` says.
    """
    wanted = model if revision is None else f"{model}@{revision}"
    is_converted = resolve(wanted).kind in ("converted", "stored")
    if config is not None:
        recipe: Recipe | None = config.precision.recipe
    else:
        recipe = None if is_converted else CompilerConfig().precision.recipe
    return ready_model(wanted, recipe, progress=progress)
