"""The command line called in this process, and models that answer at once."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_model import write_fake_model

from aipc.cli import main
from aipc.engines import LoadOptions, fake
from aipc.monitor.bandwidth import this_pc


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Aipc = Callable[..., Result]


@pytest.fixture(autouse=True)
def _known_bandwidth(tmp_path: Path) -> None:
    """Measuring it takes a third of a second."""
    home = tmp_path / "aipc-home"
    home.mkdir()
    (home / "bandwidth.json").write_text(json.dumps({this_pc(): 20e9}), encoding="utf-8")


@pytest.fixture
def aipc(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Aipc:
    """`aipc(*words, stdin=b"")` as if it was typed."""

    def run(*words: object, stdin: bytes | None = b"") -> Result:
        stream = None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", stream)
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def fake_dir(tmp_path: Path) -> Path:
    return write_fake_model(tmp_path / "fake", "I am Guide.")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[fake.FakeSession]:
    """Every session of the fake engine that a command opens."""
    opened: list[fake.FakeSession] = []
    load = fake.load

    def recorded(model_dir: Path, device: str, options: LoadOptions) -> fake.FakeSession:
        opened.append(load(model_dir, device, options))
        return opened[-1]

    monkeypatch.setattr(fake, "load", recorded)
    return opened
