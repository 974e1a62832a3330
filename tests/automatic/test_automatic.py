"""`--device auto` on recorded PCs: the rule, what was measured, and the line that says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_machine import NAMES, RecordedMachine

from aipc.automatic import Pick, candidates, pick
from aipc.conversion import convert
from aipc.devices.doctor import Report, examine
from aipc.errors import DeviceError
from aipc.monitor.bandwidth import this_pc
from aipc.monitor.measurements import FILE, Measurement, record
from aipc.ready import ReadyModel, read_facts
from aipc.store import store_root
from aipc.store.identity import model_identity


@pytest.fixture
def ready(tiny_model_dir: Path) -> ReadyModel:
    """An OpenVINO directory that CPU, GPU and NPU take."""
    return read_facts("tiny", tiny_model_dir)


def picked(report: Report, ready: ReadyModel, engine: str | None = None) -> Pick:
    return pick(report, candidates(report, engine), ready)


def without(report: Report, *kinds: str) -> Report:
    return replace(report, devices=tuple(device for device in report.devices if device.kind not in kinds))


def measured(ready: ReadyModel, **speeds: float) -> None:
    """Tokens per second of OpenVINO's devices."""
    for device, speed in speeds.items():
        record(
            store_root() / FILE,
            Measurement(
                model=model_identity(ready.path),
                model_name=ready.name,
                recipe=None,
                pc=this_pc(),
                engine="openvino",
                engine_version="2026.4.1.0",
                device=device,
                device_name=device,
                driver=None,
                prompt_tokens=20,
                generated_tokens=50,
                decode_tokens_per_s=speed,
            ),
        )


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("meteor-lake-linux", ["openvino gpu", "openvino npu", "openvino cpu", "onnx cpu"]),
        (
            "meteor-lake-windows",  # its NPU's driver is too old
            ["onnx directml.0", "openvino gpu.0", "onnx directml.1", "openvino cpu", "onnx cpu"],
        ),
        ("lunar-lake-linux-no-group", ["openvino cpu"]),
        ("meteor-lake-linux-old-kernel", ["openvino cpu"]),
        ("nvidia-linux", ["onnx cuda.0", "onnx cpu"]),
        ("snapdragon-x-linux", ["openvino cpu"]),
        ("snapdragon-x-windows", ["onnx cpu"]),
        ("strix-point-linux", ["openvino cpu", "onnx cpu"]),
        ("xeon-vm-linux", ["openvino cpu", "onnx cpu"]),
    ],
)
def test_what_can_run_stands_in_the_order_of_the_rule(name: str, order: list[str]) -> None:
    found = candidates(examine(RecordedMachine(name)), None)
    assert [f"{one.engine} {one.name}" for one in found] == order


def test_an_older_gpu_on_the_die_goes_behind_the_cpu() -> None:
    report = examine(RecordedMachine("meteor-lake-linux"))
    older = [
        replace(device, name="UHD Graphics 770", generation="Xe-LP (Raptor Lake)") if device.kind == "GPU" else device
        for device in report.devices
    ]
    found = candidates(Report(tuple(older), {}), "openvino")
    assert [one.name for one in found] == ["npu", "cpu", "gpu"]


def test_a_pc_on_which_nothing_runs_says_why_and_what_to_install() -> None:
    machine = RecordedMachine("xeon-vm-linux")
    machine.packages = {}
    with pytest.raises(DeviceError, match=r"no device of this PC runs any engine(.|\n)*try: pip install"):
        candidates(examine(machine), None)


def test_without_measurements_the_rule_decides_and_says_so(ready: ReadyModel) -> None:
    report = examine(RecordedMachine("meteor-lake-linux"))
    gpu = picked(report, ready)
    assert (gpu.device, gpu.engine) == ("gpu", "openvino")
    assert gpu.why == (
        "GPU (Meteor Lake-P [Intel Arc Graphics]) by openvino: a GPU of this kind goes before NPU and CPU, by rule, "
        "as nothing was measured with this model"
    )
    assert picked(without(report, "GPU"), ready).device == "npu"
    assert picked(without(report, "GPU", "NPU"), ready).device == "cpu"


def test_a_device_that_the_doctor_refuses_is_named_with_its_reason(ready: ReadyModel) -> None:
    cpu = picked(examine(RecordedMachine("lunar-lake-linux-no-group")), ready)
    assert cpu.device == "cpu"
    assert "; NPU not taken: /dev/accel/accel0 may be opened by the group render" in cpu.why
    assert "; GPU not taken: /dev/dri/renderD128 may be opened by the group render" in cpu.why
    assert "there is no GPU and no NPU" in picked(examine(RecordedMachine("xeon-vm-linux")), ready).why


