"""From a checkpoint to a converted directory that is absent or whole."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from aipc.checkpoint import Checkpoint
from aipc.config import ConfigFile
from aipc.errors import UsageError
from aipc.graph.data_file import write_data
from aipc.models import Architecture
from aipc.plan import Plan, make_plan
from aipc.progress import Progress, at_stage, silent
from aipc.quant.recipe import Recipe
from aipc.quoting import quoted
from aipc.store import (
    Manifest,
    Origin,
    Source,
    origin_of,
    resolve,
    usual_weights,
    writing,
)
from aipc.targets import Target, target_of

# Travel with the weights, so that any tokenizer library finds what it knows. Never *.py.
_COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


@dataclass(frozen=True)
class Conversion:
    """What was written, and how long it took."""

    path: Path
    plan: Plan
    manifest: Manifest
    seconds: float


def plan_conversion(
    source: str | Path, recipe: Recipe, target: Target | None = None, *, progress: Progress = silent
) -> Plan:
    """What `convert` would do. Downloads a hub checkpoint; writes nothing else."""
    directory, _ = local_checkpoint(resolve(source), progress)
    with Checkpoint(directory) as checkpoint:
        return make_plan(checkpoint, recipe, target)


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    to: str = "openvino",
    device: str | None = None,
    weights: str | None = None,
    group_size: int | None = None,
    ratio: float = 1.0,
    symmetric: bool | None = None,
    all_layers: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> Conversion:
    """Quantise a checkpoint and write it as an OpenVINO directory, or as one of ONNX Runtime GenAI.

    `source` is a checkpoint directory, a hub id, or "guide" for the embedded model. `to` is "openvino" or "onnx",
    which needs `aipc[onnx]` and a `device`: "cpu" (None), "directml" or "cuda". The other arguments are those of
    `Recipe`, where `weights` None is "int4", and "int8" for the guide. `force` replaces a converted model at
    `destination`. Raises a leaf of `AipcError`; then nothing is left at `destination` that was not there before.

    What cannot be noticed: bits of a local checkpoint's weights that changed before it came here, as its files carry
    no hashes. What is noticed too late: a weight file that another program truncates in the milliseconds in which a
    few megabytes of it are mapped and read ends the process (SIGBUS; on Windows such a file cannot be truncated). At
    any other moment it is a `WeightError`, and in both cases nothing half-made is visible.
    """
    recipe = Recipe(usual_weights(source) if weights is None else weights, group_size, ratio, symmetric, all_layers)
    target = target_of(to, device)
    directory, origin = local_checkpoint(resolve(source), progress)
    return write_model(directory, origin, Path(destination), recipe, target=target, force=force, progress=progress)


def local_checkpoint(source: Source, progress: Progress) -> tuple[Path, Origin]:
    """The checkpoint's directory, downloaded if it lies on the hub, and what a manifest records of it."""
    if source.kind == "hub":
        from aipc.store.hub import download

        directory, commit = download(source.name, source.revision, at_stage(progress, "download"))
        return directory, origin_of(replace(source, revision=commit), directory)
    if source.kind in ("checkpoint", "embedded") and source.path is not None:
        return source.path, origin_of(source)
    raise UsageError(
        f"{source.path} is already converted",
        expected="a Hugging Face checkpoint",
        found="a converted model",
        try_next=f'aipc run -m {quoted(source.path)} "…"',
    )


