"""How a model is compiled: the NPU library's `CompilerConfig`, and `compile` for a model that PyTorch holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aipc.errors import UsageError
from aipc.npu.dtypes import Dtype, checked_dtype, float16

if TYPE_CHECKING:
    from aipc.npu.causal_lm import NPUModelForCausalLM

__all__ = ["CompilerConfig", "compile"]


@dataclass
class CompilerConfig:
    """The weights' precision: `int4`, `int8` or `float16` of aipc.npu, or PyTorch's float16 or int8.

    `use_to` chose how the NPU library moved a model to its device; here both do the same. Raises
    `UnsupportedDtypeError`, a `RuntimeError`, for another dtype, and `UsageError` for `training`.
    """

    use_to: bool = False
    dtype: Any = float16
    training: bool = False

    def __post_init__(self) -> None:
        checked_dtype(self.dtype)
        if self.training:
            raise UsageError("CompilerConfig's training", expected="False: these models only generate", found="True")

    @property
    def precision(self) -> Dtype:
        return checked_dtype(self.dtype)


def checked_config(config: object) -> CompilerConfig:
    """Raises `UsageError` for what is no `CompilerConfig`."""
    if not isinstance(config, CompilerConfig):
        raise UsageError("config", expected="a CompilerConfig of aipc.npu.compiler", found=f"a {type(config).__name__}")
    return config


def compile(
    model: Any,
    config: CompilerConfig,
    *,
    device: str = "npu",
    rehearse: bool = False,
    properties: Mapping[str, str] | None = None,
) -> NPUModelForCausalLM:
    """A causal language model of transformers, quantised and on the device. `model` is not changed.

    Its state is written to a temporary checkpoint and converted from there, so it takes disk space twice for a while,
    and memory for both models. `device`, `rehearse` and `properties` are those of
    `NPUModelForCausalLM.from_pretrained`, which raises the same. Raises `UnsupportedModelError` for a model that is not
    transformers' or not of a family that aipc converts.
    """
    from aipc.npu.packages import check_packages

    check_packages()
    from aipc.npu.memory import compiled

    return compiled(model, checked_config(config), device=device, rehearse=rehearse, properties=properties or {})
