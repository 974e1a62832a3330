"""From a checkpoint to an OpenVINO directory that is absent or whole."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from aipc.checkpoint import Checkpoint
from aipc.graph.openvino import Ir, OpenVinoGraph
from aipc.graph.openvino_bin import write_bin
from aipc.plan import Plan, make_plan
from aipc.progress import Progress, at_stage, silent
from aipc.quant.recipe import Recipe
from aipc.store.hashing import FileHasher, FileRecord
from aipc.store.manifest import Manifest
from aipc.store.source import Source, origin_of, resolve
from aipc.store.writing import writing

# Travel with the weights, so that any tokenizer library finds what it knows. Never *.py.
_COMPANIONS = (
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
_TOKENIZER_IR_FACTOR = 3  # the two tokenizer IRs take up to about this many times tokenizer.json


@dataclass(frozen=True)
class Conversion:
    """What was written, and how long it took."""

    path: Path
    plan: Plan
    manifest: Manifest
    seconds: float


def plan_conversion(source: str | Path, recipe: Recipe, *, progress: Progress = silent) -> Plan:
    """What `convert` would do. Downloads a hub checkpoint; writes nothing else."""
    with open_checkpoint(resolve(str(source)), progress=progress) as checkpoint:
        return make_plan(checkpoint, recipe)


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    weights: str = "int4",
    group_size: int | None = None,
    ratio: float = 1.0,
    symmetric: bool | None = None,
    all_layers: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> Conversion:
    """Quantise a checkpoint and write it as an OpenVINO directory.

    `source` is a checkpoint directory or a hub id; the other arguments are those of `Recipe`. `force` replaces a
    converted model at `destination`. Raises a leaf of `AipcError`; then nothing is left at `destination` that was not
    there before.
    """
    recipe = Recipe(weights, group_size, ratio, symmetric, all_layers)
    return convert_source(resolve(str(source)), Path(destination), recipe, force=force, progress=progress)


def convert_source(
    source: Source, destination: Path, recipe: Recipe, *, force: bool = False, progress: Progress = silent
) -> Conversion:
    """`convert` with the source and the recipe already read."""
    begun = time.perf_counter()
    with open_checkpoint(source, progress=progress) as checkpoint:
        plan = make_plan(checkpoint, recipe)
        ir = _graph(plan)
        needed_bytes = ir.bin_bytes + len(ir.xml) + _companion_bytes(checkpoint.path)
        with writing(destination, needed_bytes=needed_bytes, force=force) as task:
            record = _write_weights(task.directory, ir, checkpoint, plan, progress)
            (task.directory / "openvino_model.xml").write_text(ir.xml, encoding="utf-8")
            _copy_companions(checkpoint, task.directory)
            _write_tokenizer(checkpoint.path, task.directory, progress)
            manifest = Manifest(
                origin=origin_of(source, checkpoint.path),
                recipe=recipe.as_json(),
                model_type=checkpoint.config.text("model_type"),
                context_tokens=plan.architecture.context_tokens,
                weight_bytes_per_token=plan.weight_bytes_per_token,
                files={"openvino_model.bin": record},
            )
            written = task.commit(manifest, progress=at_stage(progress, "verify"))
        return Conversion(task.destination, plan, written, time.perf_counter() - begun)


def open_checkpoint(source: Source, *, progress: Progress) -> Checkpoint:
    """Open the checkpoint that `source` names, after downloading it if it lies on the hub."""
    if source.kind == "checkpoint" and source.path is not None:
        return Checkpoint(source.path)
    raise NotImplementedError


def _graph(plan: Plan) -> Ir:
    graph = OpenVinoGraph(plan.schemes)
    plan.architecture.describe(graph)
    return graph.finish(name="aipc", notes={"version": metadata.version("aipc"), "recipe": plan.recipe.label})


def _write_weights(directory: Path, ir: Ir, checkpoint: Checkpoint, plan: Plan, progress: Progress) -> FileRecord:
    hasher = FileHasher(ir.bin_bytes)
    with (directory / "openvino_model.bin").open("wb", buffering=0) as file:
        write_bin(
            file,
            ir,
            checkpoint,
            threads=plan.threads,
            hash_bytes=hasher.update,
            advance=_counter(progress, "quantise", sum(_stored_bytes(checkpoint, plan))),
        )
    return hasher.result()


def _counter(progress: Progress, stage: str, total_bytes: int) -> Callable[[int], None]:
    done_bytes = 0

    def advance(step_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += step_bytes
        progress(stage, done_bytes, total_bytes)

    return advance


def _stored_bytes(checkpoint: Checkpoint, plan: Plan) -> list[int]:
    return [checkpoint.stored(planned.use.weight).size_bytes for planned in plan.weights]


def _companion_bytes(directory: Path) -> int:
    present = [directory / name for name in _COMPANIONS if (directory / name).is_file()]
    sizes = {file.name: file.stat().st_size for file in present}
    return sum(sizes.values()) + _TOKENIZER_IR_FACTOR * sizes.get("tokenizer.json", 0)


def _copy_companions(checkpoint: Checkpoint, directory: Path) -> None:
    for name in _COMPANIONS:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, directory / name)
    # Without auto_map nobody who opens the result looks for code beside it.
    config = {key: value for key, value in checkpoint.config.values.items() if key != "auto_map"}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _write_tokenizer(source: Path, directory: Path, progress: Progress) -> None:
    from aipc.graph.openvino_tokenizer import write_openvino_tokenizer

    progress("tokenizer", 0, 0)
    write_openvino_tokenizer(source, directory)
