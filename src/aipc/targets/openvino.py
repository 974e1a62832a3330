"""OpenVINO directories: one graph for CPU, GPU and NPU, and the tokenizer as two graphs of its own."""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from aipc import __version__
from aipc.checkpoint import Checkpoint
from aipc.errors import RecipeError, StoreError
from aipc.graph.inventory import WeightUse
from aipc.graph.openvino import OpenVinoGraph
from aipc.graph.openvino.weights import weight_bytes
from aipc.plan import Plan
from aipc.quant import PER_CHANNEL, Scheme
from aipc.quant.recipe import Recipe
from aipc.store.model_files import OPENVINO_BIN, OPENVINO_XML
from aipc.targets import Drawing

_TOKENIZER_IR_FACTOR = 3  # the two tokenizer IRs take up to about this many times tokenizer.json


@dataclass(frozen=True)
class OpenVinoTarget:
    """Every recipe but FP32 weights, and INT8 with one scale a row."""

    data_file: str = OPENVINO_BIN

    def check(self, recipe: Recipe) -> None:
        if recipe.weights == "fp32":
            raise RecipeError(
                "--weights fp32",
                expected="fp16, int8 or int4 for an OpenVINO directory, which computes in FP32 from FP16 weights",
                try_next="--weights fp16, or --to onnx",
            )
        if recipe.weights == "int8" and recipe.group_size not in (None, PER_CHANNEL):
            raise RecipeError(
                f"--group-size {recipe.group_size}",
                expected="INT8 with one scale a row for an OpenVINO directory",
                try_next="leave --group-size out, or use it with --weights int4",
            )

    def fitted(self, use: WeightUse, scheme: Scheme) -> Scheme:
        return scheme

    def weight_bytes(self, use: WeightUse, scheme: Scheme) -> int:
        return sum(weight_bytes(use.weight, scheme))

    def label(self, recipe: Recipe) -> str:
        return recipe.label

    def draw(self, plan: Plan, checkpoint: Checkpoint) -> Drawing:
        graph = OpenVinoGraph(plan.schemes)
        plan.architecture.describe(graph)
        ir = graph.finish(name="aipc", notes={"version": __version__, "recipe": plan.recipe.label})
        tokenizer_bytes = _TOKENIZER_IR_FACTOR * plan.tokenizer_bytes

        def write_graph(directory: Path) -> None:
            (directory / OPENVINO_XML).write_text(ir.xml, encoding="utf-8")

        def write_tokenizer(directory: Path) -> None:
            from aipc.graph.openvino.tokenizer import write_openvino_tokenizer

            try:
                write_openvino_tokenizer(checkpoint.path, directory)
            except RuntimeError as error:  # OpenVINO's writer failed, and does not say at what
                if shutil.disk_usage(directory).free < tokenizer_bytes:
                    raise OSError(errno.ENOSPC, str(error)) from error
                raise StoreError(f"{directory} cannot be written: {error}") from error

        return Drawing(ir.regions, ir.bin_bytes, len(ir.xml), tokenizer_bytes, write_graph, write_tokenizer)
