"""`--device auto` and `--require-device` as they are typed, on recorded PCs and with known speeds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Aipc
from recorded_machine import RecordedMachine

import aipc as library
from aipc.devices import doctor
from aipc.engines import fake
from aipc.errors import DeviceError
from aipc.monitor.measurements import FILE, read
from aipc.store import store_root

Sessions = list[fake.FakeSession]


@pytest.fixture
def model(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real OpenVINO directory on a Meteor Lake PC, run by the fake engine in OpenVINO's name."""
    monkeypatch.setattr(doctor, "ThisPc", lambda: RecordedMachine("meteor-lake-linux"))
    monkeypatch.setattr(fake.FakeSession, "engine", "openvino")
    monkeypatch.setattr("aipc.measuring.driver_of", lambda device: f"driver of {device}")
    directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
    with_speed(directory, 0.001)
    return directory


def with_speed(directory: Path, token_s: float) -> None:
    script = {"token_ids": [5] * 20, "token_s": token_s}
    (directory / "fake_engine.json").write_text(json.dumps(script), encoding="utf-8")


def test_auto_says_what_it_took_and_why_on_stderr(aipc: Aipc, sessions: Sessions, model: Path) -> None:
    result = aipc("run", "-m", model, "--device", "auto", "Hi")
    assert result.code == 0
    assert result.err.startswith("auto: GPU (Meteor Lake-P [Intel Arc Graphics]) by openvino: a GPU of this kind ")
    assert "auto" not in result.out
    assert [session.device for session in sessions] == ["GPU"]


def test_quiet_says_nothing_and_json_carries_the_reason(aipc: Aipc, model: Path) -> None:
    assert aipc("run", "-q", "-m", model, "--device", "AUTO", "Hi").err == ""
    named, chosen = (aipc("run", "--json", "-m", model, "--device", device, "Hi") for device in ("gpu", "auto"))
    assert json.loads(named.out)["statistics"]["device_choice"] is None
    assert json.loads(chosen.out)["statistics"]["device_choice"].startswith("GPU (Meteor Lake")


def test_chat_says_what_it_took(aipc: Aipc, sessions: Sessions, model: Path) -> None:
    result = aipc("chat", "-m", model, "--device", "auto", stdin=b"Hi\n")
    assert (result.code, sessions[0].device) == (0, "GPU")
    assert result.err.startswith("auto: GPU (Meteor Lake")
    assert len(read(store_root() / FILE)) == 1


@pytest.mark.parametrize(("words", "stdin"), [(["run", "Hi"], b""), (["chat"], b"Hi\nAgain\n")])
def test_that_a_newer_aipcs_measurements_are_left_alone_is_said_once(
    aipc: Aipc, model: Path, words: list[str], stdin: bytes
) -> None:
    file = store_root() / FILE
    file.write_text('{"format": 2}', encoding="utf-8")
    result = aipc(*words, "-m", model, stdin=stdin)
    assert result.code == 0
    assert result.err.count(f"the measurement is not kept: {file} was written by a newer aipc\ntry: pip ") == 1
    assert file.read_text(encoding="utf-8") == '{"format": 2}'


def test_answers_are_remembered_and_the_faster_device_is_taken(aipc: Aipc, sessions: Sessions, model: Path) -> None:
    for device, token_s in (("gpu", 0.02), ("npu", 0.002)):
        with_speed(model, token_s)  # a file beside the manifest's, so the model stays the same
        assert aipc("run", "-q", "-m", model, "--device", device, "Hi").code == 0
    assert [(entry.device, entry.driver) for entry in read(store_root() / FILE)] == [
        ("GPU", "driver of GPU"),
        ("NPU", "driver of NPU"),
    ]
    result = aipc("run", "-m", model, "--device", "auto", "Hi")
    assert sessions[-1].device == "NPU"
    assert "the fastest measured with this model (GPU " in result.err
    assert "; CPU not measured yet (an answer by --device cpu does)" in result.err


