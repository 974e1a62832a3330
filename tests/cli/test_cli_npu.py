"""--device npu on a PC without one: what it refuses, and its rehearsal with the embedded model, a real one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import Aipc
from rehearsed import KEPT, the_blob
from terminal import Terminal
from tiny_checkpoint import write_checkpoint

import aipc as package
from aipc.devices.doctor import examine
from aipc.errors import ContextLengthError, DeviceError, UsageError
from aipc.store import models, models_directory, store_root
from aipc.store.atomic import locked

REHEARSE = ("--device", "npu", "--rehearse")
LABEL = "NPU rehearsal on the CPU"
(KEEPS,) = (f"{name}={value}" for name, value in KEPT.items())
needs_no_npu = pytest.mark.skipif("NPU" not in examine().absent, reason="this PC has an NPU")


@pytest.fixture(scope="module")
def guide_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.convert("guide", tmp_path_factory.mktemp("guide") / "guide", weights="int8").path


def test_the_rehearsal_says_what_the_cpu_says(guide_dir: Path) -> None:
    questions = (
        "Hello",
        "Who are you?",
        "What is an NPU?",
        "What is quantisation?",
        "Why is the first token slow?",
        "Tell me a story.",
    )
    with package.load(guide_dir) as cpu, package.load(guide_dir, device="npu", rehearse=True) as npu:
        expected = [cpu.generate(question, max_tokens=120).text for question in questions]
        assert [npu.generate(question, max_tokens=120).text for question in questions] == expected


def test_run_says_the_lengths_and_is_labelled_everywhere(aipc: Aipc, guide_dir: Path) -> None:
    flags = (*REHEARSE, "--ov-config", KEEPS, "--max-tokens", 20)
    first = aipc("run", "-m", guide_dir, *flags, "Who are you?")
    assert first.code == 0
    begin, *_, statistics, _, _ = first.err.splitlines()
    assert begin == f"compiling for the {LABEL} (prompt 256 + answer 128 tokens) …"
    assert statistics.startswith(f"{LABEL} (")
    again = aipc("run", "-m", guide_dir, *flags, "--json", "What are you, if I may ask?")
    assert again.err.startswith(f"compiled before for the {LABEL} (prompt 256 + answer 128 tokens)\n")
    facts = json.loads(again.out)["statistics"]
    assert (facts["device"], facts["rehearsal"]) == (LABEL, True)
    cpu = json.loads(aipc("run", "-m", guide_dir, "--json", "--max-tokens", 20, "Who are you?").out)
    assert (cpu["statistics"]["rehearsal"], cpu["text"] + "\n") == (False, first.out)


def test_an_answer_that_fills_what_was_compiled_says_what_compiles_for_more(aipc: Aipc, guide_dir: Path) -> None:
    begins = ("run", "-m", guide_dir, *REHEARSE, "--raw", "Once upon a time", "--temperature", 3, "--seed", 1)
    assert "the context of 768 tokens is full: a larger --max-tokens makes it longer)" in aipc(*begins).err
    lengths = ("--ov-config", "MIN_RESPONSE_LEN=64")
    assert "of 320 tokens is full: a larger --ov-config MIN_RESPONSE_LEN makes it" in aipc(*begins, *lengths).err


def test_chat_goes_on_until_the_context_is_full_and_after_it_is_cleared(aipc: Aipc, guide_dir: Path) -> None:
    turns = b"Hello\nWho are you?\n" + b"word " * 20 + b"\n" + b"word " * 200 + b"\n/clear\nHello\n"
    lengths = ("--ov-config", "MAX_PROMPT_LEN=64", "--ov-config", "MIN_RESPONSE_LEN=64", "--max-tokens", 30)
    result = aipc("chat", "-m", guide_dir, *REHEARSE, *lengths, stdin=turns)
    assert result.code == 1  # two of the messages had no answer
    assert f"guide on {LABEL} (" in result.err
    assert "error: the prompt is too long for this device: expected at most 64 tokens" in result.err
    assert "error: the prompt does not fit the model's context: expected fewer than 128 tokens" in result.err
    assert result.err.count("\nor: /clear\n") == 2
    hello = result.out.splitlines()[0]
    assert result.out.splitlines()[-1] == hello
    assert result.err.count(f"\n{LABEL} (") == 3  # of each answer; a compilation is told once or, when slow, twice


def test_chat_without_lengths_has_the_whole_context(guide_dir: Path) -> None:
    with package.load(guide_dir, device="npu", rehearse=True) as model:
        capabilities = model.capabilities
        assert (capabilities.context_tokens, capabilities.longest_prompt_tokens) == (2048, 2048)
        assert (capabilities.beams, capabilities.max_batch, capabilities.logprobs) == (False, 1, False)
        assert model.session.is_rehearsal
        with pytest.raises(UsageError, match="log-probabilities"):
            model.stream("Hello", logprobs=True)
        sampled = [model.generate("Tell me a story.", temperature=0.9, seed=3, max_tokens=12).text for _ in range(2)]
        assert sampled[0] == sampled[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--ov-config", "MAX_PROMPT_LEN=64", "word " * 100), "expected at most 64 tokens"),
        (("--ov-config", "MAX_PROMPT_LEN=20000", "Hello"), "expected at most 2048 tokens, the model's context"),
        (("--ov-config", "MIN_RESPONSE_LEN=2049", "Hello"), "expected at most 2048 tokens, the model's context"),
        (("--temperature", "-1", "Hello"), "temperature: expected 0 (greedy)"),
        (("--stop", "", "Hello"), "a stop string is empty"),
        (("--max-tokens", "5000", "Hello"), "expected at most 2048 tokens"),
        (("word " * 3000,), "the prompt does not fit the model's context on the NPU"),
        (("--ov-config", "MAX_PROMPT_LEN=none", "Hello"), "property MAX_PROMPT_LEN"),
        (("--max-tokens", "0", "Hello"), "max_tokens: expected a whole number"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_before_anything_is_compiled(
    aipc: Aipc, guide_dir: Path, flags: tuple[str, ...], message: str
) -> None:
    result = aipc("run", "-m", guide_dir, *REHEARSE, *flags)
    assert result.code == 2
    assert message in result.err
    assert "compiling" not in result.err


def test_a_model_that_the_npu_does_not_take_is_refused_before_it_is_compiled(
    aipc: Aipc, tiny_checkpoint_dir: Path, tmp_path: Path
) -> None:
    model = package.convert(tiny_checkpoint_dir, tmp_path / "model", weights="int4", group_size=32, symmetric=False)
    result = aipc("run", "-m", model.path, *REHEARSE, "--raw", "Hello")
    assert result.code == 1
    assert "cannot run on the NPU: npu/" in result.err
    assert f"try: aipc convert {tiny_checkpoint_dir} OUT --weights int4 --group-size 128" in result.err
    assert "compiling" not in result.err
    assert aipc("run", "-m", model.path, "--raw", "--max-tokens", 2, "Hello").code == 0  # the CPU takes it


@needs_no_npu
def test_without_an_npu_nothing_is_converted_or_run_elsewhere(aipc: Aipc) -> None:
    for words in (("run", "Hello"), ("chat",)):
        result = aipc(*words, "--device", "npu")
        assert result.code == 1
        assert examine().absent["NPU"].reason in result.err
        assert "aipc devices npu" in result.err
        assert "--rehearse" in result.err
        assert result.out == ""
    with pytest.raises(DeviceError, match="rehearse=True"):
        package.load("nobody/nothing", device="npu")
    assert models() == []


@pytest.mark.parametrize("device", [(), ("--device", "cpu"), ("--device", "gpu"), ("--device", "directml")])
def test_only_the_npu_is_rehearsed(aipc: Aipc, device: tuple[str, ...]) -> None:
    result = aipc("run", *device, "--rehearse", "Hello")
    assert result.code == 2
    assert "--device npu --rehearse" in result.err
    with pytest.raises(UsageError, match="--device npu --rehearse"):
        package.load("guide", rehearse=True)
    assert models() == []


def test_what_was_compiled_goes_with_its_model(aipc: Aipc) -> None:
    assert aipc("run", *REHEARSE, "--ov-config", KEEPS, "-q", "Hello").code == 0
    blob = the_blob()
    shutil.copytree(models_directory() / "guide-int8-asym", store_root() / "copy")
    removed = json.loads(aipc("models", "rm", "guide", "--json").out)
    assert removed["freed_bytes"] > 6_000_000
    assert not blob.exists()
    assert aipc("models").out == ""


def test_what_was_compiled_of_a_stored_model_is_told_with_it(aipc: Aipc) -> None:
    assert aipc("run", *REHEARSE, "--ov-config", KEEPS, "-q", "Hello").code == 0
    listed = json.loads(aipc("models", "--json").out)
    assert listed["models"][0]["compiled_bytes"] == the_blob().stat().st_size
    assert listed["compiled_elsewhere"] == []
    assert aipc("models").out.endswith(" MB more of it compiled\n")
    stored = models_directory() / "guide-int8-asym"
    shutil.rmtree(store_root() / "blobs")
    assert "is given by its name\ntry: aipc models rm guide-int8-asym" in aipc("models", "rm", stored).err


def test_what_was_compiled_of_a_model_elsewhere_is_listed_and_can_be_removed(
    aipc: Aipc, guide_dir: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(guide_dir, tmp_path / "else\u200bwhere")  # with a letter that a terminal hides
    nothing = aipc("models", "rm", elsewhere)
    assert (nothing.code, "is not in the store, nor is anything that was compiled" in nothing.err) == (1, True)
    assert aipc("run", *REHEARSE, "--ov-config", KEEPS, "-q", "-m", elsewhere, "Hello").code == 0
    (compiled,) = json.loads(aipc("models", "--json").out)["compiled_elsewhere"]
    assert compiled["path"] == str(elsewhere)
    assert "else\\u200bwhere" in aipc("models").out
    with locked(the_blob().parent):
        busy = aipc("models", "rm", elsewhere)
    assert (busy.code, "cannot be removed\ntry: again when no program uses it" in busy.err) == (1, True)
    removed = aipc("models", "rm", elsewhere)
    megabytes = f"{compiled['compiled_bytes'] / 1e6:,.1f} MB"
    assert removed.out == f"removed what was compiled of {elsewhere}, {megabytes}\n"
    assert (aipc("models").out, aipc("models", "verify", elsewhere).code) == ("", 0)


def test_without_a_store_it_runs_all_the_same(
    aipc: Aipc, guide_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("AIPC_HOME", os.fspath(tmp_path / "file" / "below"))
    result = aipc("run", "-m", guide_dir, *REHEARSE, "--ov-config", KEEPS, "--max-tokens", 5, "Hello")
    assert result.code == 0
    assert "the compiled model is not kept, and will be compiled anew next time" in result.err


def test_a_longrope_model_stays_where_its_text_is_right(tmp_path: Path) -> None:
    """Chunks of a prompt beyond the original context would get the factors of either side, in silence."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "phi-3.5-mini")  # short factors up to 64 tokens
    path = package.convert(checkpoint, tmp_path / "model", weights="int8").path
    chunks = {"MAX_PROMPT_LEN": "128", "NPUW_LLM_PREFILL_CHUNK_SIZE": "32"}
    with package.load(path, device="npu", rehearse=True, properties=chunks) as model:
        assert model.capabilities.context_tokens == 64
        with pytest.raises(ContextLengthError):
            model.stream("a" * 200, raw=True, max_tokens=1)
    with package.load(path, device="npu", rehearse=True, properties={"MAX_PROMPT_LEN": "128"}) as model:
        assert model.capabilities.context_tokens > 64  # read in one go, and anew at the switch


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_sees_that_it_compiles_and_for_how_long(guide_dir: Path) -> None:
    with Terminal(["run", "-m", guide_dir, *REHEARSE, "Hello"], columns=140) as terminal:
        terminal.wait_for(f"compiling for the {LABEL} (prompt 256 + answer 512 tokens)", seconds=60)
        terminal.wait_for("0:00:00", seconds=60)
        terminal.wait_for(f"{LABEL} (", seconds=60)
        assert terminal.end() == 0