def test_a_device_that_does_not_take_the_models_weights_is_passed_over(
    tmp_path: Path, tiny_checkpoint_dir: Path
) -> None:
    converted = convert(tiny_checkpoint_dir, tmp_path / "asym", weights="int4", group_size=32, symmetric=False)
    asymmetric = read_facts("asym", converted.path)
    report = without(examine(RecordedMachine("meteor-lake-linux")), "GPU")
    cpu = picked(report, asymmetric)
    assert cpu.device == "cpu"
    assert "NPU not taken: expected symmetric INT4" in cpu.why


def test_a_directory_runs_by_its_own_engine_alone(ready: ReadyModel) -> None:
    report = examine(RecordedMachine("meteor-lake-windows"))
    arc = picked(report, ready)
    assert (arc.device, arc.engine) == ("gpu.0", "openvino")
    assert "GPU.1 not taken: OpenVINO runs on Intel's GPUs, not on NVIDIA's" in arc.why
    with pytest.raises(DeviceError, match=r"no device(.|\n)*OpenVINO runs on Intel's(.|\n)*--to onnx --device cuda"):
        picked(examine(RecordedMachine("nvidia-linux")), ready)


def test_a_directory_for_another_engine_than_was_asked_for_runs_nowhere(ready: ReadyModel) -> None:
    report = examine(RecordedMachine("meteor-lake-windows"))
    with pytest.raises(DeviceError, match=r"the model is for another engine(.|\n)*--to onnx"):
        picked(report, ready, "onnx")


def test_a_card_that_does_not_hold_the_model_is_passed_over(ready: ReadyModel) -> None:
    report = examine(RecordedMachine("meteor-lake-linux"))
    tiny_card = [
        replace(device, memory=replace(device.memory, is_shared=False, total_bytes=100_000))
        if device.kind == "GPU"
        else device
        for device in report.devices
    ]
    npu = picked(Report(tuple(tiny_card), {}), ready)
    assert npu.device == "npu"
    assert "GPU not taken: its 0.0 GiB do not hold the model's" in npu.why


def test_of_two_measured_devices_the_faster_is_taken_and_the_third_named(ready: ReadyModel) -> None:
    report = examine(RecordedMachine("meteor-lake-linux"))
    measured(ready, CPU=9.5, NPU=21.0)
    npu = picked(report, ready)
    assert npu.why == (
        "NPU (Meteor Lake NPU) by openvino: 21.0 tokens/s, the fastest measured with this model (CPU 9.5); "
        "GPU not measured yet (an answer by --device gpu does)"
    )
    assert (npu.device, npu.engine) == ("npu", "openvino")
    measured(ready, GPU=15.0)
    assert picked(report, ready).why.endswith("the fastest measured with this model (GPU 15.0, CPU 9.5)")


def test_one_measured_device_alone_decides_nothing(ready: ReadyModel) -> None:
    measured(ready, CPU=9.5)
    gpu = picked(examine(RecordedMachine("meteor-lake-linux")), ready)
    assert gpu.device == "gpu"
    assert gpu.why.endswith("by rule, as only CPU was measured with this model")


def test_a_device_that_was_measured_and_can_run_no_more_is_not_taken(ready: ReadyModel) -> None:
    measured(ready, CPU=9.5, NPU=21.0)
    assert picked(examine(RecordedMachine("lunar-lake-linux-no-group")), ready).device == "cpu"


@pytest.mark.parametrize("content", ["{", json.dumps({"format": 1, "measurements": [{"device": "NPU"}]})])
def test_a_damaged_record_leaves_the_rule(ready: ReadyModel, content: str) -> None:
    measured(ready, CPU=9.5, NPU=21.0)
    (store_root() / FILE).write_text(content, encoding="utf-8")
    assert picked(examine(RecordedMachine("meteor-lake-linux")), ready).device == "gpu"


def test_measurements_of_a_newer_aipc_leave_the_rule_and_are_named(ready: ReadyModel) -> None:
    measured(ready, CPU=9.5, NPU=21.0)
    file = store_root() / FILE
    file.write_text(file.read_text(encoding="utf-8").replace('"format": 1', '"format": 2'), encoding="utf-8")
    gpu = picked(examine(RecordedMachine("meteor-lake-linux")), ready)
    assert gpu.device == "gpu"
    assert gpu.why.endswith(f"by rule, as {file} was written by a newer aipc")


@pytest.mark.parametrize("name", NAMES)
def test_the_reason_is_one_line(ready: ReadyModel, name: str) -> None:
    report = examine(RecordedMachine(name))
    if any(verdict.engine == "openvino" and verdict.can_run for one in report.devices for verdict in one.verdicts):
        assert "\n" not in picked(report, ready).why
