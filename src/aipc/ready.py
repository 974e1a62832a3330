"""A model that can be loaded: whatever MODEL was, at the end there is a converted directory that was checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aipc.config import ConfigFile
from aipc.errors import IntegrityError, StoreError, UnsupportedModelError, UsageError
from aipc.models import Architecture, read_architecture
from aipc.progress import Progress, at_stage
from aipc.quant.recipe import Recipe
from aipc.store import (
    MANIFEST,
    Origin,
    Source,
    find_stored,
    model_path,
    models_directory,
    name_for,
    origin_of,
    read_manifest,
    resolve,
    usual_weights,
    verify,
)
from aipc.store.manifest import source_of
from aipc.store.model_files import GENAI_CONFIG
from aipc.targets import Target, target_of

_FALLBACK_CONTEXT_TOKENS = 2048
_GUIDE_WAIT_S = 60.0  # for another process that converts it, which takes a second


@dataclass(frozen=True)
class ReadyModel:
    """A converted directory and the facts of it that running it needs.

    `weight_bytes_per_token` and `kv_elements_per_token` are None where the directory does not tell them.
    `sliding_window` is the most tokens of the KV cache that a token attends to, None for all.
    """

    name: str
    path: Path
    recipe_label: str | None
    context_tokens: int
    rope_switch_tokens: int | None
    weight_bytes_per_token: int | None
    kv_elements_per_token: int | None
    sliding_window: int | None = None


def ready_model(
    model: str | Path | None, recipe: Recipe | None, target: Target | None = None, *, progress: Progress
) -> ReadyModel:
    """Find MODEL; download and convert it into the store first where that is needed; check its files.

    `recipe` None is the usual one of this model, `target` None is OpenVINO. Raises a leaf of `AipcError`, among them
    `UsageError` for a `recipe` that a converted model does not have.
    """
    source = resolve(model)
    path = source.path if source.kind in ("converted", "stored") else None
    if path is not None and recipe is not None:
        _refuse_other_recipe(path, recipe)
    recipe = recipe or Recipe(usual_weights(model))
    path = path or _found_or_converted(source, recipe, target or target_of("openvino"), progress)
    if (path / MANIFEST).is_file():
        _check(path, progress)
    return read_facts(source.name, path)


def _refuse_other_recipe(path: Path, recipe: Recipe) -> None:
    """A comparison of recipes would compare a model with itself if it were passed over in silence."""
    if not (path / MANIFEST).is_file():
        return  # others' directories do not say
    made_by = str(read_manifest(path).recipe.get("label"))
    if not made_by.endswith(recipe.label):
        raise UsageError(
            f"{path} is converted already, and cannot be quantised once more",
            expected=f"the recipe that it has, {made_by}",
            found=recipe.label,
            try_next=f"leave the recipe out, or aipc convert {source_of(path)} OUT --weights {recipe.weights}",
        )


def _check(path: Path, progress: Progress) -> None:
    try:
        verify(path, full=False, progress=at_stage(progress, "check"))
    except IntegrityError as error:
        if path.parent != models_directory():
            raise
        raise IntegrityError(
            error.what,
            expected=error.expected,
            found=error.found,
            try_next=f"aipc models rm {path.name}, then convert the model again",
        ) from error


def _found_or_converted(source: Source, recipe: Recipe, target: Target, progress: Progress) -> Path:
    # What was converted before needs neither the checkpoint nor a network, nor the modules that convert.
    stored = find_stored(origin_of(source), target.label(recipe))
    if stored is not None:
        return stored.path
    if source.kind == "embedded":
        return _converted_guide(source, recipe, target, progress)
    from aipc.conversion import local_checkpoint, write_model

    directory, origin = local_checkpoint(source, progress)
    stored = find_stored(origin, target.label(recipe)) if source.kind == "hub" else None  # its commit is known now
    if stored is not None:
        return stored.path
    return write_model(
        directory, origin, _place(origin, recipe, target), recipe, target=target, force=True, progress=progress
    ).path


def _converted_guide(source: Source, recipe: Recipe, target: Target, progress: Progress) -> Path:
    """Convert the embedded model as one stage; where another process does so already, wait and take its result."""
    from aipc.conversion import local_checkpoint, write_model

    def one_stage(stage: str, done_bytes: int, total_bytes: int) -> None:
        progress("guide", 0, 0)

    one_stage("", 0, 0)
    directory, origin = local_checkpoint(source, progress)
    place = _place(origin, recipe, target)
    is_damaged = place.exists()
    try:
        return write_model(
            directory, origin, place, recipe, target=target, force=is_damaged, wait_s=_GUIDE_WAIT_S, progress=one_stage
        ).path
    except StoreError:
        stored = find_stored(origin, target.label(recipe))
        if stored is None:
            raise
        return stored.path


def _place(origin: Origin, recipe: Recipe, target: Target) -> Path:
    return model_path(name_for(origin, target.label(recipe)), models_dir=models_directory())


def read_facts(name: str, path: Path) -> ReadyModel:
    """Facts from the manifest and config.json; a directory that others made has only the latter."""
    manifest = read_manifest(path) if (path / MANIFEST).is_file() else None
    architecture, context_tokens = _architecture(path)
    return ReadyModel(
        name=name,
        path=path,
        recipe_label=str(manifest.recipe.get("label")) if manifest else None,
        context_tokens=manifest.context_tokens if manifest else context_tokens,
        rope_switch_tokens=architecture.rope_switch_tokens if architecture else None,
        weight_bytes_per_token=manifest.weight_bytes_per_token if manifest else None,
        kv_elements_per_token=architecture.kv_elements_per_token if architecture else None,
        sliding_window=getattr(architecture, "sliding_window", None),  # not every family has one
    )


def _architecture(path: Path) -> tuple[Architecture | None, int]:
    """The network as far as it is known, and its context. ONNX Runtime GenAI's own builder writes no config.json."""
    if not (path / "config.json").is_file() and (path / GENAI_CONFIG).is_file():
        model = ConfigFile.load(path / GENAI_CONFIG).section("model")
        return None, _FALLBACK_CONTEXT_TOKENS if model is None else model.count("context_length")
    config = ConfigFile.load(path / "config.json")
    try:
        architecture = read_architecture(config)
    except UnsupportedModelError:
        architecture = None  # others' directories may hold families that aipc does not convert
    return architecture, config.count("max_position_embeddings", default=_FALLBACK_CONTEXT_TOKENS)
