"""`aipc models check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Aipc

from aipc.conversion import convert


@pytest.fixture
def asymmetric_dir(tmp_path: Path, tiny_checkpoint_dir: Path) -> Path:
    return convert(tiny_checkpoint_dir, tmp_path / "asym", weights="int4", symmetric=False).path


def test_check_exits_with_0_for_a_device_that_takes_the_model(aipc: Aipc, asymmetric_dir: Path) -> None:
    result = aipc("models", "check", asymmetric_dir, "--device", "cpu")
    assert result.code == 0
    assert f"{asymmetric_dir} on cpu: passes" in result.out
    assert result.err == ""


def test_check_exits_with_1_and_names_weights_rule_and_command(
    aipc: Aipc, asymmetric_dir: Path, tiny_checkpoint_dir: Path
) -> None:
    result = aipc("models", "check", asymmetric_dir, "--device", "npu")
    assert result.code == 1
    assert "FAIL  npu/symmetric  model.layers.0.self_attn.qkv_proj.weight" in result.out
    assert "and 3 more" in result.out
    assert f"try: aipc convert {tiny_checkpoint_dir} OUT --weights int4 --group-size 128\n" in result.out


def test_check_in_json_is_one_line_with_every_weight(aipc: Aipc, asymmetric_dir: Path) -> None:
    result = aipc("models", "check", asymmetric_dir, "--device", "npu", "--json")
    assert result.code == 1
    assert result.out.count("\n") == 1
    answer = json.loads(result.out)
    assert (answer["verdict"], answer["device"], answer["kind"]) == ("fails", "npu", "openvino")
    weights = {
        place for finding in answer["findings"] if finding["rule"] == "npu/symmetric" for place in finding["where"]
    }
    assert len(weights) == 8


def test_check_takes_a_stored_models_name(aipc: Aipc, tmp_path: Path, tiny_checkpoint_dir: Path) -> None:
    convert(tiny_checkpoint_dir, tmp_path / "aipc-home" / "models" / "kept", weights="int4")
    assert aipc("models", "check", "kept", "--device", "npu").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("check",),
        ("check", "somewhere"),
        ("check", "somewhere", "--device", "tpu"),
        ("list", "--device", "npu"),
    ],
)
def test_wrong_usage_exits_with_2(aipc: Aipc, words: tuple[str, ...]) -> None:
    result = aipc("models", *words)
    assert (result.code, result.out) == (2, "")


def test_check_of_nothing_exits_with_1(aipc: Aipc, tmp_path: Path) -> None:
    assert aipc("models", "check", tmp_path / "missing", "--device", "npu").code == 1


def test_control_characters_in_a_models_names_do_not_reach_the_terminal(aipc: Aipc, asymmetric_dir: Path) -> None:
    file = asymmetric_dir / "openvino_model.xml"
    text = file.read_text(encoding="utf-8").replace("self_attn.o_proj.weight", "self_attn&#x9B;2J&#10;.weight")
    file.write_text(text, encoding="utf-8")
    result = aipc("models", "check", asymmetric_dir, "--device", "npu")
    assert "\x9b" not in result.out
    assert "\\x9b2J" in result.out
