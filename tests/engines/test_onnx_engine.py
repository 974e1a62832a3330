"""The ONNX engine on the CPU, against NumPy on the very weights that it runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from networks import greedy, reference
from onnx_models import convert_to_onnx, genai_or_skip
from tiny_checkpoint import write_checkpoint

from aipc.engines import LoadOptions, Sampling
from aipc.engines import onnx as engine
from aipc.errors import ContextLengthError, EmptyPromptError, EngineError, MissingPackageError, UsageError
from aipc.graph.numpy import NumpyModel
from aipc.onnx_import import first_useful_line
from aipc.quant.recipe import Recipe
from aipc.targets import target_of

genai_or_skip()

PROMPT = list(range(5, 45))
OPTIONS = LoadOptions(context_tokens=256)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint_dir: Path) -> Path:
    """Do not write into it."""
    return convert_to_onnx(tiny_checkpoint_dir, tmp_path_factory.mktemp("onnx") / "tiny-fp32")


@pytest.fixture
def numpy_model(tiny_checkpoint_dir: Path) -> NumpyModel:
    return reference(tiny_checkpoint_dir, Recipe("fp32"), target_of("onnx"))


@pytest.fixture(scope="module")
def session(model_dir: Path) -> Iterator[engine.OnnxSession]:
    with engine.load(model_dir, "cpu", OPTIONS) as session:
        yield session


def ids(session: engine.OnnxSession, prompt: list[int] = PROMPT, **sampling: object) -> list[int]:
    return [step.token_id for step in session.stream(prompt, Sampling(**sampling))]


@pytest.mark.parametrize("logprobs", [False, True])
def test_greedy_tokens_equal_numpys(session: engine.OnnxSession, numpy_model: NumpyModel, logprobs: bool) -> None:
    expected = greedy(numpy_model, PROMPT, 40)
    assert ids(session, max_tokens=40, logprobs=logprobs) == expected
    assert ids(session, max_tokens=40, logprobs=logprobs) == expected


def test_a_prompt_of_several_pieces_past_the_window_gives_the_same_tokens(
    session: engine.OnnxSession, numpy_model: NumpyModel
) -> None:
    prompt = [5 + i * 7 % 400 for i in range(150)]
    assert ids(session, prompt, max_tokens=20) == greedy(numpy_model, prompt, 20)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.3, "seed": 3}])
def test_logprobs_are_the_models_own(
    session: engine.OnnxSession, numpy_model: NumpyModel, sampling: dict[str, float]
) -> None:
    steps = list(session.stream(PROMPT, Sampling(max_tokens=10, logprobs=True, **sampling)))
    generated = [step.token_id for step in steps]
    logits = numpy_model.logits(PROMPT + generated[:-1])[-10:].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert [step.logprob for step in steps] == pytest.approx(logprobs[range(10), generated], abs=1e-4)


def test_without_logprobs_there_is_none(session: engine.OnnxSession) -> None:
    assert {step.logprob for step in session.stream(PROMPT, Sampling(max_tokens=3))} == {None}


def test_a_stop_token_is_the_last_step(session: engine.OnnxSession) -> None:
    whole = ids(session, max_tokens=12)
    stop = frozenset({whole[5], 511})
    assert ids(session, max_tokens=12, stop_token_ids=stop) == whole[: whole.index(whole[5]) + 1]


@pytest.mark.parametrize("logprobs", [False, True])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "seed": 7, "repetition_penalty": 1.2}])
def test_the_models_own_end_tokens_and_search_options_are_ignored(
    model_dir: Path, tmp_path: Path, logprobs: bool, sampling: dict[str, float]
) -> None:
    copy = shutil.copytree(model_dir, tmp_path / "model")
    with engine.load(copy, "cpu", OPTIONS) as plain:
        expected = ids(plain, max_tokens=20, logprobs=logprobs, **sampling)
    config = json.loads((copy / "genai_config.json").read_text(encoding="utf-8"))
    config["model"]["eos_token_id"] = [expected[2], expected[9], expected[19]]
    config["search"] |= {"do_sample": True, "repetition_penalty": 3.0, "max_length": 3, "min_length": 60, "top_k": 2}
    (copy / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    with engine.load(copy, "cpu", OPTIONS) as configured:
        assert ids(configured, max_tokens=20, logprobs=logprobs, **sampling) == expected


def test_a_seed_repeats_and_no_seed_differs(session: engine.OnnxSession) -> None:
    def sampled(seed: int | None) -> list[int]:
        return ids(session, max_tokens=24, temperature=3.0, seed=seed)

    assert sampled(3) == sampled(3)
    assert sampled(2**63 - 1) == sampled(2**63 - 1)
    assert sampled(3) != sampled(4)
    assert sampled(None) != sampled(None)


def test_without_filters_tokens_come_as_often_as_the_model_says(
    session: engine.OnnxSession, numpy_model: NumpyModel
) -> None:
    draws = [ids(session, PROMPT[:4], max_tokens=1, temperature=2.0, seed=seed)[0] for seed in range(600)]
    logits = numpy_model.logits(PROMPT[:4])[-1].astype(np.float64) / 2.0
    expected = np.exp(logits - logits.max())
    expected /= expected.sum()
    found = np.bincount(draws, minlength=len(expected)) / len(draws)
    likely = expected.argsort()[-5:]
    assert found[likely] == pytest.approx(expected[likely], abs=0.06)


def test_filters_leave_the_likeliest_tokens(session: engine.OnnxSession, numpy_model: NumpyModel) -> None:
    order = numpy_model.logits(PROMPT)[-1].argsort()[::-1]
    top_k = {ids(session, max_tokens=1, temperature=50.0, top_k=3, seed=seed)[0] for seed in range(40)}
    assert top_k == set(order[:3].tolist())
    assert {ids(session, max_tokens=1, temperature=1.0, top_p=1e-6, seed=seed)[0] for seed in range(10)} == {order[0]}
    assert ids(session, max_tokens=12, temperature=5.0, top_k=1) == ids(session, max_tokens=12)
    assert len(ids(session, max_tokens=2, temperature=1.0, top_k=2**31 - 1)) == 2  # more than the vocabulary has


def test_a_repetition_penalty_changes_what_repeats(session: engine.OnnxSession) -> None:
    repetitive = PROMPT + ids(session, max_tokens=40)
    plain = ids(session, repetitive, max_tokens=10)
    assert ids(session, repetitive, max_tokens=10, repetition_penalty=50.0) != plain


@pytest.mark.parametrize("logprobs", [False, True])
def test_a_closed_stream_frees_its_cache_and_the_next_one_is_right(session: engine.OnnxSession, logprobs: bool) -> None:
    expected = ids(session, max_tokens=20)
    stream = session.stream(PROMPT, Sampling(max_tokens=200, logprobs=logprobs))
    next(stream)
    stream.close()
    assert session._generation is None
    assert ids(session, max_tokens=20) == expected


def test_closing_the_session_ends_an_open_stream_with_an_error(model_dir: Path) -> None:
    session = engine.load(model_dir, "cpu", OPTIONS)
    stream = session.stream(PROMPT, Sampling(max_tokens=200))
    next(stream)
    session.close()
    with pytest.raises(EngineError, match="closed"):
        next(stream)
    with pytest.raises(EngineError, match="closed"):
        session.stream(PROMPT, Sampling(max_tokens=2))
    with pytest.raises(EngineError, match="closed"):
        session.warm_up()


def test_closing_from_another_thread_stops_a_long_prompt_between_its_pieces(model_dir: Path) -> None:
    session = engine.load(model_dir, "cpu", OPTIONS)
    closing = threading.Thread(target=session.close)
    append, pieces = engine.Generation.append, []

    def closed_meanwhile(self: engine.Generation, token_ids: list[int]) -> None:
        append(self, token_ids)
        pieces.append(len(token_ids))
        if not closing.ident:
            closing.start()
            while session._model is not None:
                pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Generation, "append", closed_meanwhile)
        with pytest.raises(EngineError, match="closed"):
            next(session.stream([5] * 200, Sampling(max_tokens=2)))
    closing.join()
    assert pieces == [128]


def test_a_second_stream_is_refused_while_one_is_open(session: engine.OnnxSession) -> None:
    first = session.stream(PROMPT, Sampling(max_tokens=200))
    next(first)
    with pytest.raises(EngineError, match="already generating"):
        next(session.stream(PROMPT, Sampling(max_tokens=2)))
    first.close()
    assert len(ids(session, max_tokens=2)) == 2


def test_a_stream_during_the_warm_up_waits_and_is_right(model_dir: Path) -> None:
    with engine.load(model_dir, "cpu", OPTIONS) as session:
        expected = ids(session, max_tokens=20)
    with engine.load(model_dir, "cpu", OPTIONS) as session:
        warming = [threading.Thread(target=session.warm_up) for _ in range(3)]
        for thread in warming:
            thread.start()
        assert ids(session, max_tokens=20) == expected
        for thread in warming:
            thread.join()


def test_a_warm_up_while_a_stream_is_open_leaves_it_alone(session: engine.OnnxSession) -> None:
    stream = session.stream(PROMPT, Sampling(max_tokens=20))
    first = next(stream).token_id
    session.warm_up()
    assert [first, *(step.token_id for step in stream)] == ids(session, max_tokens=20)


def test_requests_that_cannot_be_carried_out_are_refused_at_the_call(session: engine.OnnxSession) -> None:
    with pytest.raises(EmptyPromptError):
        session.stream([], Sampling())
    with pytest.raises(ContextLengthError):
        session.stream(PROMPT, Sampling(max_tokens=256))
    with pytest.raises(UsageError, match="vocabulary"):
        session.stream([512], Sampling(max_tokens=1))
    assert ids(session, [511] * 255, max_tokens=1)  # to the last token of the context


def test_the_context_is_no_longer_than_the_directory_allows(model_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model_dir, tmp_path / "model")
    config = json.loads((copy / "genai_config.json").read_text(encoding="utf-8"))
    config["model"]["context_length"] = 100
    (copy / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    with engine.load(copy, "cpu", OPTIONS) as session:
        assert session.capabilities.context_tokens == 100


def test_the_session_knows_its_device_and_the_size_of_its_cache(session: engine.OnnxSession) -> None:
    assert (session.engine, session.device) == ("onnx", "CPU")
    assert session.device_name not in ("", "CPU")
    assert session.capabilities.kv_element_bytes == 4


def test_a_property_is_wrong_usage(model_dir: Path) -> None:
    with pytest.raises(UsageError, match="NUM_STREAMS"):
        engine.load(model_dir, "cpu", LoadOptions(properties={"NUM_STREAMS": "1"}))


@pytest.mark.parametrize(("device", "package"), [("cpu", r"aipc\[onnx\]"), ("cuda", r"aipc\[cuda\]")])
def test_a_missing_package_names_the_command(device: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from aipc.onnx_import import import_genai

    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    monkeypatch.delitem(sys.modules, "onnxruntime_genai")
    monkeypatch.setattr("aipc.onnx_import.NAME", "onnxruntime_genai_that_is_missing")
    with pytest.raises(MissingPackageError, match=f"pip install .*{package}"):
        import_genai(device)


def test_nothing_is_printed(model_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with engine.load(model_dir, "cpu", OPTIONS) as session:
        ids(session, max_tokens=3)
    assert capfd.readouterr() == ("", "")


def change_config(model_dir: Path, tmp_path: Path, **sections: dict[str, object]) -> Path:
    copy = shutil.copytree(model_dir, tmp_path / "changed")
    config = json.loads((copy / "genai_config.json").read_text(encoding="utf-8"))
    for name, values in sections.items():
        section = config["model"] if name == "model" else config["model"]["decoder"][name]
        section.update(values)
    (copy / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    return copy


def test_what_genai_refuses_is_an_error_of_one_line_and_no_log(
    model_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EngineError, match="Unsupported model_type") as refused:
        engine.load(change_config(model_dir, tmp_path, model={"type": "unheard-of"}), "cpu", OPTIONS)
    assert "\n" not in str(refused.value.found)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "sections", [{"model": {"vocab_size": 10**6}}, {"outputs": {"logits": "present.0.key"}}], ids=["sizes", "names"]
)
def test_a_config_that_contradicts_the_graph_fails_in_the_open(
    model_dir: Path, tmp_path: Path, sections: dict[str, dict[str, object]], capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        engine.load(change_config(model_dir, tmp_path, **sections), "cpu", OPTIONS) as session,
        pytest.raises(EngineError, match=r"CPU failed while generating: found (Invalid|Got invalid)"),
    ):
        ids(session, max_tokens=2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "/a/tensor.cc:76 static f(int) [ONNXRuntimeError] : 1 : FAIL : tensor.cc:57 Shape is -1\n\n",
            "tensor.cc:57 Shape is -1",
        ),
        ("max_length (9) is too long", "max_length (9) is too long"),
        ("", "RuntimeError"),
        ("x" * 1000, "x" * 299 + "…"),
    ],
)
def test_the_useful_part_of_a_message_is_shown(text: str, line: str) -> None:
    assert first_useful_line(RuntimeError(text)) == line


# LongRoPE: short factors up to 64 tokens, long ones beyond.


@pytest.fixture(scope="module")
def longrope(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NumpyModel]:
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("longrope") / "checkpoint", "phi-3-mini-128k")
    model_dir = convert_to_onnx(checkpoint, checkpoint.parent / "model")
    return model_dir, reference(checkpoint, Recipe("fp32"), target_of("onnx"))


def recomputed(model: NumpyModel, prompt: list[int], tokens: int) -> tuple[list[int], list[float]]:
    """Greedy without any cache: what transformers computes on either side of the switch."""
    sequence, logprobs = list(prompt), []
    for _ in range(tokens):
        model.reset()
        logits = model.logits(sequence)[-1].astype(np.float64)
        sequence.append(int(logits.argmax()))
        logprobs.append(float(logits.max() - np.log(np.exp(logits).sum())))
    return sequence[len(prompt) :], logprobs


@pytest.mark.parametrize("prompt_tokens", [50, 63, 64, 65, 130])
def test_longrope_is_recomputed_where_the_factors_change(longrope: tuple[Path, NumpyModel], prompt_tokens: int) -> None:
    model_dir, numpy_model = longrope
    prompt = [5 + i % 400 for i in range(prompt_tokens)]
    expected, logprobs = recomputed(numpy_model, prompt, 20)
    with engine.load(model_dir, "cpu", LoadOptions(context_tokens=256, rope_switch_tokens=64)) as session:
        steps = list(session.stream(prompt, Sampling(max_tokens=20, logprobs=True)))
        assert ids(session, prompt, max_tokens=20) == expected
    assert [step.token_id for step in steps] == expected
    assert [step.logprob for step in steps] == pytest.approx(logprobs, abs=1e-3)


def test_without_the_switch_longrope_would_differ(longrope: tuple[Path, NumpyModel]) -> None:
    model_dir, numpy_model = longrope
    prompt = [5 + i % 400 for i in range(50)]
    _, logprobs = recomputed(numpy_model, prompt, 20)
    with engine.load(model_dir, "cpu", OPTIONS) as session:
        steps = list(session.stream(prompt, Sampling(max_tokens=20, logprobs=True)))
    wrong = [step.logprob != pytest.approx(logprob, abs=1e-3) for step, logprob in zip(steps, logprobs, strict=True)]
    assert wrong.index(True) == 64 - 50 + 1


def test_genai_does_not_compute_a_longrope_model_anew_on_its_own(tmp_path: Path) -> None:
    changes = {"max_position_embeddings": 4352, "original_max_position_embeddings": 4096, "num_hidden_layers": 1}
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "phi-3-mini-128k", **changes)
    model_dir = convert_to_onnx(checkpoint, tmp_path / "model")
    prompt = [5 + i % 400 for i in range(4095)]
    expected, _ = recomputed(reference(checkpoint, Recipe("fp32"), target_of("onnx")), prompt, 5)
    appended = []
    append = engine.Generation.append

    def counted(self: engine.Generation, token_ids: list[int]) -> None:
        appended.append(len(token_ids))
        append(self, token_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Generation, "append", counted)
        options = LoadOptions(context_tokens=4352, rope_switch_tokens=4096)
        with engine.load(model_dir, "cpu", options) as session:
            assert ids(session, prompt, max_tokens=5) == expected
    assert appended == [128] * 31 + [127, 4097]


# Other programs.


def run_python(code: str, *arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "LOCALAPPDATA": str(home), **variables}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    environment |= variables
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


def test_importing_genai_sends_nothing_and_writes_nothing(model_dir: Path, tmp_path: Path) -> None:
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from aipc.engines import LoadOptions, Sampling, onnx\n"
        "assert 'onnxruntime_genai' not in sys.modules and 'onnx' not in sys.modules\n"
        "with onnx.load(Path(sys.argv[1]), 'cpu', LoadOptions(context_tokens=64)) as session:\n"
        "    assert len(list(session.stream([5], Sampling(max_tokens=3)))) == 3\n"
        "assert threading.active_count() == 1 and 'onnx' not in sys.modules\n"
    )
    done = run_python(code, str(model_dir), home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_program_may_end_with_a_stream_open(model_dir: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from aipc.engines import LoadOptions, Sampling, onnx\n"
        "session = onnx.load(Path(sys.argv[1]), 'cpu', LoadOptions(context_tokens=256))\n"
        "stream = session.stream([5], Sampling(max_tokens=200)); next(stream); print('first')\n"
    )
    done = run_python(code, str(model_dir), home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "first\n", "")
