"""A device that OpenVINO does not see: the doctor's reason and fix, on recorded PCs."""

from __future__ import annotations

import pytest
from recorded_machine import RecordedMachine

from aipc.engines.openvino_absent import absent_device

SAID = "libopenvino_intel_gpu_plugin.so: libOpenCL.so.1: cannot open shared object file"


@pytest.mark.parametrize(
    ("name", "device", "reason", "fix"),
    [
        ("lunar-lake-linux-no-group", "npu", "may be opened by the group render", "sudo usermod -aG render $USER"),
        ("meteor-lake-linux-old-kernel", "gpu", "needs Linux 6.7 or newer", "install a newer kernel"),
        ("meteor-lake-windows", "NPU", "driver 32.0.100.3104 is too old", "install the newest from https"),
        ("meteor-lake-windows", "gpu.1", "OpenVINO runs on Intel's GPUs", "--engine onnx --device directml"),
        ("nvidia-linux", "gpu", "OpenVINO runs on Intel's GPUs", "--engine onnx --device cuda"),
        ("xeon-vm-linux", "npu", "this is a virtual machine", "pass the device through"),
    ],
)
def test_the_doctors_reason_and_fix_stand_for_openvinos(name: str, device: str, reason: str, fix: str) -> None:
    text = str(absent_device(device, ["CPU"], SAID, machine=RecordedMachine(name)))
    assert text.startswith(f"device {device!r} cannot be used: expected one that OpenVINO sees here (CPU), found ")
    assert reason in text and "libopenvino" not in text
    assert f"\ntry: {fix}" in text
    assert f"\nor: aipc devices {device.lower()} tells more" in text
    assert ("--rehearse" in text) == (device.lower() == "npu")


@pytest.mark.parametrize("device", ["gpu.7", "TPU", "AUTO:NPU,CPU"])
def test_where_the_doctor_knows_nothing_openvinos_own_text_stays(device: str) -> None:
    error = absent_device(device, ["CPU", "GPU"], SAID, machine=RecordedMachine("meteor-lake-linux"))
    assert (error.found, error.try_next) == (SAID, "aipc devices")
