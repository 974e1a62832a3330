"""ONNX Runtime GenAI directories, one for each execution provider: model.onnx, its data, and genai_config.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from aipc import __version__
from aipc.checkpoint import Checkpoint
from aipc.errors import MissingPackageError, RecipeError
from aipc.graph.inventory import Role, WeightUse
from aipc.graph.onnx.provider import PROVIDERS, Provider
from aipc.graph.onnx.weights import weight_bytes
from aipc.plan import Plan
from aipc.quant import PER_CHANNEL, Scheme
from aipc.quant.fp16 import Fp16
from aipc.quant.fp32 import Fp32
from aipc.quant.int4 import Int4
from aipc.quant.int8 import Int8
from aipc.quant.recipe import Recipe
from aipc.store.model_files import GENAI_CONFIG
from aipc.targets import Drawing
from aipc.tokenizer.tokenizer_json import check_tokenizer

MODEL_FILE = "model.onnx"
_ABOUT_GRAPH_BYTES = 2 * 1024 * 1024
_INT8_GROUP_SIZES = (128, 64, 32, 16)  # the first that divides is taken where the recipe leaves it open


@dataclass(frozen=True)
class OnnxTarget:
    """The recipes that a provider's kernels take: all blocks are powers of two, and the CPU computes in FP32 alone."""

    device: str = "cpu"
    data_file: str = "model.onnx.data"

    @property
    def provider(self) -> Provider:
        return PROVIDERS[self.device]

    @property
    def _plain(self) -> Scheme:
        """Weights as the provider computes in."""
        return Fp16() if self.provider.half else Fp32()

    def check(self, recipe: Recipe) -> None:
        if recipe.group_size == PER_CHANNEL:
            raise RecipeError(
                f"--group-size {PER_CHANNEL}",
                expected="groups of 32, 64 or 128 columns, as ONNX Runtime has none of a whole row",
                try_next="--group-size 128",
            )
        plain = self._plain.label
        if recipe.weights not in (plain, "int8", "int4"):
            raise RecipeError(
                f"--weights {recipe.weights}",
                expected=f"{plain}, int8 or int4: that is what ONNX Runtime's kernels for {self.device} take",
                try_next=f"--weights {plain}",
            )

    def fitted(self, use: WeightUse, scheme: Scheme) -> Scheme:
        plain = self._plain
        if use.is_norm:
            return plain
        if Role.EMBEDDING in use.roles and not self.provider.gathers_codes:
            # A tied head goes with it: it is the same weight.
            return plain
        return self._in_blocks(use, scheme)

    def _in_blocks(self, use: WeightUse, scheme: Scheme) -> Scheme:
        if not isinstance(scheme, (Int4, Int8)):
            return scheme
        columns = use.shape[1]
        fitting = [size for size in _INT8_GROUP_SIZES if columns % size == 0]
        if isinstance(scheme, Int8) and scheme.group_size == PER_CHANNEL and fitting:
            return replace(scheme, group_size=fitting[0])
        if not fitting:
            raise RecipeError(
                f"weight {use.name}",
                expected="columns that a group of 16 divides, ONNX Runtime's smallest",
                found=f"{columns} columns",
                try_next=f"--weights {self._plain.label}",
            )
        return scheme

    def weight_bytes(self, use: WeightUse, scheme: Scheme) -> int:
        return weight_bytes(use.weight, scheme, half=self.provider.half)

    def label(self, recipe: Recipe) -> str:
        return f"onnx-{self.device}-{recipe.label}"

    def draw(self, plan: Plan, checkpoint: Checkpoint) -> Drawing:
        try:
            from aipc.graph.onnx.model import OnnxGraph
        except ModuleNotFoundError as error:
            if error.name != "onnx":
                raise
            raise MissingPackageError(
                "The onnx package is missing, which writes ONNX models", try_next='pip install "aipc[onnx]"'
            ) from error
        from aipc.graph.onnx.genai_config import genai_config

        graph = OnnxGraph(plan.schemes, self.provider, plan.architecture.context_tokens)
        plan.architecture.describe(graph)
        model = graph.finish(version=__version__, notes={"recipe": self.label(plan.recipe)})
        config = genai_config(plan.architecture, checkpoint, self.provider)

        def write_graph(directory: Path) -> None:
            (directory / MODEL_FILE).write_bytes(model.proto.SerializeToString())
            text = json.dumps(config, indent=4) + "\n"
            (directory / GENAI_CONFIG).write_text(text, encoding="utf-8")

        def check(directory: Path) -> None:
            check_tokenizer(checkpoint.path)  # it is used as it is

        return Drawing(model.regions, model.data_bytes, _ABOUT_GRAPH_BYTES, 0, write_graph, check)
