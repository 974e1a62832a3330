"""The names that programs rely on, and what importing them costs."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

import aipc

# Of the command line alone, and of Python alone.
OUTPUT = {"json", "quiet"}
CALLBACKS = {"progress", "note"}


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert result.stderr == ""
    return result.stdout


def test_the_public_names_are_these() -> None:
    assert aipc.__all__ == ["AipcError", "Answer", "Conversion", "Model", "convert", "load"]
    assert dir(aipc) == sorted(aipc.__all__)


@pytest.mark.parametrize("name", aipc.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(aipc, name).__name__ == name
    assert inspect.getdoc(getattr(aipc, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'generate'"):
        _ = aipc.generate  # type: ignore[attr-defined]


def test_importing_aipc_imports_nothing_else_starts_nothing_and_says_nothing() -> None:
    found = json.loads(
        run_python(
            "import json, sys, threading, aipc\n"
            "mine = [name for name in sys.modules if name.startswith('aipc.')]\n"
            "heavy = [name for name in ('numpy', 'openvino', 'openvino_genai', 'tokenizers', 'huggingface_hub',"
            " 'jinja2', 'rich', 'logging', 'argparse') if name in sys.modules]\n"
            "print(json.dumps([mine, heavy, threading.active_count()]))"
        )
    )
    assert found == [[], [], 1]


@pytest.mark.parametrize("name", ["convert", "load"])
def test_using_the_api_imports_no_engine_before_a_model_is_loaded(name: str) -> None:
    engines = "('openvino', 'openvino_genai', 'openvino_tokenizers', 'rich', 'jinja2', 'huggingface_hub')"
    code = f"import sys, aipc; aipc.{name}; print([name for name in {engines} if name in sys.modules])"
    assert run_python(code).strip() == "[]"


def flags(verb: str) -> dict[str, Any]:
    """The names under which a verb's arguments arrive, and their defaults."""
    parser = argparse.ArgumentParser()
    module: types.ModuleType = importlib.import_module(f"aipc.cli.{verb}")
    module.add_arguments(parser)
    return vars(parser.parse_args(["SOURCE"] if verb == "convert" else []))


def arguments(*functions: Callable[..., Any]) -> dict[str, Any]:
    """The names and defaults of functions' arguments."""
    found = {}
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name != "self":
                found[parameter.name] = parameter.default
    return found


def test_the_flags_of_convert_are_the_arguments_of_convert() -> None:
    assert set(flags("convert")) - OUTPUT - {"dry_run"} == set(arguments(aipc.convert)) - CALLBACKS


def test_the_flags_of_run_are_the_arguments_of_load_and_stream() -> None:
    # --system is a message of the prompt; log-probabilities have no place in a stream of text.
    only_there, only_here = {"system"}, {"logprobs"}
    expected = set(arguments(aipc.load, aipc.Model.stream)) - CALLBACKS - only_here
    assert set(flags("run")) - OUTPUT - only_there == expected


def test_chat_takes_what_run_takes_but_a_prompt_and_its_forms() -> None:
    assert set(flags("run")) - set(flags("chat")) == {"prompt", "raw", "json"}
    assert set(flags("chat")) <= set(flags("run"))


def test_flags_and_arguments_have_the_same_defaults() -> None:
    given = {**flags("convert"), **flags("run")}
    meant = arguments(aipc.convert, aipc.load, aipc.Model.stream)
    shared = (set(given) & set(meant)) - {"source", "destination", "prompt"}
    assert {name: given[name] or None for name in shared} == {name: meant[name] or None for name in shared}


def test_generate_takes_what_stream_takes() -> None:
    assert arguments(aipc.Model.generate) == arguments(aipc.Model.stream)
