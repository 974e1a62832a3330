"""What stderr shows while something takes time."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

import pytest
from conftest import Aipc
from fake_model import write_fake_model
from terminal import Terminal

from aipc.cli import display as display_module
from aipc.cli.display import Display

STAGES = ("guide", "download", "quantise", "tokenizer", "verify", "check", "devices", "load", "first token", "warm-up")
needs_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that stages see; in seconds."""
    now = [100.0]
    monkeypatch.setattr(display_module.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "guide"])
def test_off_a_terminal_a_long_stage_is_one_line_and_a_short_one_none(clock: list[float], stage: str) -> None:
    stream = io.StringIO()
    with Display(stream) as display:
        display(stage, 0, 0)
        clock[0] += 0.9
        display.end()
        assert stream.getvalue() == ""
        display(stage, 0, 2_000_000_000)
        clock[0] += 2.0
        display(stage, 2_000_000_000, 2_000_000_000)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(" 2.00 GB at 1.00 GB/s in 2.0 s")
    assert stage not in display_module._STAGES or line.startswith(display_module._STAGES[stage][1])


def test_the_speed_is_that_of_what_the_stage_itself_did(clock: list[float]) -> None:
    """Most of a file is verified while it is written, before the stage begins."""
    stream = io.StringIO()
    with Display(stream) as display:
        display("verify", 1_600_000_000, 2_000_000_000)
        clock[0] += 2.0
        display("verify", 2_000_000_000, 2_000_000_000)
    assert stream.getvalue() == "verified what was written 2.00 GB at 200 MB/s in 2.0 s\n"


def test_what_happens_once_is_told_however_short_it_was(clock: list[float]) -> None:
    stream = io.StringIO()
    with Display(stream) as display:
        display("guide", 0, 0)
        clock[0] += 0.3
    assert stream.getvalue() == "prepared the embedded model in 0.3 s (only this first time)\n"


def test_every_stage_has_words_of_its_own() -> None:
    assert set(display_module._STAGES) == set(STAGES)


def test_the_next_stage_ends_the_one_before(clock: list[float]) -> None:
    stream = io.StringIO()
    with Display(stream) as display:
        for stage in ("quantise", "tokenizer", "verify"):
            display(stage, 0, 0)
            clock[0] += 1.5
    assert [line.split(" in ")[0] for line in stream.getvalue().splitlines()] == [
        "quantised",
        "converted the tokenizer",
        "verified what was written",
    ]


def test_a_stage_that_failed_is_not_called_done(clock: list[float]) -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="disk"), Display(stream) as display:
        display("quantise", 0, 0)
        clock[0] += 9.0
        raise ValueError("disk")
    assert stream.getvalue() == ""


def test_after_a_stage_that_failed_the_next_one_is_told(clock: list[float]) -> None:
    stream = io.StringIO()
    display = Display(stream)
    with pytest.raises(KeyboardInterrupt), display.stage("first token"):
        clock[0] += 9.0
        raise KeyboardInterrupt
    assert stream.getvalue() == ""
    with display.stage("first token"):
        clock[0] += 3.0
    assert stream.getvalue() == "read the prompt in 3.0 s\n"


def test_quiet_says_nothing(clock: list[float]) -> None:
    stream = FakeTerminal()
    with Display(stream, quiet=True) as display:
        display("load", 0, 0)
        clock[0] += 9.0
        display.note("statistics")
    assert stream.getvalue() == ""


def test_on_a_terminal_a_stage_shows_its_name_and_erases_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "_DRAWN_AFTER_S", 0.0)
    stream = FakeTerminal()
    with Display(stream) as display, display.stage("load"):
        time.sleep(0.3)
    shown = stream.getvalue()
    assert "loading the model" in shown
    assert shown.endswith("\x1b[1A\x1b[2K")  # up, and the line is gone
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is back


def test_a_note_has_a_line_of_its_own_while_a_spinner_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "_DRAWN_AFTER_S", 0.0)
    stream = FakeTerminal()
    with Display(stream) as display:
        display("load", 0, 0)
        _wait_for(stream, "loading the model")
        stream.truncate(0)
        display.note("compiled before")
        assert stream.getvalue().index("\x1b[2K") < stream.getvalue().index("compiled before")  # the spinner is erased


def _wait_for(stream: io.StringIO, text: str) -> None:
    end_s = time.monotonic() + 10
    while text not in stream.getvalue():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_on_a_terminal_a_short_stage_does_not_flicker() -> None:
    stream = FakeTerminal()
    with Display(stream) as display:
        for stage in STAGES[1:4]:
            display(stage, 0, 0)
            time.sleep(0.05)
    time.sleep(0.3)
    assert stream.getvalue() == ""


def test_bytes_that_become_known_while_a_stage_runs_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "_DRAWN_AFTER_S", 0.0)
    stream = FakeTerminal()
    with Display(stream) as display:
        display("download", 0, 0)
        time.sleep(0.2)
        display("download", 500_000_000, 1_000_000_000)
        time.sleep(0.2)
    assert "0.5/1.0 GB" in stream.getvalue()


def test_stdout_stays_stdout_while_a_bar_is_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display_module, "_DRAWN_AFTER_S", 0.0)
    with Display(FakeTerminal()) as display, display.stage("load"):
        time.sleep(0.2)
        print("result")
    assert capsys.readouterr().out == "result\n"


@needs_a_terminal
def test_bars_are_on_stderr_and_text_alone_on_stdout(tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "I am Guide.", load_s=1.1, prefill_s=0.6)
    reading, writing = os.pipe()
    with Terminal(["run", "-m", model, "Hi"], stdout=writing) as terminal:
        os.close(writing)
        terminal.type("\x04")  # stdin is the terminal: no text is piped
        assert terminal.end() == 0
        assert "loading the model" in terminal.seen
        assert "loaded the model in 1." in terminal.seen
        assert "reading the prompt" in terminal.seen
        assert "read the prompt" not in terminal.seen.replace("reading", "")
    with os.fdopen(reading, "rb") as out:
        assert out.read() == b"I am Guide.\n"


@needs_a_terminal
def test_ctrl_c_ends_a_run_with_130_and_the_text_so_far_on_its_line(tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "word " * 60, token_s=0.05)
    with Terminal(["run", "-m", model, "Hi"]) as terminal:
        terminal.wait_for("word word")
        terminal.press_ctrl_c()
        assert terminal.end() == 130
        assert terminal.seen.endswith("\ninterrupted\n")


def test_off_a_terminal_nothing_is_drawn(aipc: Aipc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "_WORTH_A_LINE_S", 0.3)
    model = write_fake_model(tmp_path / "fake", "I am Guide.", load_s=0.35)
    result = aipc("run", "-m", model, "Hi")
    assert result.out == "I am Guide.\n"
    assert result.err.splitlines()[0].startswith("loaded the model in 0.")
    assert "\x1b" not in result.err and "\r" not in result.err
