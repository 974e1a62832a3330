from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import EXACT, OpenVinoModel, greedy
from tiny_checkpoint import write_checkpoint

from aipc.conversion import convert
from aipc.engines import LoadOptions, Sampling
from aipc.engines import openvino as engine
from aipc.engines.openvino_device import checked_properties, found_device, full_name
from aipc.engines.openvino_rehearsal import REHEARSAL
from aipc.errors import (
    ContextLengthError,
    DeviceError,
    EmptyPromptError,
    EngineError,
    MissingPackageError,
    UsageError,
)
from aipc.monitor.statistics import from_steps
from aipc.openvino_import import import_openvino

PROMPT = list(range(5, 45))
OPTIONS = LoadOptions(context_tokens=256, properties=EXACT)
NPU_ON_CPU = {
    **REHEARSAL,
    "MAX_PROMPT_LEN": "64",
    "MIN_RESPONSE_LEN": "64",
}


@pytest.fixture(scope="module")
def session(tiny_model_dir: Path) -> Iterator[engine.OpenVINOSession]:
    with engine.load(tiny_model_dir, "cpu", OPTIONS) as session:
        yield session


def ids(session: engine.OpenVINOSession, prompt: list[int] = PROMPT, **sampling: object) -> list[int]:
    return [step.token_id for step in session.stream(prompt, Sampling(**sampling))]


@pytest.mark.parametrize("logprobs", [False, True])
def test_greedy_tokens_equal_an_argmax_loop(
    session: engine.OpenVINOSession, tiny_model_dir: Path, logprobs: bool
) -> None:
    expected = greedy(OpenVinoModel(tiny_model_dir), PROMPT, 40)
    assert ids(session, max_tokens=40, logprobs=logprobs) == expected
    assert ids(session, max_tokens=40, logprobs=logprobs) == expected


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.3, "seed": 3}])
def test_logprobs_are_the_models_own(
    session: engine.OpenVINOSession, tiny_model_dir: Path, sampling: dict[str, float]
) -> None:
    steps = list(session.stream(PROMPT, Sampling(max_tokens=10, logprobs=True, **sampling)))
    generated = [step.token_id for step in steps]
    logits = OpenVinoModel(tiny_model_dir).logits(PROMPT + generated[:-1])[-10:].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert [step.logprob for step in steps] == pytest.approx(logprobs[range(10), generated], abs=1e-4)


def test_without_logprobs_there_is_none(session: engine.OpenVINOSession) -> None:
    assert {step.logprob for step in session.stream(PROMPT, Sampling(max_tokens=3))} == {None}


def test_a_second_turn_equals_a_fresh_prompt(session: engine.OpenVINOSession, tiny_model_dir: Path) -> None:
    second = [*PROMPT, *ids(session, max_tokens=20), 7, 8, 9]
    assert ids(session, second, max_tokens=20) == greedy(OpenVinoModel(tiny_model_dir), second, 20)


@pytest.mark.parametrize("logprobs", [False, True])
def test_a_stop_token_is_the_last_step(session: engine.OpenVINOSession, logprobs: bool) -> None:
    whole = ids(session, max_tokens=12)
    stop = frozenset({whole[5], 511})
    expected = whole[: whole.index(whole[5]) + 1]
    assert ids(session, max_tokens=12, stop_token_ids=stop, logprobs=logprobs) == expected


def test_the_models_generation_config_is_ignored(tiny_model_dir: Path, tmp_path: Path) -> None:
    model_dir = shutil.copytree(tiny_model_dir, tmp_path / "model")
    with engine.load(model_dir, "CPU", OPTIONS) as plain:
        expected = ids(plain, max_tokens=20)
    defaults = {"eos_token_id": expected[2], "do_sample": True, "repetition_penalty": 3.0, "max_new_tokens": 3}
    (model_dir / "generation_config.json").write_text(json.dumps(defaults), encoding="utf-8")
    with engine.load(model_dir, "CPU", OPTIONS) as configured:
        assert ids(configured, max_tokens=20) == expected


def test_a_seed_repeats_and_no_seed_differs(session: engine.OpenVINOSession) -> None:
    def sampled(seed: int | None) -> list[int]:
        return ids(session, max_tokens=24, temperature=3.0, seed=seed)

    assert sampled(3) == sampled(3)
    assert sampled(3) != sampled(4)
    assert sampled(None) != sampled(None)


def test_top_k_one_is_greedy_at_any_temperature(session: engine.OpenVINOSession) -> None:
    assert ids(session, max_tokens=12, temperature=5.0, top_k=1) == ids(session, max_tokens=12)