def write_model(
    checkpoint_dir: Path,
    origin: Origin,
    destination: Path,
    recipe: Recipe,
    *,
    target: Target | None = None,
    force: bool = False,
    wait_s: float = 0.0,
    progress: Progress = silent,
) -> Conversion:
    """`convert` for a checkpoint that is a local directory. `wait_s` is the patience with another process that writes
    the same model.
    """
    begun = time.perf_counter()
    _refuse_source_inside(destination, checkpoint_dir)
    with Checkpoint(checkpoint_dir) as checkpoint:
        plan = make_plan(checkpoint, recipe, target)
        drawing = plan.target.draw(plan, checkpoint)
        needed_bytes = drawing.data_bytes + drawing.graph_bytes + drawing.tokenizer_bytes
        needed_bytes += _companion_bytes(checkpoint.path)
        with writing(destination, needed_bytes=needed_bytes, force=force, wait_s=wait_s) as task:
            with ThreadPoolExecutor(1) as beside:
                tokenizer = beside.submit(drawing.write_tokenizer, task.directory)
                advance = _counter(progress, _source_bytes(checkpoint, plan), tokenizer)
                check_progress = at_stage(progress, "verify")
                with task.checked_file(plan.target.data_file, drawing.data_bytes, progress=check_progress) as file:
                    write_data(file, drawing.regions, drawing.data_bytes, checkpoint, plan.threads, advance)
                drawing.write_graph(task.directory)
                _copy_companions(checkpoint, task.directory)
                progress("tokenizer", 0, 0)
                tokenizer.result()
            manifest = Manifest(
                origin=origin,
                recipe=plan.recipe_json,
                model_type=checkpoint.config.text("model_type"),
                context_tokens=plan.architecture.context_tokens,
                weight_bytes_per_token=plan.weight_bytes_per_token,
                files={plan.target.data_file: file.record},
            )
            written = task.commit(manifest)
        return Conversion(task.destination, plan, written, time.perf_counter() - begun)


def write_network(checkpoint_dir: Path, directory: Path, recipe: Recipe) -> Architecture:
    """Quantise a checkpoint without a tokenizer: the graph and the weights of an OpenVINO model, and nothing else.

    `directory` is the caller's, empty, and not the store's: nothing is hashed, and a failure leaves what was written.
    Raises a leaf of `AipcError`.
    """
    with Checkpoint(checkpoint_dir) as checkpoint:
        plan = make_plan(checkpoint, recipe)
        drawing = plan.target.draw(plan, checkpoint)
        with (directory / plan.target.data_file).open("wb", buffering=0) as file:
            write_data(file, drawing.regions, drawing.data_bytes, checkpoint, plan.threads, lambda step_bytes: None)
        drawing.write_graph(directory)
        return plan.architecture


def _refuse_source_inside(destination: Path, checkpoint_dir: Path) -> None:
    """Replacing a model deletes its directory, and would delete the checkpoint with it."""
    inner, outer = checkpoint_dir.resolve(), destination.resolve()
    if outer in inner.parents:
        raise UsageError(
            f"{checkpoint_dir} lies inside {destination}",
            expected="a checkpoint outside the directory to be written",
            try_next="name another directory",
        )


def _source_bytes(checkpoint: Checkpoint, plan: Plan) -> int:
    return sum(checkpoint.stored(planned.use.weight).size_bytes for planned in plan.weights)


def _counter(progress: Progress, total_bytes: int, beside: Future[None]) -> Callable[[int], None]:
    """Counts the weights' bytes. Raises as soon as what goes on beside them has failed: their work would be in vain."""
    done_bytes = 0

    def advance(step_bytes: int) -> None:
        nonlocal done_bytes
        if beside.done():
            beside.result()
        done_bytes += step_bytes
        progress("quantise", done_bytes, total_bytes)

    return advance


def _companion_bytes(directory: Path) -> int:
    present = [directory / name for name in _COMPANIONS if (directory / name).is_file()]
    return sum(file.stat().st_size for file in present)


def _copy_companions(checkpoint: Checkpoint, directory: Path) -> None:
    for name in _COMPANIONS:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, directory / name)
    for name in ("config.json", "tokenizer_config.json"):
        if (checkpoint.path / name).is_file():
            _ease_for_others(checkpoint.path / name, directory / name)


def _ease_for_others(source: Path, file: Path) -> None:
    """Write `file` anew without what keeps other programs from opening it; most files have nothing of the kind.

    Without `auto_map` nobody looks for code beside it. "su" is LongRoPE's first name, which transformers 5 lost.
    """
    before = ConfigFile.load(source).values
    values = {key: value for key, value in before.items() if key != "auto_map"}
    scaling = values.get("rope_scaling")
    if isinstance(scaling, dict) and scaling.get("type") == "su":
        values["rope_scaling"] = {**scaling, "type": "longrope"}
    if values != before:
        file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
