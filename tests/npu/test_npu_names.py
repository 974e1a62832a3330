"""The NPU library's names, where PyTorch and transformers are not needed, or are missing."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import aipc.npu
from aipc.engines.openvino_lengths import StaticLengths
from aipc.errors import AipcError, ContextLengthError, UnsupportedModelError, UsageError
from aipc.npu import NPUAutoModel, NPUModel, NPUModelForSeq2SeqLM, float16, int4, int8
from aipc.npu.checks import check_ids, check_static
from aipc.npu.compiler import CompilerConfig


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout


def test_the_names_are_the_librarys_and_the_config() -> None:
    library = ["compile", "int4", "int8", "float16", "NPUModel", "NPUAutoModel", "NPUModelForCausalLM"]
    assert sorted([*library, "NPUModelForSeq2SeqLM", "CompilerConfig"]) == sorted(aipc.npu.__all__) == dir(aipc.npu)
    with pytest.raises(AttributeError, match="'NPUModelForPoetry'"):
        _ = aipc.npu.NPUModelForPoetry  # type: ignore[attr-defined]


def test_importing_it_is_enough_for_the_compilers_module() -> None:
    assert (
        run_python("import aipc.npu as library; print(library.compiler.CompilerConfig.__name__)") == "CompilerConfig\n"
    )


def test_importing_it_and_choosing_a_dtype_imports_neither_pytorch_nor_openvino() -> None:
    code = (
        "import json, sys\n"
        "from aipc.npu import compile, float16, int4, int8\n"
        "from aipc.npu.compiler import CompilerConfig\n"
        "CompilerConfig(dtype=int4).precision\n"
        "print(json.dumps([name for name in ('torch', 'transformers', 'openvino') if name in sys.modules]))"
    )
    assert json.loads(run_python(code)) == []


@pytest.mark.parametrize("package", ["torch", "transformers"])
@pytest.mark.parametrize("use", ["NPUModelForCausalLM", "compile(None, CompilerConfig())"])
def test_without_the_extra_an_error_says_which_pip_install_brings_it(package: str, use: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import aipc.npu\n"
        "from aipc.errors import MissingPackageError\n"
        "from aipc.npu import CompilerConfig\n"
        f"try: aipc.npu.{use}\n"
        "except MissingPackageError as error: print(error)"
    )
    said = run_python(code)
    assert 'pip install "aipc[hf]"' in said
    assert "torch cannot be imported" in said or f"{package} cannot be imported" in said


class Torch:
    """A stand-in for one of PyTorch's dtypes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"torch.{self.name}"


def test_a_dtype_is_a_symmetric_recipe() -> None:
    assert [dtype.recipe.label for dtype in (int4, int8, float16)] == ["int4-g128-sym", "int8-sym", "fp16"]
    assert CompilerConfig().precision is float16
    assert CompilerConfig(dtype=Torch("float16")).precision is float16
    assert CompilerConfig(dtype=Torch("int8"), use_to=True).precision is int8


@pytest.mark.parametrize("dtype", ["int4", Torch("bfloat16"), Torch("float32"), None, 4])
def test_a_bad_dtype_is_a_runtime_error_as_the_library_raised_and_one_of_aipcs(dtype: object) -> None:
    with pytest.raises(RuntimeError, match="int4, int8 or float16") as caught:
        CompilerConfig(dtype=dtype)
    assert isinstance(caught.value, AipcError)


@pytest.mark.parametrize("kind", [NPUModel, NPUAutoModel, NPUModelForSeq2SeqLM])
def test_classes_without_models_say_what_to_use(kind: type[NPUModel]) -> None:
    assert inspect.getdoc(kind)
    with pytest.raises(UnsupportedModelError, match=f"{kind.__name__} cannot load t5(.|\n)*NPUModelForCausalLM"):
        kind.from_pretrained("t5", CompilerConfig(), use_cache=True)


def test_ids_of_another_model_are_refused() -> None:
    import numpy as np

    check_ids(np.array([[0, 9]]), vocabulary_tokens=10)
    for wrong in ([[0, 10]], [[-1, 2]], [[]], [1, 2]):
        with pytest.raises(UsageError, match="input_ids"):
            check_ids(np.array(wrong, np.int64), vocabulary_tokens=10)


def test_longrope_does_not_pass_its_original_context_in_chunks() -> None:
    chunked = StaticLengths(prompt_tokens=16, response_tokens=4, chunk_tokens=8)
    step = {"batch": 1, "past_tokens": 0, "kept": 1}
    check_static(chunked, new_tokens=12, rope_switch_tokens=12, **step)
    with pytest.raises(ContextLengthError, match="original context"):
        check_static(chunked, new_tokens=13, rope_switch_tokens=12, **step)
    check_static(StaticLengths(16, 4), new_tokens=13, rope_switch_tokens=12, **step)


def test_an_npu_takes_a_prompt_and_then_single_tokens_within_its_lengths() -> None:
    lengths = StaticLengths(prompt_tokens=8, response_tokens=4)
    check_static(lengths, batch=1, new_tokens=8, past_tokens=0, kept=1)
    check_static(lengths, batch=1, new_tokens=1, past_tokens=11, kept=0)
    refused = {
        "one sequence": {"batch": 2},
        "continues by one token": {"new_tokens": 2, "past_tokens": 3},
        "last token only": {"kept": 0},
    }
    usual = {"batch": 1, "new_tokens": 8, "past_tokens": 0, "kept": 1}
    for said, changes in refused.items():
        with pytest.raises(UsageError, match=said):
            check_static(lengths, **{**usual, **changes})
    for changes in ({"new_tokens": 9}, {"new_tokens": 1, "past_tokens": 12}):
        with pytest.raises(ContextLengthError):
            check_static(lengths, **{**usual, **changes})
