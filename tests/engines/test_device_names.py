"""What `--device` and `--require-device` take."""

from __future__ import annotations

import pytest

from aipc.engines.device_names import checked_device, checked_required, fulfils
from aipc.errors import UsageError


@pytest.mark.parametrize("device", ["cpu", "GPU", "gpu.1", "NPU", "directml.arc", "cuda.0"])
def test_a_devices_word_stays_as_it_was_typed(device: str) -> None:
    assert checked_device(device) == device


@pytest.mark.parametrize(
    ("device", "nearest"), [("gpuu", "gpu"), ("npuu.1", "npu"), ("cuda:0", "cuda.0"), ("gpu.x", "gpu"), ("npu.", "npu")]
)
def test_an_unknown_device_names_the_nearest(device: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=rf"found '{device}'\ntry: --device {nearest}$"):
        checked_device(device)


@pytest.mark.parametrize("device", ["tpu", "", ".", "vulkan"])
def test_one_that_is_near_to_none_names_all(device: str) -> None:
    with pytest.raises(UsageError, match=r"expected auto, cpu, gpu, npu, directml or cuda(.|\n)*try: aipc devices"):
        checked_device(device)


@pytest.mark.parametrize("device", ["AUTO:NPU,CPU", "HETERO:GPU,CPU", "multi", "BATCH:GPU"])
def test_openvinos_names_that_leave_the_device_open_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match=r"leaves open what runs(.|\n)*--device auto"):
        checked_device(device)


@pytest.mark.parametrize(
    ("device", "required", "expected"),
    [
        ("NPU", "npu", True),
        ("CPU", "npu", False),
        ("GPU.1", "gpu", True),
        ("GPU", "gpu.0", True),
        ("GPU.1", "gpu.0", False),
        ("CUDA.0", "gpu", True),
        ("DIRECTML.1", "directml", True),
        ("DIRECTML.1", "cuda", False),
        ("CPU", "gpu", False),
    ],
)
def test_a_required_device_is_a_kind_or_one_of_it(device: str, required: str, expected: bool) -> None:
    assert fulfils(device, required) is expected


def test_a_required_device_that_contradicts_the_device_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="--require-device npu with --device cpu"):
        checked_required("npu", "cpu")
    for device in (None, "auto", "gpu.1", "DirectML"):
        assert checked_required("gpu", device) == "gpu"


def test_auto_is_no_device_that_can_be_required() -> None:
    with pytest.raises(UsageError, match=r"--require-device tpu: expected cpu, gpu, npu, directml or cuda;"):
        checked_required("tpu", None)


@pytest.mark.parametrize("required", ["auto", "gpu.arc", "tpu", "AUTO:NPU"])
def test_a_required_device_is_a_device(required: str) -> None:
    with pytest.raises(UsageError, match=f"--require-device {required}"):
        checked_required(required, None)
