"""What the archived Intel NPU Acceleration Library offered, on aipc's models: one import changes, the rest stays.

    from aipc.npu import NPUModelForCausalLM, int4
    from aipc.npu.compiler import CompilerConfig

    model = NPUModelForCausalLM.from_pretrained(
        "microsoft/Phi-3-mini-4k-instruct", use_cache=True, config=CompilerConfig(dtype=int4)
    ).eval()

The model is one for Hugging Face's `pipeline` and `generate`, and needs `pip install "aipc[hf]"`. It runs on the NPU,
or on the device that was named, and on no other. The names are those of intel-npu-acceleration-library 1.4.0, loaded
when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aipc.npu.causal_lm import NPUModelForCausalLM as NPUModelForCausalLM
    from aipc.npu.compiler import CompilerConfig as CompilerConfig
    from aipc.npu.compiler import compile as compile
    from aipc.npu.dtypes import float16 as float16
    from aipc.npu.dtypes import int4 as int4
    from aipc.npu.dtypes import int8 as int8
    from aipc.npu.unsupported import NPUAutoModel as NPUAutoModel
    from aipc.npu.unsupported import NPUModel as NPUModel
    from aipc.npu.unsupported import NPUModelForSeq2SeqLM as NPUModelForSeq2SeqLM

_HOMES = {
    "CompilerConfig": "aipc.npu.compiler",
    "NPUAutoModel": "aipc.npu.unsupported",
    "NPUModel": "aipc.npu.unsupported",
    "NPUModelForCausalLM": "aipc.npu.causal_lm",
    "NPUModelForSeq2SeqLM": "aipc.npu.unsupported",
    "compile": "aipc.npu.compiler",
    "float16": "aipc.npu.dtypes",
    "int4": "aipc.npu.dtypes",
    "int8": "aipc.npu.dtypes",
}

__all__ = [
    "CompilerConfig",
    "NPUAutoModel",
    "NPUModel",
    "NPUModelForCausalLM",
    "NPUModelForSeq2SeqLM",
    "compile",
    "float16",
    "int4",
    "int8",
]


def __getattr__(name: str) -> object:
    import importlib

    if name == "compiler":  # which importing the library imported as well
        return importlib.import_module("aipc.npu.compiler")
    if name not in _HOMES:
        raise AttributeError(f"module 'aipc.npu' has no attribute {name!r}")
    if name == "NPUModelForCausalLM":  # a class of PyTorch's and transformers'
        from aipc.npu.packages import check_packages

        check_packages()
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