def test_a_named_device_needs_no_doctor(aipc: Aipc, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ThisPc", lambda: pytest.fail("the doctor was called"))
    for words in ([], ["--device", "cpu"], ["--require-device", "cpu"]):
        assert aipc("run", "-m", model, *words, "Hi").code == 0


@pytest.mark.parametrize(
    ("words", "device"),
    [
        (["--require-device", "npu"], "NPU"),
        (["--require-device", "cpu"], "CPU"),
        (["--require-device", "gpu", "--device", "auto"], "GPU"),
        (["--require-device", "gpu", "--device", "gpu.1"], "GPU.1"),
        (["--require-device", "gpu.0", "--device", "gpu"], "GPU"),
    ],
)
def test_a_required_device_runs(aipc: Aipc, sessions: Sessions, model: Path, words: list[str], device: str) -> None:
    assert aipc("run", "-m", model, *words, "Hi").code == 0
    assert sessions[0].device == device


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--require-device", "npu", "--device", "cpu"], 2, "--require-device npu with --device cpu"),
        (["--require-device", "npuu"], 2, "--require-device npuu"),
        (["--require-device", "npu", "--device", "auto"], 1, "--device auto takes gpu: expected --require-device npu"),
        (["--require-device", "npu", "--device", "AUTO:NPU,CPU"], 2, "leaves open what runs"),
        (["--require-device", "npu", "--ov-config", "NPUW_DEVICES=CPU"], 2, "found a rehearsal on the CPU\n"),
        (["--require-device", "npu", "--device", "npu", "--rehearse"], 2, "found a rehearsal on the CPU\n"),
        (["--require-device", "npu", "--ov-config", "NPUW_DEVICES=NPU,CPU"], 2, "found NPUW_DEVICES=NPU,CPU, which"),
        (["--require-device", "npu", "--ov-config", "NPUW_SUBMODEL_DEVICE=0:CPU"], 2, "NPUW_SUBMODEL_DEVICE=0:CPU"),
    ],
)
def test_what_would_run_elsewhere_fails_before_the_load(
    aipc: Aipc, sessions: Sessions, model: Path, words: list[str], code: int, message: str
) -> None:
    result = aipc("run", "-m", model, *words, "Hi")
    assert (result.code, result.out, sessions) == (code, "", [])
    assert message in result.err
    assert result.err.splitlines()[-1].startswith("try: ")


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("device", "CPU"), ("device", "NPU rehearsal on the CPU"), ("is_rehearsal", True)],
)
def test_a_session_that_runs_elsewhere_or_rehearses_is_closed_and_refused(
    sessions: Sessions, model: Path, monkeypatch: pytest.MonkeyPatch, attribute: str, value: object
) -> None:
    load = fake.load

    def elsewhere(*arguments: object) -> fake.FakeSession:
        session = load(*arguments)  # type: ignore[arg-type]
        setattr(session, attribute, value)
        return session

    monkeypatch.setattr(fake, "load", elsewhere)
    with pytest.raises(DeviceError, match="another device would run: expected --require-device npu, found "):
        library.load(model, device="npu", require_device="npu")
    assert [session.is_closed for session in sessions] == [True]


def test_auto_in_python_tells_why_on_the_model(model: Path) -> None:
    with library.load(model, device="auto") as loaded:
        assert loaded.session.device == "GPU"
        assert loaded.device_choice is not None
        assert loaded.generate("Hi").statistics().device_choice == loaded.device_choice


def test_a_device_that_is_not_there_is_told_before_a_conversion(
    aipc: Aipc, tiny_checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ThisPc", lambda: RecordedMachine("lunar-lake-linux-no-group"))
    for words in (["--device", "npu"], ["--require-device", "npu"]):
        result = aipc("run", "-m", tiny_checkpoint_dir, *words, "Hi")
        assert (result.code, result.out) == (1, "")
        assert "found /dev/accel/accel0 may be opened by the group render" in result.err
        assert "try: sudo usermod -aG render $USER" in result.err
    assert not (store_root() / "models").exists()


def test_auto_on_this_pc_runs_the_guide(aipc: Aipc) -> None:
    result = aipc("run", "--device", "auto", "Who are you?")
    assert result.code == 0
    assert "Guide" in result.out
    assert "\nauto: " in f"\n{result.err}"
    assert read(store_root() / FILE)


def test_auto_and_openvinos_properties_take_openvino(aipc: Aipc) -> None:
    result = aipc("run", "--device", "auto", "--ov-config", "NUM_STREAMS=1", "Hi")
    assert result.code == 0
    assert " by openvino: " in result.err
    assert read(store_root() / FILE) == []  # the answer was tuned


def test_auto_and_an_engine_that_the_directory_is_not_for_say_so(aipc: Aipc, tiny_model_dir: Path) -> None:
    pytest.importorskip("onnxruntime_genai", reason='ONNX Runtime GenAI is missing: pip install ".[onnx]"')
    result = aipc("run", "-m", tiny_model_dir, "--device", "auto", "--engine", "onnx", "Hi")
    assert result.code == 2
    assert "is no model for the onnx engine" in result.err
    assert "--to onnx" in result.err.splitlines()[-1]
