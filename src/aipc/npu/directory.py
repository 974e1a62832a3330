"""The directory that a model is loaded from, and whether it is what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aipc.errors import UsageError
from aipc.npu.compiler import CompilerConfig, checked_config
from aipc.progress import Progress
from aipc.quant.recipe import Recipe
from aipc.ready import ReadyModel, ready_model
from aipc.store import MANIFEST, read_manifest, resolve

_CLASSES = ("AutoModelForCausalLM", "Phi3ForCausalLM")


def checked_arguments(config: object, transformers_class: Any, properties: object) -> CompilerConfig | None:
    """`config`. Raises `UsageError` for what `from_pretrained` cannot follow."""
    name = getattr(transformers_class, "__name__", transformers_class)
    if name is not None and name not in _CLASSES:
        raise UsageError("transformers_class", expected=f"None or {' or '.join(_CLASSES)}", found=name)
    if properties is not None and not isinstance(properties, Mapping):
        raise UsageError("properties", expected="a mapping of names to values, all texts", found=repr(properties))
    return None if config is None else checked_config(config)


def prepared(
    model: str | Path, config: CompilerConfig | None, *, revision: str | None, progress: Progress
) -> ReadyModel:
    """Find the model; download it and convert it into the store where that is needed.

    Raises a leaf of `AipcError`: `UsageError` when it is converted already, to something else than `config` says.
    """
    wanted = model if revision is None else f"{model}@{revision}"
    recipe = CompilerConfig().precision.recipe if config is None else config.precision.recipe
    source = resolve(wanted)
    if config is None and source.kind in ("converted", "stored") and source.path is not None:
        recipe = _recipe_of(source.path) or recipe
    ready = ready_model(wanted, recipe, progress=progress)
    made = ready.recipe_label
    if made is not None and made != recipe.label:
        raise UsageError(
            f"{ready.path} is converted already, and not to what CompilerConfig asks for",
            expected=recipe.label,
            found=made,
            try_next="the checkpoint's name, or no config to take it as it is",
        )
    return ready


def _recipe_of(path: Path) -> Recipe | None:
    """What a directory was converted by; None for others' directories, which do not say."""
    if not (path / MANIFEST).is_file():
        return None
    made = read_manifest(path).recipe
    names = ("weights", "group_size", "ratio", "symmetric", "all_layers")
    return Recipe(**{name: made[name] for name in names if name in made})
