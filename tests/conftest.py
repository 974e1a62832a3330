"""Fixtures that several test files share: tiny checkpoints, and one of them converted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_checkpoint import write_checkpoint

from aipc.conversion import convert


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the store or the hub cache of the person who runs it."""
    monkeypatch.setenv("AIPC_HOME", str(tmp_path / "aipc-home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))


@pytest.fixture(scope="session")
def tiny_checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Phi-3-mini-4k-shaped checkpoint with random weights and a 512-entry tokenizer. Do not write into it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny-phi3")


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint_dir: Path) -> Path:
    """The tiny checkpoint as an INT8 OpenVINO directory. Do not write into it."""
    out = tmp_path_factory.mktemp("models") / "tiny-phi3-int8"
    return convert(tiny_checkpoint_dir, out, weights="int8").path


@pytest.fixture
def read_only_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory that cannot be written, or a skip where the user may write everywhere."""
    directory = tmp_path / "read-only"
    directory.mkdir(mode=0o555)
    if os.access(directory, os.W_OK):
        pytest.skip("this user may write into read-only directories")
    yield directory
    directory.chmod(0o755)
