"""What a conversion writes, and where it does not."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoint import random_weights, write_checkpoint, write_weights
from tiny_tokenizer import write_tokenizer

from aipc.conversion import convert
from aipc.errors import AipcError, CheckpointError, ModelNotFoundError, StoreError, UsageError
from aipc.graph.data_file import BLOCK_ELEMENTS
from aipc.plan import Plan
from aipc.store import MANIFEST, read_manifest, resolve, verify


def written(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def test_the_directory_holds_what_other_programs_look_for_and_nothing_else(tiny_model_dir: Path) -> None:
    assert written(tiny_model_dir) == {
        MANIFEST,
        "config.json",
        "generation_config.json",
        "openvino_detokenizer.bin",
        "openvino_detokenizer.xml",
        "openvino_model.bin",
        "openvino_model.xml",
        "openvino_tokenizer.bin",
        "openvino_tokenizer.xml",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_the_result_verifies_and_its_manifest_tells_where_it_is_from(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    conversion = convert(tiny_checkpoint_dir, tmp_path / "out", group_size=64, ratio=0.5)
    assert conversion.path == tmp_path / "out"
    assert conversion.manifest == verify(conversion.path).manifest == read_manifest(conversion.path)
    assert conversion.manifest.origin.location == str(tiny_checkpoint_dir)
    assert conversion.manifest.recipe["label"] == "int4-g64-sym-r0.5"
    assert resolve(str(conversion.path)).kind == "converted"


def test_the_same_checkpoint_gives_the_same_weights_whatever_the_shards_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = []
    for shards, threads in ((1, 1), (3, 2), (3, 6)):
        monkeypatch.setattr("aipc.plan.os.cpu_count", lambda threads=threads: threads)
        checkpoint = write_checkpoint(tmp_path / f"{shards}-{threads}", shards=shards)
        conversion = convert(checkpoint, tmp_path / f"out-{shards}-{threads}", group_size=32, symmetric=False)
        assert conversion.plan.threads == threads
        records.append(conversion.manifest.files["openvino_model.bin"])
    assert records[0] == records[1] == records[2]


@pytest.mark.parametrize("recipe", [{"weights": "fp16"}, {"group_size": 32, "symmetric": False, "all_layers": True}])
def test_small_blocks_and_side_files_on_disk_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: dict[str, Any]
) -> None:
    # 160 columns are 5 groups of 32, so that a block of one row would end within a byte of zero points.
    checkpoint = write_checkpoint(tmp_path / "checkpoint", hidden_size=160, vocab_size=511, intermediate_size=96)
    whole = convert(checkpoint, tmp_path / "whole", **recipe).manifest.files["openvino_model.bin"]
    for name in ("BLOCK_ELEMENTS", "_NUMPY_BLOCK_ELEMENTS"):
        monkeypatch.setattr(f"aipc.graph.data_file.{name}", 500)
    monkeypatch.setattr("aipc.graph.data_file._KEPT_BYTES", 64)
    small = convert(checkpoint, tmp_path / "small", **recipe)
    assert small.manifest.files["openvino_model.bin"] == whole
    assert written(tmp_path / "small") == written(tmp_path / "whole")


def test_progress_counts_every_byte_of_the_checkpoint_once_and_steps_often(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", vocab_size=20_000)
    seen: dict[str, list[tuple[int, int]]] = {}
    convert(
        checkpoint,
        tmp_path / "out",
        progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)),
    )
    steps = seen["quantise"]
    total = sum(2 * values.size for values in random_weights(checkpoint).values())
    assert steps[-1] == (total, total)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert max(after - before for (before, _), (after, _) in pairwise(steps)) <= 2 * BLOCK_ELEMENTS
    assert seen.keys() == {"quantise", "verify", "tokenizer"}


def test_no_code_of_the_checkpoint_travels_or_is_asked_for(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    (checkpoint / "modeling_phi3.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads((checkpoint / name).read_text(encoding="utf-8"))
        values["auto_map"] = {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
        values["kept"] = "Grüße"
        (checkpoint / name).write_text(json.dumps(values), encoding="utf-8")
    out = convert(checkpoint, tmp_path / "out").path
    assert not [name for name in written(out) if name.endswith(".py")]
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads((out / name).read_text(encoding="utf-8"))
        assert "auto_map" not in values
        assert values["kept"] == "Grüße"


def test_the_old_name_of_longrope_is_replaced_by_the_one_that_others_know(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "phi-3-mini-128k")
    before = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    after = json.loads((convert(checkpoint, tmp_path / "out").path / "config.json").read_text(encoding="utf-8"))
    assert before["rope_scaling"].pop("type") == "su"
    assert after["rope_scaling"].pop("type") == "longrope"
    assert after == before


def test_files_without_code_travel_as_they_are(tiny_checkpoint_dir: Path, tiny_model_dir: Path) -> None:
    for file in tiny_checkpoint_dir.glob("*.json"):
        assert (tiny_model_dir / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "chat_template.json", "vocab.json", "merges.txt", "tokenizer.model"]
)
def test_other_tokenizer_files_travel_along(tmp_path: Path, name: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    (checkpoint / name).write_text('{"chat_template": ""}', encoding="utf-8")
    assert (convert(checkpoint, tmp_path / "out").path / name).read_bytes() == (checkpoint / name).read_bytes()


def test_a_byte_level_tokenizer_is_converted_too(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tokenizer=False)
    write_tokenizer(checkpoint, 512, kind="bytelevel")
    assert (convert(checkpoint, tmp_path / "out").path / "openvino_tokenizer.xml").is_file()


def refused(error: type[AipcError], match: str, source: Path, destination: Path, **options: Any) -> None:
    with pytest.raises(error, match=match):
        convert(source, destination, weights="int8", **options)


def test_a_model_that_exists_is_replaced_only_when_forced(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = convert(tiny_checkpoint_dir, out, weights="int8").manifest
    refused(StoreError, r"already holds a model(?s:.*)--force", tiny_checkpoint_dir, out)
    assert read_manifest(out) == first
    second = convert(tiny_checkpoint_dir, out, weights="int4", force=True).manifest
    assert verify(out).manifest == second != first


def test_a_forced_conversion_that_fails_keeps_the_old_model(tmp_path: Path) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "out"
    first = convert(checkpoint, out, weights="int8").manifest
    weights = random_weights(checkpoint)
    weights["model.norm.weight"][0] = np.nan
    write_weights(checkpoint, weights)
    refused(AipcError, r"model\.norm\.weight", checkpoint, out, force=True)
    assert verify(out).manifest == first


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("tokenizer_fails", [False, True])
def test_what_stops_the_weights_is_raised_once_the_tokenizer_is_written_too_and_nothing_is_left(
    tiny_checkpoint_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped_by: type[BaseException],
    tokenizer_fails: bool,
) -> None:
    stopped, finished = threading.Event(), threading.Event()

    def write_tokenizer(model_dir: Path, out_dir: Path) -> None:
        assert stopped.wait(20)
        time.sleep(0.1)
        (out_dir / "openvino_tokenizer.xml").write_bytes(b"late")  # the directory is still there
        finished.set()
        if tokenizer_fails:
            raise CheckpointError("the tokenizer")

    def stop(stage: str, done_bytes: int, total_bytes: int) -> None:
        stopped.set()
        raise stopped_by

    monkeypatch.setattr("aipc.graph.openvino.tokenizer.write_openvino_tokenizer", write_tokenizer)
    with pytest.raises(stopped_by):
        convert(tiny_checkpoint_dir, tmp_path / "out", progress=stop)
    assert finished.is_set()
    assert [entry.name for entry in tmp_path.iterdir()] == [".out.lock"]


@pytest.mark.parametrize("force", [False, True])
def test_a_file_is_never_replaced(tiny_checkpoint_dir: Path, tmp_path: Path, force: bool) -> None:
    out = tmp_path / "out"
    out.write_text("mine", encoding="utf-8")
    refused(StoreError, "is no converted model", tiny_checkpoint_dir, out, force=force)
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("force", [False, True])
def test_the_checkpoint_itself_is_never_replaced(tmp_path: Path, force: bool) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    before = written(checkpoint)
    refused(StoreError, "is no converted model", checkpoint, checkpoint, force=force)
    assert written(checkpoint) == before


def test_a_directory_inside_the_checkpoint_is_as_good_as_any(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    out = convert(checkpoint, checkpoint / "openvino", weights="int8").path
    verify(out)
    verify(convert(checkpoint, out, weights="int4", force=True).path)


@pytest.mark.parametrize("through_a_link", [False, True])
def test_replacing_a_model_never_deletes_the_checkpoint_inside_it(
    tiny_checkpoint_dir: Path, tmp_path: Path, through_a_link: bool
) -> None:
    out = convert(tiny_checkpoint_dir, tmp_path / "out", weights="int8").path
    inner = source = write_checkpoint(out / "checkpoint")
    if through_a_link:
        source = tmp_path / "link"
        source.symlink_to(inner, target_is_directory=True)
    refused(UsageError, "lies inside", source, out, force=True)
    assert (inner / "model.safetensors").is_file()


def test_a_converted_model_is_no_source(tiny_model_dir: Path, tmp_path: Path) -> None:
    refused(UsageError, r"already converted(?s:.*)aipc run", tiny_model_dir, tmp_path / "out")
    refused(UsageError, "already converted", tiny_model_dir, tiny_model_dir, force=True)


@pytest.mark.parametrize("name", ["nowhere", "..", "a/b/c", "", "x" * 5000, "con\0fig"])
def test_a_source_that_is_nothing_is_an_error_of_ours(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises((ModelNotFoundError, UsageError)):
        convert(name, tmp_path / "out")


def test_a_read_only_destination_is_named_with_the_fix(tiny_checkpoint_dir: Path, read_only_directory: Path) -> None:
    refused(StoreError, r"cannot be written(?s:.*)permissions", tiny_checkpoint_dir, read_only_directory / "out")


def test_missing_parents_are_made(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    assert verify(convert(tiny_checkpoint_dir, tmp_path / "a" / "b" / "out").path)


def test_a_relative_destination_is_below_the_current_directory(
    tiny_checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    conversion = convert(tiny_checkpoint_dir, "out")
    assert conversion.path == tmp_path / "out"
    assert isinstance(conversion.plan, Plan)
