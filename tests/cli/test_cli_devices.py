"""`aipc devices`: the table, the JSON and the exit code."""

from __future__ import annotations

import json

import pytest
from conftest import Aipc
from recorded_machine import NAMES, RecordedMachine

from aipc.cli.devices import examined
from aipc.devices.doctor import examine

Capture = pytest.CaptureFixture[str]


def test_devices_tells_of_this_cpu_on_stdout(aipc: Aipc) -> None:
    result = aipc("devices")
    assert (result.code, result.err) == (0, "")
    head, cpu = result.out.splitlines()[:2]
    assert head.split() == ["device", "name", "openvino", "onnx"]
    assert cpu.startswith("CPU ")
    assert "can run with --device cpu" in result.out
    assert "GiB" in result.out


def test_json_is_one_line_with_the_same_devices(aipc: Aipc) -> None:
    result = aipc("devices", "--json")
    assert (result.code, result.err, result.out.count("\n")) == (0, "", 1)
    cpu = json.loads(result.out)["devices"][0]
    assert (cpu["id"], cpu["kind"], cpu["can_run"]) == ("CPU", "CPU", True)
    assert cpu["verdicts"]["openvino"] == {
        "can_run": True,
        "device": "cpu",
        "grounds": "the runtime sees it",
        "obstacles": [],
    }


def test_a_word_that_is_no_device_is_wrong_usage(aipc: Aipc) -> None:
    result = aipc("devices", "tpu")
    assert (result.code, result.out) == (2, "")
    assert "expected cpu, gpu, gpu.1 or npu, found 'tpu'" in result.err


@pytest.mark.parametrize(
    ("name", "device", "code"),
    [
        ("meteor-lake-linux", "npu", 0),
        ("meteor-lake-linux", "GPU", 0),
        ("meteor-lake-linux", "gpu.1", 1),
        ("lunar-lake-linux-no-group", "npu", 1),
        ("lunar-lake-linux-no-group", "cpu", 0),
        ("strix-point-linux", "npu", 1),
        ("nvidia-linux", "gpu", 0),
        ("meteor-lake-windows", "gpu.1", 0),
        ("meteor-lake-windows", "npu", 1),
        ("snapdragon-x-windows", "cpu", 0),
        ("xeon-vm-linux", "npu", 1),
    ],
)
def test_the_exit_code_is_the_devices_verdict(name: str, device: str, code: int, capsys: Capture) -> None:
    assert examined(device, as_json=False, machine=RecordedMachine(name)) == code
    text = capsys.readouterr().out
    assert device.upper() in text
    assert ("can run with --device" in text) == (code == 0)
    assert ("try: " in text or "is not there" in text) or code == 0


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_available_is_null_with_its_reason(name: str, capsys: Capture) -> None:
    assert examined(None, as_json=True, machine=RecordedMachine(name)) == 0
    for device in json.loads(capsys.readouterr().out)["devices"]:
        assert all(device[key] is None and reason for key, reason in device["not_available"].items())
        assert {"name", "vendor", "generation", "driver", "firmware", "memory_bytes", "verdicts"} <= device.keys()


def test_who_asks_for_an_npu_that_cannot_run_is_told_of_the_rehearsal(capsys: Capture) -> None:
    hint = "without an NPU, --rehearse (in Python rehearse=True) runs the NPU's pipeline on the CPU\n"
    for name, device, is_told in (
        ("xeon-vm-linux", "npu", True),
        ("meteor-lake-linux", "npu", False),
        ("xeon-vm-linux", "gpu", False),
    ):
        examined(device, as_json=False, machine=RecordedMachine(name))
        assert capsys.readouterr().out.endswith(hint) is is_told


def test_one_device_alone_is_shown_when_it_is_asked_for(capsys: Capture) -> None:
    examined("npu", as_json=True, machine=RecordedMachine("meteor-lake-windows"))
    report = json.loads(capsys.readouterr().out)
    assert [device["id"] for device in report["devices"]] == ["NPU"]
    assert report["absent"] == {}


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_short_but_for_a_fix_which_is_one_line_to_be_copied(name: str, capsys: Capture) -> None:
    examined(None, as_json=False, machine=RecordedMachine(name))
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "try: " not in line) <= 120
    fixes = {found.fix for device in examine(RecordedMachine(name)).devices for found in device.verdicts[0].obstacles}
    assert fixes <= {line.partition("try: ")[2] for line in lines}
