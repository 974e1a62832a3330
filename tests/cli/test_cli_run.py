"""`aipc run`."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import Aipc
from fake_model import CONTEXT_TOKENS, encoded, write_fake_model
from tiny_checkpoint import write_checkpoint

from aipc.engines import fake
from aipc.store import models

Sessions = list[fake.FakeSession]


def prompt_of(sessions: Sessions, model_dir: Path) -> list[int]:
    (request,) = sessions[-1].requests
    return list(request.prompt_ids)


def chat_prompt(model_dir: Path, text: str) -> list[int]:
    return encoded(model_dir, f"<|user|>\n{text}<|end|>\n<|assistant|>\n")


def test_stdout_is_the_text_and_stderr_the_statistics(aipc: Aipc, fake_dir: Path) -> None:
    result = aipc("run", "-m", fake_dir, "Who are you?")
    assert (result.code, result.out) == (0, "I am Guide.\n")
    assert re.fullmatch(r"\n.* by fake: .*\nfirst token .*\npeak memory .*\n", result.err)


def test_a_model_without_a_template_says_that_it_continues_the_prompt(aipc: Aipc, tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "bare", template=False)
    said = "bare has no chat template: PROMPT is continued as it is\n"
    assert aipc("run", "-m", model, "Hi").err.startswith(said)
    assert said not in aipc("run", "--raw", "-m", model, "Hi").err


def test_quiet_leaves_the_text_alone(aipc: Aipc, fake_dir: Path) -> None:
    result = aipc("run", "-q", "-m", fake_dir, "Who are you?")
    assert (result.code, result.out, result.err) == (0, "I am Guide.\n", "")


def test_json_is_one_line_with_everything(aipc: Aipc, tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "Grüße\n你好")
    result = aipc("run", "--json", "-m", model, "Hi")
    assert (result.code, result.err, result.out.count("\n")) == (0, "", 1)
    document = json.loads(result.out)
    assert document["text"] == "Grüße\n你好"
    assert document["finish_reason"] == "stop"
    assert document["token_ids"][:-1] == encoded(model, "Grüße\n你好")
    assert document["statistics"]["generated_tokens"] == len(document["token_ids"])
    assert document["statistics"]["bytes_per_token"] is None


def test_a_failure_with_json_leaves_stdout_empty(aipc: Aipc, fake_dir: Path) -> None:
    result = aipc("run", "--json", "-m", fake_dir, "--max-tokens", CONTEXT_TOKENS, "Hi")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")


def test_a_text_that_ends_with_a_line_break_gets_no_second_one(aipc: Aipc, tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "one\n")
    assert aipc("run", "-m", model, "Hi").out == "one\n"


def test_an_answer_that_fails_shows_what_came_on_a_line_of_its_own(aipc: Aipc, tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "fake", "one two three", fail_after=2)
    result = aipc("run", "-m", model, "Hi")
    assert result.code == 1
    assert result.out.endswith("\n") and "one two three".startswith(result.out[:-1])
    assert result.err.startswith("error: the fake engine fails")


def test_a_cut_answer_says_so(aipc: Aipc, fake_dir: Path) -> None:
    assert "--max-tokens" in aipc("run", "-m", fake_dir, "--max-tokens", 1, "Hi").err
    assert "--max-tokens" not in aipc("run", "-m", fake_dir, "Hi").err


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        (["Summarise:"], b"long text\n", "Summarise:\nlong text"),
        (["two", "words"], b"", "two words"),
        (["two", "-q", "words"], b"", "two words"),  # flags between them
        (["-q", "--", "--dashes"], b"", "--dashes"),
        ([], "\ufeffGrüße\r\nzwei\r\n".encode(), "Grüße\nzwei"),
        (["Hi"], None, "Hi"),
    ],
)
def test_the_prompt_is_the_words_and_then_stdin(
    aipc: Aipc, sessions: Sessions, fake_dir: Path, words: list[str], stdin: bytes | None, expected: str
) -> None:
    assert aipc("run", "-m", fake_dir, *words, stdin=stdin).code == 0
    assert prompt_of(sessions, fake_dir) == chat_prompt(fake_dir, expected)


@pytest.mark.parametrize(("words", "stdin"), [([], b""), ([""], b""), (["  "], b" \n"), ([], None)])
def test_nothing_to_answer_is_wrong_usage(
    aipc: Aipc, sessions: Sessions, fake_dir: Path, words: list[str], stdin: bytes | None
) -> None:
    result = aipc("run", "-m", fake_dir, *words, stdin=stdin)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: the prompt is empty\ntry: ")
    assert sessions == []


def test_half_a_character_in_the_prompt_is_wrong_usage(aipc: Aipc, fake_dir: Path) -> None:
    result = aipc("run", "-m", fake_dir, "a\udcff")
    assert result.code == 2
    assert "Unicode" in result.err


def test_stdin_that_is_no_text_is_wrong_usage(aipc: Aipc, fake_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "utf-8")
    result = aipc("run", "-m", fake_dir, stdin=b"\xff\xfe\x00")
    assert result.code == 2
    assert "stdin" in result.err
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "cp1252")
    assert aipc("run", "-m", fake_dir, stdin=b"Gr\xfc\xdfe").code == 0


def test_flags_reach_the_engine(aipc: Aipc, sessions: Sessions, fake_dir: Path) -> None:
    flags = [
        "--max-tokens",
        "7",
        "--temperature",
        "0.5",
        "--top-p",
        "0.9",
        "--top-k",
        "3",
        "--repetition-penalty",
        "1.2",
        "--seed",
        "4",
    ]
    assert aipc("run", "-m", fake_dir, *flags, "Hi").code == 0
    sampling = sessions[0].requests[0].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (7, 0.5, 0.9)
    assert (sampling.top_k, sampling.repetition_penalty, sampling.seed) == (3, 1.2, 4)


def test_stop_ends_the_text(aipc: Aipc, fake_dir: Path) -> None:
    assert aipc("run", "-m", fake_dir, "--stop", "x", "--stop", " Guide", "Hi").out == "I am\n"


def test_system_and_raw_form_the_prompt(aipc: Aipc, sessions: Sessions, fake_dir: Path) -> None:
    aipc("run", "-m", fake_dir, "--system", "Be brief.", "Hi")
    system = "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n"
    assert prompt_of(sessions, fake_dir) == encoded(fake_dir, system)
    aipc("run", "-m", fake_dir, "--raw", "def add(")
    assert prompt_of(sessions, fake_dir) == encoded(fake_dir, "def add(")
    assert aipc("run", "-m", fake_dir, "--raw", "--system", "Be brief.", "Hi").code == 2


def test_too_many_tokens_are_refused_before_any_is_made(aipc: Aipc, sessions: Sessions, fake_dir: Path) -> None:
    result = aipc("run", "-m", fake_dir, "--max-tokens", CONTEXT_TOKENS, "Hi")
    assert (result.code, result.out) == (2, "")
    assert str(CONTEXT_TOKENS) in result.err
    assert sessions[0].requests == []
    assert sessions[0].is_closed


@pytest.mark.parametrize("pair", ["PRECISION", "=f32"])
def test_a_property_without_a_value_is_wrong_usage(aipc: Aipc, fake_dir: Path, pair: str) -> None:
    result = aipc("run", "-m", fake_dir, "--ov-config", pair, "Hi")
    assert result.code == 2
    assert "KEY=VALUE" in result.err


def test_a_checkpoint_is_converted_once_and_again_when_its_weights_change(
    aipc: Aipc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aipc.cli.display._WORTH_A_LINE_S", 0.0)
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    words = ("run", "-m", checkpoint, "--weights", "int8", "--max-tokens", 8, "Hi")
    first = aipc(*words)
    assert first.code == 0
    assert "quantised" in first.err
    second = aipc(*words)
    assert second.out == first.out
    assert "quantised" not in second.err and "loaded the model" in second.err
    (stored,) = models()
    by_name = aipc("run", "-m", stored.name, "--max-tokens", 8, "Hi")
    assert by_name.out == first.out
    write_checkpoint(checkpoint, seed=1)
    third = aipc(*words)
    assert "quantised" in third.err
    assert third.out != first.out


def test_a_hub_id_without_a_network_is_a_failure_with_a_next_step(aipc: Aipc, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    result = aipc("run", "-m", "nobody/nothing", "Hi")
    assert (result.code, result.out) == (1, "")
    assert "nobody/nothing" in result.err
    assert result.err.splitlines()[-1].startswith("try: ")


def test_an_unknown_device_is_wrong_usage_that_names_the_nearest(aipc: Aipc, tiny_model_dir: Path) -> None:
    result = aipc("run", "-m", tiny_model_dir, "--device", "gpuu", "Hi")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[-1] == "try: --device gpu"


def test_a_device_that_is_not_there_is_a_failure_that_names_what_is(aipc: Aipc, tiny_model_dir: Path) -> None:
    result = aipc("run", "-m", tiny_model_dir, "--device", "gpu.7", "Hi")
    assert (result.code, result.out) == (1, "")
    assert "CPU" in result.err


@pytest.mark.parametrize("damage", ["truncated", "empty"])
@pytest.mark.parametrize("name", ["openvino_model.xml", "openvino_model.bin", "config.json", "tokenizer.json"])
def test_a_damaged_file_that_no_manifest_records_is_an_error_with_what_to_do(
    aipc: Aipc, tmp_path: Path, tiny_model_dir: Path, name: str, damage: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    (model / "aipc.json").unlink()
    os.truncate(model / name, 100 if damage == "truncated" else 0)
    result = aipc("run", "-m", model, "Hi")
    assert (result.code, result.out) == (1, "")
    assert str(model) in result.err.splitlines()[0]
    assert result.err.splitlines()[-1].startswith("try: ")
