"""The precisions that the NPU library named, and the recipes that they are here."""

from __future__ import annotations

from dataclasses import dataclass

from aipc.errors import RecipeError
from aipc.quant import PER_CHANNEL
from aipc.quant.recipe import DEFAULT_GROUP_SIZE, Recipe


@dataclass(frozen=True)
class Dtype:
    """A precision of the weights; `bits` of one of them. `recipe` is what a checkpoint is converted by."""

    name: str
    bits: int
    recipe: Recipe

    def __repr__(self) -> str:
        return self.name


# Symmetric all of them, as an NPU wants it. The library's INT4 had one scale a row; groups lose less, and the NPU takes
# them. Embedding and head of an int4 model are INT8.
int4 = Dtype("int4", 4, Recipe("int4", DEFAULT_GROUP_SIZE, symmetric=True))
int8 = Dtype("int8", 8, Recipe("int8", PER_CHANNEL, symmetric=True))
float16 = Dtype("float16", 16, Recipe("fp16"))

_TORCH = {"torch.float16": float16, "torch.int8": int8}  # by their text, so that PyTorch is not imported for it


class UnsupportedDtypeError(RecipeError, RuntimeError):
    """A dtype that no model is converted to. A `RuntimeError` too, which is what the NPU library raised."""


def checked_dtype(dtype: object) -> Dtype:
    """`dtype`, or aipc's of the same meaning for one of PyTorch's. Raises `UnsupportedDtypeError`."""
    found = dtype if isinstance(dtype, Dtype) else _TORCH.get(str(dtype))
    if found is None:
        raise UnsupportedDtypeError(
            "CompilerConfig's dtype",
            expected="int4, int8 or float16 of aipc.npu, torch.float16 or torch.int8",
            found=repr(dtype),
        )
    return found
