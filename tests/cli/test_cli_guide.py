"""The commands with the embedded model, which is the real one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import Aipc

from aipc.ready import read_facts
from aipc.store import models, models_directory
from aipc.store.atomic import locked

ASK = ("run", "Can you introduce yourself?")


def test_run_without_a_model_answers_and_converts_it_once(aipc: Aipc) -> None:
    first = aipc(*ASK)
    assert first.code == 0
    assert "Guide" in first.out
    assert first.err.startswith("prepared the embedded model in ")
    again = aipc(*ASK, "-m", "guide")
    assert again.out == first.out
    assert "prepared" not in again.err
    assert [model.name for model in models()] == ["guide-int8-asym"]


def test_other_recipes_are_other_conversions(aipc: Aipc) -> None:
    for flags in (["--weights", "int4"], ["--weights", "int4", "--group-size", "32"], ["--sym"], []):
        result = aipc(*ASK, "-q", *flags)
        assert "Guide" in result.out, result.err
    assert len(models()) == 4
    refused = aipc(*ASK, "--group-size", "32")
    assert refused.code == 2
    assert "--weights int4" in refused.err


def test_convert_writes_it_wherever_it_is_asked_to(aipc: Aipc, tmp_path: Path) -> None:
    assert aipc("convert", "guide", tmp_path / "int8").code == 0
    assert aipc("convert", "guide", tmp_path / "int4", "--weights", "int4").code == 0
    assert read_facts("guide", tmp_path / "int8").recipe_label == "int8-asym"
    assert read_facts("guide", tmp_path / "int4").recipe_label == "int4-g128-sym"
    assert "int8-asym" in aipc("convert", "guide", "--dry-run").out
    assert models() == []


def test_chat_without_a_model_talks(aipc: Aipc) -> None:
    result = aipc("chat", "-q", stdin=b"Who are you?\n")
    assert result.code == 0
    assert "Guide" in result.out


def test_the_store_lists_verifies_and_removes_what_was_converted(aipc: Aipc) -> None:
    aipc(*ASK, "-q")
    assert aipc("models").out.split() == ["guide-int8-asym", *aipc("models").out.split()[1:4], "guide"]
    assert aipc("models", "verify", "guide-int8-asym").code == 0
    aipc(*ASK, "-q", "--weights", "int4")
    for action in ("verify", "rm"):
        refused = aipc("models", action, "guide")
        assert refused.code == 1
        assert "guide-int4-g128-sym, guide-int8-asym" in refused.err
    assert aipc("models", "rm", "guide-int8-asym").code == 0
    assert "Guide" in aipc(*ASK).out


def test_a_directory_called_guide_is_not_taken_for_it(
    aipc: Aipc, fake_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_dir.rename(tmp_path / "guide")
    monkeypatch.chdir(tmp_path)
    assert aipc("run", "-q", "-m", "guide", "Who are you?").out != "I am Guide.\n"
    assert aipc("run", "-q", "-m", "./guide", "Who are you?").out == "I am Guide.\n"


def test_a_near_name_is_answered_with_it(aipc: Aipc) -> None:
    assert aipc("run", "-m", "Guide", "Hi").err.endswith("try: -m guide\n")


def test_several_first_runs_at_once_answer_all_and_leave_one_model() -> None:
    command = [sys.executable, "-m", "aipc", *ASK, "-q", "--max-tokens", "8"]
    started = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    outcomes = [(*process.communicate(timeout=120), process.returncode) for process in started]
    assert {(error, code) for _, error, code in outcomes} == {(b"", 0)}
    assert len({text for text, _, _ in outcomes}) == 1
    assert [model.name for model in models()] == ["guide-int8-asym"]
    assert not [path for path in models_directory().iterdir() if path.name.endswith(".partial")]


def test_a_first_run_waits_for_the_process_that_writes_the_model(aipc: Aipc) -> None:
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(models_directory() / "guide-int8-asym"):
            is_held.set()
            may_end.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(60)
    timer = threading.Timer(1.0, may_end.set)
    timer.start()
    try:
        assert aipc(*ASK, "-q", "--max-tokens", 1).code == 0
        assert may_end.is_set()
    finally:
        may_end.set()
        holder.join()


def test_a_damaged_conversion_of_another_size_is_made_anew(aipc: Aipc) -> None:
    text = aipc(*ASK, "-q").out
    (stored,) = models()
    (stored.path / "openvino_model.bin").write_bytes(b"")
    assert aipc(*ASK, "-q").out == text
    assert [model.state for model in models()] == ["ok"]


def test_a_store_that_cannot_be_written_is_told_with_the_way_out(
    aipc: Aipc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("AIPC_HOME", str(tmp_path / "a-file"))
    result = aipc(*ASK)
    assert (result.code, result.out) == (1, "")
    assert "AIPC_HOME" in result.err


def test_a_read_only_store_is_told_with_the_way_out(
    aipc: Aipc, read_only_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIPC_HOME", str(read_only_directory))
    result = aipc(*ASK)
    assert (result.code, result.out) == (1, "")
    assert "AIPC_HOME" in result.err


def test_a_disk_too_full_for_it_is_told_before_anything_is_written(
    aipc: Aipc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    result = aipc(*ASK)
    assert (result.code, result.out) == (1, "")
    assert "too full" in result.err
    assert models() == []


def test_the_bare_name_means_its_conversion_where_there_is_one(aipc: Aipc) -> None:
    refused = aipc("models", "verify", "guide")
    assert refused.code == 1
    assert "has no conversion" in refused.err
    assert aipc(*ASK).code == 0
    assert aipc("models", "verify", "guide").code == 0
    assert aipc("models", "check", "guide", "--device", "npu").code in (0, 1)
    assert aipc("models", "rm", "guide").code == 0
    assert models() == []
