"""What is true of every command: exit codes, help, errors, tracebacks, pipes and encodings."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Aipc
from fake_model import write_fake_model

from aipc.cli import VERBS
from aipc.cli.streams import never_fail_on_a_character

COMMAND = [sys.executable, "-m", "aipc"]


def spawn(*words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, **options)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], *[[verb, "--help"] for verb in VERBS]])
def test_help_is_on_stdout_and_no_failure(aipc: Aipc, words: list[str]) -> None:
    result = aipc(*words)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("usage: aipc")
    assert max(map(len, result.out.splitlines())) <= 120


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_shows_examples_of_it(aipc: Aipc, verb: str) -> None:
    assert verb in aipc("--help").out
    assert re.search(rf"examples:\n(.*\| )?  .*aipc {verb}", aipc(verb, "--help").out)


def test_the_version_is_the_installed_one(aipc: Aipc) -> None:
    from importlib import metadata

    assert aipc("--version").out == f"aipc {metadata.version('aipc')}\n"


def test_help_imports_neither_an_engine_nor_numpy_and_takes_under_200_ms() -> None:
    heavy = "('numpy', 'openvino', 'openvino_genai', 'tokenizers', 'rich', 'huggingface_hub', 'jinja2')"
    code = (
        "import sys; from aipc.cli import main; main(['--help'])\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stderr.strip() == b"[]"
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        spawn("--help")
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.2


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["rum"], "aipc run --help"),
        (["hello there"], "aipc --help"),
        (["--frobnicate"], "aipc --help"),
        (["run", "--frobnicate", "x"], "aipc run --help"),
        (["run", "--max-tok", "5", "x"], "aipc run --help"),  # no abbreviations: they would be names to keep
        (["convert"], "aipc convert --help"),
        (["convert", "--weights", "int3", "x"], "aipc convert --help"),
        (["models", "frobnicate"], "aipc models --help"),
        (["run", "--max-tokens", "many", "x"], "aipc run --help"),
    ],
)
def test_wrong_usage_ends_in_what_to_type_next(aipc: Aipc, words: list[str], advice: str) -> None:
    result = aipc(*words)
    assert (result.code, result.out) == (2, "")
    first, *_, last = result.err.splitlines()
    assert first.startswith("error: ")
    assert last.startswith(f"try: {advice}")


def test_a_users_mistake_shows_a_traceback_only_with_debug_and_the_same_exit_code(aipc: Aipc, tmp_path: Path) -> None:
    plain = aipc("run", "-m", tmp_path / "nowhere", "Hi")
    assert plain.code == 1
    assert "Traceback" not in plain.err
    for words in (["run", "--debug"], ["--debug", "run"]):
        debug = aipc(*words, "-m", tmp_path / "nowhere", "Hi")
        assert debug.code == 1
        assert "Traceback" in debug.err
        assert debug.err.endswith(plain.err)


def test_a_fault_of_aipc_itself_is_told_as_one(aipc: Aipc, fake_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aipc.engines.fake.FakeSession.stream", lambda *_: 1 / 0)
    result = aipc("run", "-m", fake_dir, "Hi")
    assert (result.code, result.out) == (1, "")
    assert "aipc itself failed: ZeroDivisionError" in result.err
    assert "--debug" in result.err.splitlines()[-1]
    assert "Traceback" not in result.err


def test_an_interruption_is_exit_code_130(aipc: Aipc, fake_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, index: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aipc.engines.fake.FakeSession._step", interrupt)
    result = aipc("run", "-m", fake_dir, "Hi")
    assert (result.code, result.out, result.err) == (130, "", "interrupted\n")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_pipe_gets_every_character_in_utf_8_whatever_the_systems_encoding(tmp_path: Path, encoding: str) -> None:
    text = "Grüße 你好 😀"
    model = write_fake_model(tmp_path / "modèle 你好", text)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = spawn("run", "-m", model, "你好", env=environment)
    assert (result.returncode, result.stdout) == (0, f"{text}{os.linesep}".encode())
    failed = spawn("run", "-m", model / "你好", "Hi", env=environment)
    assert (failed.returncode, failed.stdout) == (1, b"")
    assert "modèle 你好" in failed.stderr.decode("utf-8")


class ATerminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_terminal_of_an_old_encoding_keeps_it_and_shows_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {name: ATerminal(io.BytesIO(), encoding="cp1252") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    never_fail_on_a_character()
    for stream in streams.values():
        stream.write("Grüße 😀")
        stream.flush()
        assert stream.buffer.getvalue() == "Grüße ?".encode("cp1252")  # type: ignore[attr-defined]


def test_streams_that_are_not_there_or_no_files_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as under pythonw
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    never_fail_on_a_character()


def test_no_character_is_too_much_for_an_error_message(tmp_path: Path) -> None:
    result = spawn("models", "rm", tmp_path / "你好", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: ")


@pytest.mark.parametrize("words", [["--help"], ["models", "--json"], ["run", "-q", "-m", "MODEL", "Hi"]])
def test_a_reader_that_leaves_is_no_failure(tmp_path: Path, words: list[str]) -> None:
    model = write_fake_model(tmp_path / "fake", "word " * 60, token_s=0.002)
    words = [str(model) if word == "MODEL" else word for word in words]
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()  # at once: every write fails
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["models", "--json"], ["run", "-q", "-m", "MODEL", "Hi"]])
def test_an_output_that_cannot_be_written_is_a_failure_in_one_line(fake_dir: Path, words: list[str]) -> None:
    words = [str(fake_dir) if word == "MODEL" else word for word in words]
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run([*COMMAND, *words], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert result.stderr.startswith(b"error: the system refused")
    assert result.stderr.endswith(b"\ntry: free some space on the disk that is written to\n")
    assert b"Traceback" not in result.stderr
    assert b"Exception ignored" not in result.stderr
