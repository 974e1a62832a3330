"""`aipc run`, `aipc chat` and `aipc models` with models for ONNX Runtime."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Aipc
from onnx_models import convert_to_onnx, genai_or_skip

from aipc.store import models

genai_or_skip()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint_dir: Path) -> Path:
    return convert_to_onnx(tiny_checkpoint_dir, tmp_path_factory.mktemp("onnx") / "model", "int8")


@pytest.fixture
def model_dir(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def test_run_names_the_engine_and_the_device_that_ran(aipc: Aipc, model_dir: Path) -> None:
    result = aipc("run", "-m", model_dir, "--max-tokens", 8, "Hi")
    assert result.code == 0
    assert "CPU (" in result.err and ") by onnx: " in result.err
    document = json.loads(aipc("run", "--json", "-m", model_dir, "--max-tokens", 8, "Hi").out)
    assert document["text"] == result.out.removesuffix("\n")
    assert (document["statistics"]["engine"], document["statistics"]["device"]) == ("onnx", "CPU")
    assert document["statistics"]["bytes_per_token"] > 0


def test_chat_talks(aipc: Aipc, model_dir: Path) -> None:
    result = aipc("chat", "-m", model_dir, "--max-tokens", 4, stdin=b"Hi\nAnd?\n")
    assert result.code == 0
    assert result.err.count("by onnx") == 2


def test_a_checkpoint_is_converted_once_for_each_engine(aipc: Aipc, tiny_checkpoint_dir: Path) -> None:
    words = ("run", "-m", tiny_checkpoint_dir, "--weights", "int8", "--max-tokens", 8, "Hi")
    by_onnx, by_openvino, again = aipc(*words, "--engine", "onnx"), aipc(*words), aipc(*words, "--engine", "onnx")
    assert [one.code for one in (by_onnx, by_openvino, again)] == [0, 0, 0]
    assert (" by onnx: " in by_onnx.err, " by openvino: " in by_openvino.err) == (True, True)
    assert again.out == by_onnx.out
    names = [model.name for model in models()]
    assert names == ["tiny-phi3-int8-asym", "tiny-phi3-onnx-cpu-int8-asym"]
    assert " by onnx: " in aipc("run", "-m", names[1], "--max-tokens", 2, "Hi").err
    assert aipc("models", "verify", names[1]).code == 0
    assert names[1] in aipc("models").out
    assert aipc("models", "rm", names[1]).code == 0
    assert [model.name for model in models()] == names[:1]


@pytest.mark.parametrize(("device", "option"), [("cpu", ""), ("cuda", " --device cuda")])
def test_convert_tells_the_command_that_runs_the_result(
    aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path, device: str, option: str
) -> None:
    words = ("--to", "onnx", "--device", device, "--weights", "int8")
    result = aipc("convert", tiny_checkpoint_dir, tmp_path / "out", *words)
    assert f'aipc run -m {tmp_path / "out"}{option} "' in result.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--ov-config", "NUM_STREAMS=1"), 2, "ov-config"),
        (("--engine", "openvino"), 2, "no model for the openvino engine"),
        (("--engine", "llama"), 2, "openvino or onnx"),
        (("--engine", "openvino", "--device", "cuda"), 2, "--engine openvino"),
        (("--device", "npu", "--rehearse"), 1, "none of ONNX Runtime's"),
        (("--device", "cpu.1"), 1, "cpu.1"),
    ],
)
def test_what_does_not_go_together_is_said(
    aipc: Aipc, model_dir: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    result = aipc("run", "-m", model_dir, *words, "Hi")
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert len(result.err.splitlines()) <= 2


@pytest.mark.parametrize("damage", ["truncated", "empty"])
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "genai_config.json", "config.json"])
@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_damaged_file_is_an_error_that_names_it_and_what_to_do(
    aipc: Aipc, model_dir: Path, name: str, damage: str, has_manifest: bool
) -> None:
    if not has_manifest:
        (model_dir / "aipc.json").unlink()
    os.truncate(model_dir / name, 100 if damage == "truncated" else 0)
    result = aipc("run", "-m", model_dir, "Hi")
    assert (result.code, result.out) == (1, "")
    assert name in result.err.splitlines()[0]
    assert result.err.splitlines()[-1].startswith("try: ")


def test_verify_finds_one_flipped_bit(aipc: Aipc, tiny_checkpoint_dir: Path) -> None:
    aipc("run", "-m", tiny_checkpoint_dir, "--engine", "onnx", "--weights", "int8", "--max-tokens", 1, "Hi")
    (stored,) = models()
    data = stored.path / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    result = aipc("models", "verify", stored.name)
    assert result.code == 1
    assert "model.onnx.data" in result.err


@pytest.mark.parametrize(("platform", "command"), [("linux", "aipc models check"), ("win32", "aipc run -m")])
def test_a_directory_for_another_pc_is_to_be_checked_next(
    aipc: Aipc,
    tiny_checkpoint_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    command: str,
) -> None:
    monkeypatch.setattr("aipc.cli.convert.sys", SimpleNamespace(platform=platform))
    result = aipc("convert", tiny_checkpoint_dir, tmp_path / "out", "--to", "onnx", "--device", "directml")
    assert f"next: {command} {tmp_path / 'out'} --device directml" in result.err
    if command == "aipc models check":
        assert aipc("models", "check", tmp_path / "out", "--device", "directml").code == 0
