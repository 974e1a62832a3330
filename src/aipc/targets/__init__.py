"""What a converted directory is for: a format, and what the programs that open it take.

A `Target` stands between the plan of a conversion and the back end that draws the graph, so that neither knows the
other's formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aipc.errors import UsageError
from aipc.graph.data_file import Computed, Literal, Region
from aipc.graph.inventory import WeightUse
from aipc.quant import Scheme
from aipc.quant.recipe import Recipe

if TYPE_CHECKING:
    from aipc.checkpoint import Checkpoint
    from aipc.plan import Plan

FORMATS = ("openvino", "onnx")
ONNX_DEVICES = ("cpu", "directml", "cuda")


@dataclass(frozen=True)
class Drawing:
    """A graph that is drawn, and not yet written. `regions` fill the file of weights, `data_bytes` long.

    `write_graph(directory)` writes the files that describe the network, of about `graph_bytes` together;
    `write_tokenizer(directory)` what else this format needs of the tokenizer, about `tokenizer_bytes`, and raises
    `CheckpointError` for one that aipc could not use.
    """

    regions: Sequence[Region | Literal | Computed]
    data_bytes: int
    graph_bytes: int
    tokenizer_bytes: int
    write_graph: Callable[[Path], None]
    write_tokenizer: Callable[[Path], None]


class Target(Protocol):
    """A format of converted directories, with the device where the format depends on it."""

    @property
    def data_file(self) -> str:
        """Name of the file that holds the weights."""

    def check(self, recipe: Recipe) -> None:
        """Raise `RecipeError` for a choice that no weight of this target can follow."""

    def fitted(self, use: WeightUse, scheme: Scheme) -> Scheme:
        """The scheme that a weight is stored by where the recipe chose `scheme`.

        Raises `RecipeError` naming the nearest recipe that this target takes when it takes no such scheme.
        """

    def weight_bytes(self, use: WeightUse, scheme: Scheme) -> int:
        """Bytes of a weight in the file, scales and zero points counted in."""

    def label(self, recipe: Recipe) -> str:
        """Short name of what is made, used in directory names and manifests."""

    def draw(self, plan: Plan, checkpoint: Checkpoint) -> Drawing:
        """The graph of the plan's architecture. Raises `MissingPackageError`."""


def target_of(to: str, device: str | None = None) -> Target:
    """The target that `--to` and `--device` name. Raises `UsageError` for others."""
    if to == "openvino":
        if device is not None:
            raise UsageError(
                f"--device {device}",
                expected="no device: an OpenVINO directory is for CPU, GPU and NPU alike",
                try_next="leave --device out, or convert --to onnx",
            )
        from aipc.targets.openvino import OpenVinoTarget

        return OpenVinoTarget()
    if to != "onnx":
        raise UsageError(f"--to {to}", expected=f"one of {', '.join(FORMATS)}", found=repr(to))
    from aipc.targets.onnx import OnnxTarget

    device = "cpu" if device is None else device
    if device not in ONNX_DEVICES:
        raise UsageError(
            f"--device {device}",
            expected=f"one of {', '.join(ONNX_DEVICES)} with --to onnx",
            found=repr(device),
            try_next="for an Intel NPU or GPU, convert --to openvino",
        )
    return OnnxTarget(device)
