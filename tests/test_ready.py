"""Whatever MODEL was, a converted directory that was checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fake_model import write_fake_model
from tiny_checkpoint import write_checkpoint

from aipc import guide
from aipc.conversion import convert
from aipc.errors import ConfigError, IntegrityError, UnsupportedModelError
from aipc.progress import silent
from aipc.quant.recipe import Recipe
from aipc.ready import ReadyModel, read_facts, ready_model
from aipc.store import models

INT8 = Recipe("int8")


def ready(model: Path | str | None, recipe: Recipe = INT8) -> tuple[ReadyModel, list[str]]:
    """The model, and the stages that it took."""
    stages: list[str] = []
    result = ready_model(str(model) if model else None, recipe, progress=lambda stage, *_: stages.append(stage))
    return result, list(dict.fromkeys(stages))


def test_a_checkpoint_is_converted_into_the_store_once(tiny_checkpoint_dir: Path) -> None:
    first, stages = ready(tiny_checkpoint_dir)
    assert (stages[0], stages[-1]) == ("quantise", "check")
    assert set(stages) == {"quantise", "verify", "tokenizer", "check"}
    second, stages = ready(tiny_checkpoint_dir)
    assert stages == ["check"]
    assert first.path == second.path
    assert [model.path for model in models()] == [first.path]


def test_each_recipe_has_its_own_conversion(tiny_checkpoint_dir: Path) -> None:
    paths = {ready(tiny_checkpoint_dir, recipe)[0].path for recipe in (INT8, Recipe("fp16"), Recipe(group_size=32))}
    assert len(paths) == len(models()) == 3


def test_new_weights_in_the_same_directory_are_converted_anew(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", seed=0)
    before = (ready(checkpoint)[0].path / "openvino_model.bin").read_bytes()
    write_checkpoint(checkpoint, seed=1)
    again, stages = ready(checkpoint)
    assert "quantise" in stages
    assert (again.path / "openvino_model.bin").read_bytes() != before
    assert ready(checkpoint) == (again, ["check"])


def test_another_embedded_model_is_converted_anew_and_the_same_one_installed_again_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(directory: Path, *, seed: int) -> None:
        monkeypatch.setattr(guide, "CHECKPOINT", write_checkpoint(directory, seed=seed))

    install(tmp_path / "one", seed=0)
    first, stages = ready(None)
    assert stages == ["guide", "check"]
    install(tmp_path / "two", seed=0)
    assert ready(None) == (first, ["check"])
    install(tmp_path / "two", seed=1)
    second, stages = ready("guide")
    assert stages == ["guide", "check"]
    assert second.path != first.path
    assert (second.path / "openvino_model.bin").read_bytes() != (first.path / "openvino_model.bin").read_bytes()
    assert ready(None) == (second, ["check"])


def test_a_stored_name_and_a_directory_are_loaded_where_they_are(
    tiny_checkpoint_dir: Path, tiny_model_dir: Path
) -> None:
    stored = ready(tiny_checkpoint_dir)[0]
    assert ready(stored.path.name)[0].path == stored.path
    assert ready(tiny_model_dir)[0].path == tiny_model_dir
    assert len(models()) == 1


def test_the_facts_of_a_converted_model(tiny_model_dir: Path) -> None:
    facts = ready(tiny_model_dir)[0]
    manifest = json.loads((tiny_model_dir / "aipc.json").read_text(encoding="utf-8"))
    assert facts.context_tokens == 256
    assert facts.rope_switch_tokens is None
    assert facts.recipe_label == "int8-asym"
    assert facts.weight_bytes_per_token == manifest["weight_bytes_per_token"]
    assert facts.kv_elements_per_token == 2 * 2 * 4 * 32  # layers, key and value, heads, head size
    config = json.loads((tiny_model_dir / "config.json").read_text(encoding="utf-8"))
    assert facts.sliding_window == config["sliding_window"]


def test_a_longrope_model_tells_where_its_factors_switch(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "phi-3-mini-128k")
    facts = ready(convert(checkpoint, tmp_path / "out", weights="int8").path)[0]
    assert (facts.rope_switch_tokens, facts.context_tokens) == (64, 256)


def test_a_directory_that_others_made_is_taken_without_a_check(tmp_path: Path, tiny_model_dir: Path) -> None:
    theirs = shutil.copytree(tiny_model_dir, tmp_path / "theirs")
    (theirs / "aipc.json").unlink()
    facts, stages = ready(theirs)
    assert stages == []
    assert (facts.weight_bytes_per_token, facts.recipe_label) == (None, None)
    assert facts.context_tokens == 256


def test_a_family_that_aipc_does_not_convert_may_still_be_run(tmp_path: Path) -> None:
    facts = read_facts("theirs", write_fake_model(tmp_path, context_tokens=77))
    assert (facts.context_tokens, facts.kv_elements_per_token) == (77, None)


def test_an_unknown_family_of_checkpoint_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    (checkpoint / "config.json").write_text(json.dumps({**config, "model_type": "gpt-9"}), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match="phi3"):
        ready(checkpoint)
    assert models() == []


@pytest.mark.parametrize(("at", "is_stored"), [(0, True), (-1, True), (0, False)])
def test_a_flipped_byte_is_noticed_and_the_way_out_is_told(
    tmp_path: Path, tiny_checkpoint_dir: Path, tiny_model_dir: Path, at: int, is_stored: bool
) -> None:
    path = ready(tiny_checkpoint_dir)[0].path if is_stored else shutil.copytree(tiny_model_dir, tmp_path / "mine")
    data = bytearray((path / "openvino_model.bin").read_bytes())
    data[at] ^= 1
    (path / "openvino_model.bin").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"openvino_model\.bin") as failure:
        ready(tiny_checkpoint_dir if is_stored else path)
    assert (f"aipc models rm {path.name}" in str(failure.value)) is is_stored


def test_a_directory_without_config_is_refused_by_its_name(tmp_path: Path, tiny_model_dir: Path) -> None:
    theirs = shutil.copytree(tiny_model_dir, tmp_path / "theirs")
    (theirs / "aipc.json").unlink()
    (theirs / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json"):
        ready_model(str(theirs), INT8, progress=silent)
