"""`aipc chat`: from a pipe, and on a terminal."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
from conftest import Aipc
from fake_model import encoded, write_fake_model
from terminal import Terminal

from aipc.engines import fake
from aipc.errors import EngineError

Sessions = list[fake.FakeSession]
on_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")


def turns(*texts: str, system: str = "") -> str:
    """The rendered conversation of a user and an assistant in turn, before the next answer."""
    roles = ("user", "assistant")
    rendered = "".join(f"<|{roles[index % 2]}|>\n{text}<|end|>\n" for index, text in enumerate(texts))
    return f"<|system|>\n{system}<|end|>\n{rendered}<|assistant|>\n" if system else f"{rendered}<|assistant|>\n"


def asked(sessions: Sessions, index: int) -> list[int]:
    return list(sessions[0].requests[index].prompt_ids)


def test_every_line_of_a_pipe_is_answered_and_stdout_holds_the_answers_alone(aipc: Aipc, fake_dir: Path) -> None:
    result = aipc("chat", "-m", fake_dir, stdin="Grüße\n\n  \nBye\n".encode())
    assert (result.code, result.out) == (0, "I am Guide.\nI am Guide.\n")
    assert result.err.count("by fake:") == 2
    assert "/clear" in result.err and ">" not in result.err


def test_quiet_leaves_the_answers_alone(aipc: Aipc, fake_dir: Path) -> None:
    result = aipc("chat", "-q", "-m", fake_dir, stdin=b"Hi\n/clear\n/help\n")
    assert (result.out, result.err) == ("I am Guide.\n", "")


def test_the_second_request_holds_the_first_turn(aipc: Aipc, sessions: Sessions, fake_dir: Path) -> None:
    aipc("chat", "-m", fake_dir, "--system", "Be brief.", stdin=b"Hi\nAnd?\n")
    assert asked(sessions, 0) == encoded(fake_dir, turns("Hi", system="Be brief."))
    assert asked(sessions, 1) == encoded(fake_dir, turns("Hi", "I am Guide.", "And?", system="Be brief."))


def test_clear_forgets_the_turns_and_keeps_the_system_message(aipc: Aipc, sessions: Sessions, fake_dir: Path) -> None:
    result = aipc("chat", "-m", fake_dir, "--system", "Be brief.", stdin=b"Hi\n/clear\nAnd?\n")
    assert asked(sessions, 1) == encoded(fake_dir, turns("And?", system="Be brief."))
    assert "forgotten" in result.err


@pytest.mark.parametrize("leave", ["/exit", "/QUIT"])
def test_exit_leaves(aipc: Aipc, sessions: Sessions, fake_dir: Path, leave: str) -> None:
    result = aipc("chat", "-m", fake_dir, stdin=f"Hi\n{leave}\nAnd?\n".encode())
    assert (result.code, result.out.count("Guide")) == (0, 1)
    assert sessions[0].is_closed


def test_an_unknown_command_shows_the_commands_and_a_path_is_a_message(
    aipc: Aipc, sessions: Sessions, fake_dir: Path
) -> None:
    result = aipc("chat", "-m", fake_dir, stdin=b"/frobnicate\n/etc/passwd is what?\n")
    assert result.err.count("/clear forgets") == 2
    assert "there is no /frobnicate: " in result.err
    assert asked(sessions, 0) == encoded(fake_dir, turns("/etc/passwd is what?"))


def test_a_full_context_is_told_and_the_chat_goes_on(aipc: Aipc, sessions: Sessions, tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "I am Guide.", context_tokens=40)
    lines = ["Hi", "long " * 60, "/clear", "Bye"]
    result = aipc("chat", "-m", model, stdin="\n".join(lines).encode())
    assert (result.code, result.out) == (1, "I am Guide.\nI am Guide.\n")
    assert "error: the prompt does not fit" in result.err
    assert "or: /clear" in result.err
    assert asked(sessions, 1) == encoded(model, turns("Bye"))
    assert "or: /clear" not in aipc("chat", "-m", model, stdin=b"long " * 60).err  # there is nothing to forget


def test_an_answer_that_fills_the_context_says_what_helps(aipc: Aipc, tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "I am Guide.", context_tokens=len("Hi") + 20)
    prompt_tokens = len(encoded(model, turns("Hi")))
    model = write_fake_model(tmp_path / "exact", "I am Guide.", context_tokens=prompt_tokens + 2)
    cut = f"(cut after 2 tokens; the context of {prompt_tokens + 2} tokens is full"
    assert f"{cut}: /clear forgets the conversation)\n" in aipc("chat", "-m", model, stdin=b"Hi\n").err
    assert f"{cut})\n" in aipc("run", "-m", model, "Hi").err


def test_an_answer_as_long_as_the_context_is_refused_before_anybody_types(
    aipc: Aipc, sessions: Sessions, tmp_path: Path
) -> None:
    model = write_fake_model(tmp_path / "fake", "I am Guide.", context_tokens=40)
    result = aipc("chat", "-m", model, "--max-tokens", 40, stdin=b"Hi\n")
    assert (result.code, result.out) == (2, "")
    assert "--max-tokens leaves no room for a message: expected less than the context, 40 tokens" in result.err
    assert not sessions  # before the model is loaded, which on an NPU may be compiled
    room = 40 - len(encoded(model, turns("Hi")))
    result = aipc("chat", "-m", model, "--max-tokens", room + 1, stdin=b"Hi\n")
    assert f"by what is said, found {room + 1}" in result.err
    assert sessions[0].is_closed
    system = ("--system", "Be brief.")
    assert "by what is said" in aipc("chat", "-m", model, "--max-tokens", room, *system, stdin=b"Hi\n").err
    assert aipc("chat", "-m", model, "--max-tokens", room, stdin=b"Hi\n").out == "I am Guide.\n"
    assert aipc("chat", "-m", model, "--max-tokens", 20, stdin=b"Hi\n").out == "I am Guide.\n"


def test_a_template_that_wants_a_system_message_gets_it_before_there_is_a_message(aipc: Aipc, tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "I am Guide.")
    template = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[-1].content }}"
    )
    (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    for words in ((), ("--max-tokens", 20)):
        assert aipc("chat", "-m", model, "--system", "Be brief.", *words, stdin=b"Hi\n").out == "I am Guide.\n"
        assert "no system" in aipc("chat", "-m", model, *words, stdin=b"Hi\n").err


def test_without_stdin_there_is_no_chat(aipc: Aipc, fake_dir: Path) -> None:
    assert "no stdin to read messages from" in aipc("chat", "-m", fake_dir, stdin=None).err


def test_an_engine_that_fails_is_told_and_its_half_answer_is_not_kept(
    aipc: Aipc, sessions: Sessions, fake_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = fake.FakeSession._step

    def fail_once(self: fake.FakeSession, *arguments: object, index: int) -> object:
        if index == 2 and not self.requests:
            raise EngineError("the driver was reset")
        return step(self, *arguments, index=index)  # type: ignore[arg-type]

    monkeypatch.setattr(fake.FakeSession, "_step", fail_once)
    result = aipc("chat", "-m", fake_dir, stdin=b"Hi\nAgain\n")
    assert result.code == 1  # from a pipe, where nobody may be reading
    assert "error: the driver was reset" in result.err
    assert result.out.endswith("\nI am Guide.\n")
    assert asked(sessions, 1) == encoded(fake_dir, turns("Again"))


def test_the_first_inference_runs_before_anybody_asks(aipc: Aipc, sessions: Sessions, fake_dir: Path) -> None:
    assert aipc("chat", "-m", fake_dir, stdin=b"").code == 0
    assert (sessions[0].warm_ups, sessions[0].requests) == (1, [])


def test_leaving_waits_for_the_first_inference_to_end(
    aipc: Aipc, fake_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def slow(_: object) -> None:
        time.sleep(0.3)
        events.append("warm")

    monkeypatch.setattr(fake.FakeSession, "warm_up", slow)
    monkeypatch.setattr(fake.FakeSession, "close", lambda _: events.append("closed"))
    aipc("chat", "-m", fake_dir, stdin=b"")
    assert events == ["warm", "closed"]


def test_a_failing_warm_up_does_not_end_the_chat(aipc: Aipc, fake_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise EngineError("no")

    monkeypatch.setattr(fake.FakeSession, "warm_up", fail)
    assert aipc("chat", "-q", "-m", fake_dir, stdin=b"Hi\n").out == "I am Guide.\n"


def test_a_model_without_template_is_refused_with_the_command_that_works(aipc: Aipc, tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", template=False)
    result = aipc("chat", "-m", model, stdin=b"Hi\n")
    assert (result.code, result.out) == (1, "")
    assert f"try: aipc run -m {model}" in result.err


def test_a_real_model_can_be_left_at_once(tiny_model_dir: Path) -> None:
    """Python ending while the engine's first inference runs would abort the process."""
    import subprocess

    command = [sys.executable, "-m", "aipc", "chat", "-m", str(tiny_model_dir)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert result.returncode == 0
    assert b"terminate" not in result.stderr


@on_a_terminal
def test_ctrl_c_stops_an_answer_and_the_chat_goes_on_with_it(tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "word " * 120, token_s=0.05)
    with Terminal(["chat", "-m", model]) as terminal:
        terminal.wait_for("> ")
        terminal.type("Hi\n")
        terminal.wait_for("word word")
        terminal.press_ctrl_c()
        terminal.wait_for("Ctrl-C again leaves")
        terminal.wait_for("> ")
        terminal.type("More\n")
        terminal.wait_for("word word")
        terminal.press_ctrl_c()
        terminal.wait_for("Ctrl-C again leaves")
        terminal.wait_for("> ")  # before it, readline would not see the Ctrl-D
        terminal.type("\x04")
        assert terminal.end() == 0
        assert "Traceback" not in terminal.seen


@on_a_terminal
def test_ctrl_c_twice_leaves_with_code_0(tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "word " * 120, token_s=0.05)
    with Terminal(["chat", "-m", model]) as terminal:
        terminal.wait_for("> ")
        terminal.type("Hi\n")
        terminal.wait_for("word word")
        terminal.press_ctrl_c()
        terminal.wait_for("> ")
        terminal.press_ctrl_c()
        assert terminal.end() == 0
        assert "Traceback" not in terminal.seen


@on_a_terminal
def test_one_ctrl_c_at_the_prompt_stays_and_a_message_starts_the_count_anew(fake_dir: Path) -> None:
    with Terminal(["chat", "-m", fake_dir]) as terminal:
        terminal.wait_for("> ")
        for _ in range(2):
            terminal.press_ctrl_c()
            terminal.wait_for("> ")
            terminal.type("Hi\n")
            terminal.wait_for("I am Guide.")
            terminal.wait_for("> ")
        terminal.press_ctrl_c()
        terminal.wait_for("> ")
        terminal.press_ctrl_c()
        assert terminal.end() == 0


@on_a_terminal
def test_ctrl_d_leaves_and_the_shell_begins_on_a_line_of_its_own(fake_dir: Path) -> None:
    with Terminal(["chat", "-m", fake_dir]) as terminal:
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.end() == 0
        assert re.sub(r"\x1b\[[?\d]*[a-z]", "", terminal.seen).endswith("> \n")


@on_a_terminal
def test_the_prompt_is_not_in_what_stdout_writes_to_a_file(fake_dir: Path, tmp_path: Path) -> None:
    with (tmp_path / "log.txt").open("wb") as log, Terminal(["chat", "-m", fake_dir], stdout=log.fileno()) as terminal:
        terminal.wait_for("> ")
        terminal.type("Hi\n")
        terminal.wait_for("> ")
        terminal.type("/exit\n")
        assert terminal.end() == 0
    assert (tmp_path / "log.txt").read_bytes() == b"I am Guide.\n"