def test_a_repetition_penalty_changes_what_repeats(session: engine.OpenVINOSession) -> None:
    repetitive = PROMPT + ids(session, max_tokens=40)
    plain = ids(session, repetitive, max_tokens=10)
    assert ids(session, repetitive, max_tokens=10, repetition_penalty=50.0) != plain


@pytest.mark.parametrize("logprobs", [False, True])
def test_a_closed_stream_frees_its_request_for_the_next(session: engine.OpenVINOSession, logprobs: bool) -> None:
    expected = ids(session, max_tokens=20)
    pipeline = session._pipeline._pipeline
    sizes = set()
    for _ in range(5):
        stream = session.stream(PROMPT, Sampling(max_tokens=200, logprobs=logprobs))
        next(stream)
        stream.close()
        assert not pipeline.has_non_finished_requests()
        assert ids(session, max_tokens=20) == expected
        sizes.add(pipeline.get_metrics().cache_size_in_bytes)
    block_bytes = 32 * 2 * 2 * 128 * 4  # tokens, keys and values, layers, hidden size, float32
    assert max(sizes) <= -(-(len(PROMPT) + 200) // 32) * block_bytes  # one request's worth, and no more


def test_closing_the_session_ends_an_open_stream_with_an_error(tiny_model_dir: Path) -> None:
    for logprobs in (False, True):
        session = engine.load(tiny_model_dir, "CPU", OPTIONS)
        stream = session.stream(PROMPT, Sampling(max_tokens=200, logprobs=logprobs))
        next(stream)
        session.close()
        with pytest.raises(EngineError, match="closed"):
            list(stream)
        with pytest.raises(EngineError, match="closed"):
            session.stream(PROMPT, Sampling(max_tokens=2))


def test_a_closed_session_computes_no_further_token_with_logprobs(tiny_model_dir: Path) -> None:
    session = engine.load(tiny_model_dir, "CPU", OPTIONS)
    stream = session.stream(PROMPT, Sampling(max_tokens=200, logprobs=True))
    next(stream)
    session.close()
    with pytest.raises(EngineError, match="closed"):
        next(stream)


def test_a_second_stream_is_refused_while_one_is_open(session: engine.OpenVINOSession) -> None:
    first = session.stream(PROMPT, Sampling(max_tokens=200))
    next(first)
    with pytest.raises(EngineError, match="already generating"):
        next(session.stream(PROMPT, Sampling(max_tokens=2)))
    first.close()
    assert len(ids(session, max_tokens=2)) == 2


def test_a_stream_during_the_warm_up_waits_and_is_right(tiny_model_dir: Path) -> None:
    with engine.load(tiny_model_dir, "CPU", OPTIONS) as session:
        expected = ids(session, max_tokens=20)
    for _ in range(3):
        with engine.load(tiny_model_dir, "CPU", OPTIONS) as session:
            warming = [threading.Thread(target=session.warm_up) for _ in range(3)]
            for thread in warming:
                thread.start()
            assert ids(session, max_tokens=20) == expected
            for thread in warming:
                thread.join()


def test_closing_during_a_warm_up_waits_for_its_end(tiny_model_dir: Path) -> None:
    session = engine.load(tiny_model_dir, "CPU", OPTIONS)
    warming = threading.Thread(target=session.warm_up)
    warming.start()
    session.close()
    assert not session._turns.computing.locked()
    warming.join()


def test_a_warm_up_while_a_stream_is_open_leaves_it_alone(session: engine.OpenVINOSession) -> None:
    for logprobs in (False, True):
        stream = session.stream(PROMPT, Sampling(max_tokens=20, logprobs=logprobs))
        first = next(stream).token_id
        session.warm_up()
        assert [first, *(step.token_id for step in stream)] == ids(session, max_tokens=20)


def test_requests_that_cannot_be_carried_out_are_refused_at_the_call(session: engine.OpenVINOSession) -> None:
    with pytest.raises(EmptyPromptError):
        session.stream([], Sampling())
    with pytest.raises(ContextLengthError):
        session.stream(PROMPT, Sampling(max_tokens=256))
    with pytest.raises(UsageError, match="vocabulary"):
        session.stream([512], Sampling(max_tokens=1))
    assert ids(session, [511] * 255, max_tokens=1)  # to the last token of the context


def test_an_absent_device_is_an_error_that_lists_those_there(tiny_model_dir: Path) -> None:
    for device in ("GPU.7", "NPU", "AUTO:NPU,CPU"):
        with pytest.raises(DeviceError, match="CPU"):
            engine.load(tiny_model_dir, device, LoadOptions())


def test_a_stand_in_that_is_not_there_is_told_as_openvino_says_it(tiny_model_dir: Path) -> None:
    lengths = {"MAX_PROMPT_LEN": "64", "MIN_RESPONSE_LEN": "64"}
    for device in ("GPU.7", "CPU.0"):
        properties = {**REHEARSAL, "NPUW_DEVICES": device, **lengths}
        with pytest.raises(EngineError, match=rf"cannot be loaded \(NPU rehearsal on the {device}\)"):
            engine.load(tiny_model_dir, "npu", LoadOptions(properties=properties, keeps_compiled=True))


def test_a_name_is_looked_at_before_its_value(tiny_model_dir: Path) -> None:
    with pytest.raises(UsageError, match="NPU has no property 'INFERENCE_PRECISION_HINT'"):
        engine.load(
            tiny_model_dir, "npu", LoadOptions(properties={**REHEARSAL, "INFERENCE_PRECISION_HINT": "no precision"})
        )


def test_the_cpu_is_found_without_asking_other_devices_drivers() -> None:
    class Core:
        def get_property(self, device: str, name: str) -> str:
            assert device == "CPU"
            return "a name"

    assert found_device(Core(), "cpu", {}) == "CPU"  # `available_devices` would be an AttributeError


def test_the_first_of_a_kind_may_be_numbered_where_it_is_alone() -> None:
    class Core:
        available_devices = ("CPU", "GPU", "NPU")

        def get_property(self, *_: str) -> str:
            return "a name"

    assert [found_device(Core(), f"{kind}.0", {}) for kind in ("cpu", "GPU", "npu")] == ["CPU", "GPU", "NPU"]
    with pytest.raises(DeviceError):
        found_device(Core(), "gpu.1", {})
    several = Core()
    several.available_devices = ("CPU", "GPU.0", "GPU.1")
    assert [found_device(several, name, {}) for name in ("gpu", "gpu.0", "gpu.1")] == ["GPU", "GPU.0", "GPU.1"]


@pytest.mark.parametrize("properties", [{"NPUW_DEVICES": "CPU,NPU"}, {"NPUW_SUBMODEL_DEVICE": "0:CPU"}])
def test_what_may_run_parts_of_an_npus_pipeline_elsewhere_is_refused(properties: dict[str, str]) -> None:
    class Core:
        def get_property(self, *_: str) -> dict[str, str]:
            return {}

        def set_property(self, *_: object) -> None:
            pass

    with pytest.raises(UsageError, match="leaves open what runs"):
        checked_properties(Core(), "NPU", properties)
    assert "NPUW_DEVICES" in checked_properties(Core(), "NPU", {"NPUW_DEVICES": "NPU"})


def test_an_unknown_property_names_the_near_ones(tiny_model_dir: Path) -> None:
    for name in ("INFERENCE_NUM_THREAD", "inference_num_threads"):
        with pytest.raises(UsageError, match="INFERENCE_NUM_THREADS"):
            engine.load(tiny_model_dir, "CPU", LoadOptions(properties={name: "2"}))
    with pytest.raises(UsageError, match="FULL_DEVICE_NAME"):  # there, and read-only
        engine.load(tiny_model_dir, "CPU", LoadOptions(properties={"FULL_DEVICE_NAME": "x"}))


@pytest.mark.parametrize(
    ("device", "properties", "reason"),
    [
        ("cpu", {"NUM_STREAMS": "banana"}, "NUM_STREAMS=banana: found .*banana"),
        ("cpu", {"PERFORMANCE_HINT": "FAST"}, "found .*LATENCY/THROUGHPUT"),
        ("npu", {**REHEARSAL, "PERFORMANCE_HINT": "FAST"}, "found Value 'FAST' is not a valid PERFORMANCE_HINT option"),
        (
            "npu",
            {**REHEARSAL, "EXECUTION_MODE_HINT": "performance"},
            "EXECUTION_MODE_HINT=performance: found Wrong value",
        ),
        ("npu", {**REHEARSAL, "NPU_COMPILER_TYPE": "FAST"}, "NPU does not take the property NPU_COMPILER_TYPE=FAST"),
    ],
)
def test_a_value_that_the_plugin_refuses_is_told_before_anything_is_loaded(
    device: str, properties: dict[str, str], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=reason):
        engine.load(tmp_path / "no model is looked for", device, LoadOptions(context_tokens=128, properties=properties))


def test_an_option_that_the_compiler_refuses_is_named_as_what_to_leave_out(tiny_model_dir: Path) -> None:
    options = LoadOptions(context_tokens=128, properties={**REHEARSAL, "NPUW_BANANA": "1"}, keeps_compiled=False)
    with pytest.raises(EngineError, match=r"NPU rehearsal on the CPU(.|\n)*try: the same without NPUW_BANANA;"):
        engine.load(tiny_model_dir, "npu", options)


def test_openvinos_own_error_is_one_line(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as wrong_value:
        engine.load(tiny_model_dir, "CPU", LoadOptions(properties={"KV_CACHE_PRECISION": "u3"}))
    model_dir = shutil.copytree(tiny_model_dir, tmp_path / "model")
    (model_dir / "openvino_model.xml").write_text("<net", encoding="utf-8")
    with pytest.raises(EngineError) as wrong_file:
        engine.load(model_dir, "CPU", LoadOptions())
    for caught in (wrong_value, wrong_file):
        assert "\n" not in str(caught.value.found)
        assert "Exception from" not in str(caught.value)


def test_a_directory_without_a_model_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"openvino_model\.xml"):
        engine.load(tmp_path, "CPU", LoadOptions())


def test_a_missing_package_names_the_command(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    with pytest.raises(MissingPackageError, match="pip install openvino-genai"):
        engine.load(tiny_model_dir, "CPU", LoadOptions())


def test_nothing_is_printed(tiny_model_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with engine.load(tiny_model_dir, "CPU", LoadOptions(context_tokens=256)) as session:
        ids(session, max_tokens=3)
    assert capfd.readouterr() == ("", "")


def test_the_session_knows_its_device(session: engine.OpenVINOSession) -> None:
    assert (session.engine, session.device) == ("openvino", "CPU")
    assert session.device_name not in ("", "CPU")


def test_a_rehearsal_of_the_npu_does_not_pass_for_the_npu(tiny_model_dir: Path) -> None:
    with engine.load(tiny_model_dir, "NPU", LoadOptions(context_tokens=256, properties=NPU_ON_CPU)) as session:
        assert (session.device, session.is_rehearsal) == ("NPU rehearsal on the CPU", True)
        assert session.device_name == full_name(import_openvino().Core(), "CPU", {})
        steps = list(session.stream(PROMPT, Sampling(max_tokens=2)))
        facts = from_steps(
            steps,
            session,
            started_s=0.0,
            prompt_tokens=len(PROMPT),
            load_s=0.0,
            peak_memory_bytes=1,
            bytes_per_token=1,
            memory_bandwidth_bytes_per_s=1.0,
        ).to_json()
    assert (facts["device"], facts["rehearsal"]) == ("NPU rehearsal on the CPU", True)
    assert facts["bandwidth_share"] is None


@pytest.fixture(scope="module")
def longrope_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short factors up to 64 tokens, long ones beyond."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("longrope") / "checkpoint", "phi-3.5-mini")
    return convert(checkpoint, checkpoint.parent / "model", weights="int8").path


def recomputed_logprobs(model_dir: Path, prompt: list[int], tokens: int) -> tuple[list[int], list[float]]:
    """Greedy without any cache: what transformers computes on either side of the switch."""
    model, sequence, logprobs = OpenVinoModel(model_dir), list(prompt), []
    for _ in range(tokens):
        model.reset()
        logits = model.logits(sequence)[-1].astype(np.float64)
        sequence.append(int(logits.argmax()))
        logprobs.append(float(logits.max() - np.log(np.exp(logits).sum())))
    return sequence[len(prompt) :], logprobs


def test_where_a_prefix_may_be_reused_is_known(longrope_dir: Path, tiny_model_dir: Path) -> None:
    def reused(model_dir: Path, device: str, **options: Any) -> int | None:
        with engine.load(model_dir, device, LoadOptions(context_tokens=128, **options)) as session:
            return session.capabilities.reused_prefix_tokens

    assert reused(tiny_model_dir, "cpu") == 16
    assert reused(longrope_dir, "cpu", rope_switch_tokens=64) is None
    lengths = {"MAX_PROMPT_LEN": "64", "MIN_RESPONSE_LEN": "64"}
    assert reused(tiny_model_dir, "npu", properties={**REHEARSAL, **lengths}) is None


@pytest.mark.parametrize("prompt_tokens", [50, 63, 64, 65])
def test_longrope_is_recomputed_where_the_factors_change(longrope_dir: Path, prompt_tokens: int) -> None:
    prompt = [5 + i % 400 for i in range(prompt_tokens)]
    expected, logprobs = recomputed_logprobs(longrope_dir, prompt, 20)
    options = LoadOptions(context_tokens=256, properties=EXACT, rope_switch_tokens=64)
    with engine.load(longrope_dir, "CPU", options) as session:
        steps = list(session.stream(prompt, Sampling(max_tokens=20, logprobs=True)))
        assert ids(session, prompt, max_tokens=20) == expected
    assert [step.token_id for step in steps] == expected
    assert [step.logprob for step in steps] == pytest.approx(logprobs, abs=1e-3)


def test_without_the_switch_longrope_would_differ(longrope_dir: Path) -> None:
    prompt = [5 + i % 400 for i in range(50)]
    _, logprobs = recomputed_logprobs(longrope_dir, prompt, 20)
    with engine.load(longrope_dir, "CPU", OPTIONS) as session:
        steps = list(session.stream(prompt, Sampling(max_tokens=20, logprobs=True)))
    wrong = [step.logprob != pytest.approx(logprob, abs=1e-3) for step, logprob in zip(steps, logprobs, strict=True)]
    assert wrong.index(True) == 64 - 50 + 1


def test_a_longrope_session_reuses_no_keys_of_the_other_factors(longrope_dir: Path) -> None:
    long = [5 + i % 400 for i in range(80)]
    options = LoadOptions(context_tokens=256, properties=EXACT, rope_switch_tokens=64)
    with engine.load(longrope_dir, "CPU", options) as session:
        ids(session, long, max_tokens=2)
        steps = list(session.stream(long[:40], Sampling(max_tokens=2, logprobs=True)))
    _, logprobs = recomputed_logprobs(longrope_dir, long[:40], 2)
    assert [step.logprob for step in steps] == pytest.approx(logprobs, abs=1e-3)


@pytest.fixture(scope="module")
def rehearsed_npu(tiny_model_dir: Path) -> Iterator[engine.OpenVINOSession]:
    options = LoadOptions(context_tokens=4096, properties=NPU_ON_CPU)
    with engine.load(tiny_model_dir, "npu", options) as session:
        yield session


def test_a_rehearsed_npu_generates_the_same_tokens(
    rehearsed_npu: engine.OpenVINOSession, session: engine.OpenVINOSession
) -> None:
    expected = ids(session, max_tokens=12)
    assert ids(rehearsed_npu, max_tokens=12) == expected
    stop = frozenset({expected[3]})
    assert ids(rehearsed_npu, max_tokens=12, stop_token_ids=stop) == expected[: expected.index(expected[3]) + 1]


def test_an_npus_static_lengths_are_capabilities(rehearsed_npu: engine.OpenVINOSession) -> None:
    capabilities = rehearsed_npu.capabilities
    assert (capabilities.longest_prompt_tokens, capabilities.context_tokens) == (64, 128)
    with pytest.raises(ContextLengthError, match="MAX_PROMPT_LEN"):
        rehearsed_npu.stream([5] * 65, Sampling(max_tokens=1))
    with pytest.raises(ContextLengthError):
        rehearsed_npu.stream([5] * 64, Sampling(max_tokens=65))
    with pytest.raises(UsageError, match="log-probabilities"):
        rehearsed_npu.stream(PROMPT, Sampling(max_tokens=1, logprobs=True))
    assert len(ids(rehearsed_npu, [5] * 64, max_tokens=64)) == 64


def test_a_cancelled_npu_answers_again(rehearsed_npu: engine.OpenVINOSession) -> None:
    expected = ids(rehearsed_npu, max_tokens=8)
    stream = rehearsed_npu.stream(PROMPT, Sampling(max_tokens=60))
    next(stream)
    stream.close()
    assert ids(rehearsed_npu, max_tokens=8) == expected


def test_an_npu_length_that_is_no_number_is_refused(tiny_model_dir: Path) -> None:
    options = LoadOptions(properties={**NPU_ON_CPU, "MAX_PROMPT_LEN": "long"})
    with pytest.raises(UsageError, match="MAX_PROMPT_LEN"):
        engine.load(tiny_model_dir, "NPU", options)


def run_python(code: str, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "LOCALAPPDATA": str(home), "CI": "false"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


def test_importing_openvino_sends_nothing_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, threading, aipc.openvino_import as late\n"
        "late.import_genai()\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "assert threading.active_count() == 1\n"
        "import openvino; openvino.convert_model\n"
    )
    done = run_python(code, home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_program_may_end_with_a_stream_open(tiny_model_dir: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from aipc.engines import LoadOptions, Sampling, openvino\n"
        "session = openvino.load(Path(sys.argv[1]), 'CPU', LoadOptions(context_tokens=100_000))\n"
        "stream = session.stream([5], Sampling(max_tokens=90_000)); next(stream); print('first')\n"
    )
    done = run_python(code, str(tiny_model_dir), home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "first\n", "")
