"""Conversions killed at any moment, and two at once: a model is absent or whole, and a rerun finishes."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from large_checkpoint import write_large_checkpoint

from aipc.conversion import convert
from aipc.errors import ModelNotFoundError, StoreBusyError
from aipc.store import model_path, models, models_directory, resolve, verify

KILLS = 15
BUSY_OR_DONE = ("is being written by another process", "already holds a model")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """110 MB: large enough that kills hit every stage, small enough for many."""
    directory = tmp_path_factory.mktemp("kills") / "checkpoint"
    sizes = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 3, "vocab_size": 4096}
    yield write_large_checkpoint(directory, tokenizer_tokens=4096, **sizes)
    shutil.rmtree(directory)


@pytest.fixture
def out() -> Path:
    """In the store, so that the model has a name too."""
    return model_path("killed", models_dir=models_directory())


def start(checkpoint: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aipc", "convert", str(checkpoint), str(out), "--weights", "int8"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_killed_at_random_times_the_model_is_absent_or_whole_and_a_rerun_finishes(checkpoint: Path, out: Path) -> None:
    begun = time.monotonic()
    assert start(checkpoint, out).wait() == 0
    duration_s = time.monotonic() - begun
    shutil.rmtree(out)
    chance = random.Random(0)
    partials = 0
    for _ in range(KILLS):
        process = start(checkpoint, out)
        time.sleep(chance.uniform(0.15, 1.0) * duration_s)
        process.kill()  # SIGKILL; TerminateProcess on Windows
        process.communicate()
        partials += out.with_name(".killed.partial").exists()
        check_absent_or_whole(out)
    assert partials >= KILLS // 5, "the kills came before or after the work"
    assert start(checkpoint, out).wait() == 0
    verify(out)
    assert {entry.name for entry in out.parent.iterdir()} == {"killed", ".killed.lock"}


def check_absent_or_whole(out: Path) -> None:
    if out.exists():
        verify(out)
        shutil.rmtree(out)
    for name in ("killed", str(out)):
        with pytest.raises(ModelNotFoundError):
            resolve(name)
    assert all(model.state == "incomplete" for model in models())


def test_a_second_converter_is_told_at_once_and_the_first_finishes(checkpoint: Path, out: Path) -> None:
    first = start(checkpoint, out)
    while not out.with_name(".killed.partial").exists():
        assert first.poll() is None
        time.sleep(0.001)
    psutil.Process(first.pid).suspend()  # or it may be done before it is looked at
    with pytest.raises(StoreBusyError, match="another process"):
        convert(checkpoint, out, weights="int8")
    psutil.Process(first.pid).resume()
    errors = first.communicate()[1]
    assert first.returncode == 0, errors
    verify(out)


def test_of_two_started_at_once_one_wins_and_the_other_says_why(checkpoint: Path, out: Path) -> None:
    both = [start(checkpoint, out) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    lost = errors[0] if both[0].returncode else errors[1]
    assert any(reason in lost for reason in BUSY_OR_DONE)
    verify(out)
