"""`aipc convert`, `aipc models` and `aipc devices`."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Aipc
from tiny_checkpoint import write_checkpoint

from aipc.ready import read_facts
from aipc.store import Verification, models, verify


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.fixture
def stored(aipc: Aipc, tiny_checkpoint_dir: Path) -> str:
    """The name of the only model in the store."""
    assert aipc("run", "-q", "-m", tiny_checkpoint_dir, "--weights", "int8", "--max-tokens", 1, "Hi").code == 0
    return models()[0].name


def test_convert_prints_the_path_and_says_the_rest_on_stderr(
    aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path
) -> None:
    result = aipc("convert", tiny_checkpoint_dir, "--weights", "int8", tmp_path / "out")
    assert (result.code, result.out) == (0, f"{tmp_path / 'out'}\n")
    assert "int8-asym" in result.err
    assert f"next: aipc run -m {tmp_path / 'out'}" in result.err


def test_the_line_after_next_runs(aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    aipc("convert", tiny_checkpoint_dir, tmp_path / "out", "--weights", "int8", "-q")
    result = aipc("run", "-m", tmp_path / "out", "Can you introduce yourself?", "--max-tokens", 3)
    assert result.code == 0


def test_quiet_converts_without_a_word(aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    assert aipc("convert", "-q", tiny_checkpoint_dir, tmp_path / "out").err == ""


def test_convert_in_json_is_one_line(aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    result = aipc("convert", tiny_checkpoint_dir, tmp_path / "out", "--group-size", 32, "--asym", "--json")
    assert (result.code, result.err, result.out.count("\n")) == (0, "", 1)
    document = json.loads(result.out)
    assert document["path"] == str(tmp_path / "out")
    assert document["recipe"]["group_size"] == 32
    written = sum(file.stat().st_size for file in (tmp_path / "out").iterdir() if file.name != "aipc.json")
    assert document["size_bytes"] == written


def test_a_dry_run_writes_nothing_and_tells_every_weight(aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    result = aipc("convert", tiny_checkpoint_dir, "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert "model.layers.1.mlp.down_proj" in result.out
    assert "bits per weight" in result.out
    plan = json.loads(aipc("convert", tiny_checkpoint_dir, tmp_path / "out", "--dry-run", "--json").out)
    assert plan
    assert not (tmp_path / "out").exists()
    assert models() == []


@pytest.mark.parametrize(
    "flags", [["--weights", "int8", "--group-size", "32"], ["--ratio", "2"], ["--sym", "--asym"], ["--group-size", "7"]]
)
def test_a_recipe_that_is_none_is_wrong_usage_and_writes_nothing(
    aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path, flags: list[str]
) -> None:
    result = aipc("convert", tiny_checkpoint_dir, tmp_path / "out", *flags)
    assert (result.code, result.out) == (2, "")
    assert not (tmp_path / "out").exists()


def test_a_destination_is_needed_and_replaced_only_by_force(
    aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path
) -> None:
    assert aipc("convert", tiny_checkpoint_dir).code == 2
    out = tmp_path / "out"
    assert aipc("convert", tiny_checkpoint_dir, out, "--weights", "fp16").code == 0
    refused = aipc("convert", tiny_checkpoint_dir, out, "--weights", "int8")
    assert (refused.code, refused.out) == (1, "")
    assert "--force" in refused.err
    assert aipc("convert", tiny_checkpoint_dir, out, "--weights", "int8", "--force").code == 0
    assert read_facts("out", out).recipe_label == "int8-asym"


def test_an_empty_store_says_how_to_fill_it(aipc: Aipc) -> None:
    result = aipc("models")
    assert (result.code, result.out) == (0, "")
    assert "try: aipc run" in result.err
    assert json.loads(aipc("models", "--json").out)["models"] == []


def test_models_lists_a_line_each_and_their_columns_align(aipc: Aipc, tmp_path: Path) -> None:
    for name in ("a", "a-rather-longer-name"):
        checkpoint = write_checkpoint(tmp_path / name)
        aipc("run", "-q", "-m", checkpoint, "--weights", "int8", "--max-tokens", 1, "Hi")
    result = aipc("models")
    assert (result.code, result.err) == (0, "")
    short, long = result.out.splitlines()
    assert short.split()[0] == "a-int8-asym"
    assert short.index(" MB") == long.index(" MB")
    assert short.endswith(str(tmp_path / "a"))


def test_models_in_json_is_one_line(aipc: Aipc, stored: str) -> None:
    result = aipc("models", "--json")
    assert (result.err, result.out.count("\n")) == ("", 1)
    (model,) = json.loads(result.out)["models"]
    assert (model["name"], model["state"], model["problem"]) == (stored, "ok", None)


def test_verify_reads_every_byte(aipc: Aipc, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def verify_in_full(path: Path, *, full: bool = True, **options: Any) -> Verification:
        assert full  # the check of a load reads samples of large files, which a small model does not have
        return verify(path, **options)

    monkeypatch.setattr("aipc.cli.models.verify", verify_in_full)
    result = aipc("models", "verify", stored)
    assert (result.code, result.err) == (0, "")
    size_bytes = models()[0].size_bytes
    assert f"{size_bytes:,} bytes" in result.out
    assert json.loads(aipc("models", "verify", stored, "--json").out)["read_bytes"] == size_bytes


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_verify_names_the_file_with_a_flipped_byte(aipc: Aipc, stored: str, flags: list[str]) -> None:
    weights = models()[0].path / "openvino_model.bin"
    flip(weights, weights.stat().st_size // 2)
    result = aipc("models", "verify", stored, *flags)
    assert (result.code, result.out) == (1, "")
    assert "openvino_model.bin" in result.err
    assert result.err.splitlines()[-1].startswith(f"try: aipc models rm {stored}")


def test_verify_takes_a_directory_and_tells_of_files_that_nobody_recorded(
    aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path
) -> None:
    aipc("convert", tiny_checkpoint_dir, tmp_path / "out", "-q")
    (tmp_path / "out" / "notes.txt").write_text("mine", encoding="utf-8")
    result = aipc("models", "verify", tmp_path / "out")
    assert result.code == 0
    assert result.err == "not in the manifest, ignored: notes.txt\n"


@pytest.mark.parametrize("action", ["verify", "rm"])
@pytest.mark.parametrize(("name", "code"), [([], 2), (["nowhere"], 1), (["../nowhere"], None), (["org/name"], None)])
def test_a_name_that_is_not_stored_is_refused(
    aipc: Aipc, stored: str, action: str, name: list[str], code: int | None
) -> None:
    result = aipc("models", action, *name)
    assert result.code in ((1, 2) if code is None else (code,))
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert "try: " in result.err
    assert len(models()) == 1


def test_rm_removes_a_model(aipc: Aipc, stored: str) -> None:
    path = models()[0].path
    result = aipc("models", "rm", stored)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"removed {stored}, ")
    assert models() == [] and not path.exists()
    assert aipc("models", "rm", stored).code == 1


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "MODEL", "OUT"],
        ["convert", "CHECKPOINT"],
        ["run", "-m", "MODEL/config.json", "Hi"],
    ],
)
def test_the_command_that_a_message_suggests_holds_the_path_as_one_word(
    aipc: Aipc, tiny_model_dir: Path, tmp_path: Path, words: list[str]
) -> None:
    places = {"MODEL": tmp_path / "my models" / "tiny phi3", "CHECKPOINT": tmp_path / "my checkpoint"}
    shutil.copytree(tiny_model_dir, places["MODEL"])
    typed = [word.replace("MODEL", str(places["MODEL"])) for word in words]
    typed = [word.replace("CHECKPOINT", str(places["CHECKPOINT"])) for word in typed]
    advice = aipc(*typed).err.splitlines()[-1]
    assert {str(place) for place in places.values()} & set(shlex.split(advice))


def test_the_command_after_a_conversion_runs_from_a_place_with_spaces(
    aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my models" / "tiny phi3"
    result = aipc("convert", tiny_checkpoint_dir, out, "--weights", "int8")
    _, command = result.err.strip().rsplit("next: aipc ", 1)
    assert aipc(*shlex.split(command), "--max-tokens", 1).code == 0
