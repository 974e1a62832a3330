from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from aipc.devices import NotAvailable, RuntimeDevice, find
from aipc.devices.openvino import seen_by_openvino
from aipc.devices.processor import (
    ARM_FLAGS,
    NUMPY_FEATURES,
    X86_FLAGS,
    detected_by_numpy,
    find_processor,
    parse_cpuinfo,
)

PCS = Path(__file__).parent / "pcs"


def test_a_meteor_lake_has_avx_vnni_and_no_avx_512() -> None:
    processor = find_processor(PCS / "core-ultra-7-155h")
    assert processor.name == "Intel(R) Core(TM) Ultra 7 155H"
    assert (processor.cores, processor.threads) == (16, 22)
    assert processor.instruction_sets_present == ("AVX2", "F16C", "AVX-VNNI")


def test_an_epyc_has_avx_512_and_no_amx() -> None:
    processor = find_processor(PCS / "epyc-genoa-vm")
    assert (processor.cores, processor.threads) == (2, 2)
    present = processor.instruction_sets_present
    assert present == ("AVX2", "F16C", "AVX-512F", "AVX-512 VNNI", "AVX-512 BF16")
    assert processor.instruction_sets["AMX-INT8"] is False


def test_an_arm_cpu_is_named_by_its_numbers_and_has_no_x86_sets() -> None:
    processor = find_processor(PCS / "snapdragon-x-elite")
    assert processor.name == "ARM implementer 0x51 part 0x001"
    assert processor.architecture == "arm64"
    assert processor.threads == 12
    assert isinstance(processor.cores, NotAvailable)
    assert processor.instruction_sets_present == ("NEON", "FP16", "DotProd", "I8MM", "BF16")


def test_an_instruction_set_that_only_some_cores_have_is_not_there() -> None:
    text = "processor: 0\nflags: avx2 avx512f\ncore id: 0\n\nprocessor: 1\nflags: avx2\ncore id: 1\n"
    assert parse_cpuinfo(text).instruction_sets_present == ("AVX2",)


@pytest.mark.parametrize("text", ["", "nonsense", "processor: 0\n", "Hardware: x\n\nprocessor: 0\nFeatures:\n"])
def test_a_strange_cpuinfo_is_not_available_rather_than_a_guess(text: str) -> None:
    processor = parse_cpuinfo(text)
    assert isinstance(processor.name, NotAvailable)
    assert not processor.instruction_sets_present


def test_a_pc_without_cpuinfo_says_why(tmp_path: Path) -> None:
    (device,) = find(tmp_path)
    assert "cpuinfo" in str(device.name)
    assert str(device.name).startswith("n/a (")
    assert device.processor is not None
    assert device.processor.instruction_sets == {}


def test_a_recorded_pcs_memory_is_its_own() -> None:
    (intel,) = find(PCS / "core-ultra-7-155h")
    assert intel.memory is not None
    assert intel.memory.total_bytes == 32539840 * 1024
    assert intel.memory.available_bytes == 26843136 * 1024
    (arm,) = find(PCS / "snapdragon-x-elite")
    assert arm.memory is not None
    assert "MemAvailable" in str(arm.memory.available_bytes)


def test_a_recorded_pc_does_not_ask_this_pcs_openvino() -> None:
    (cpu,) = find(PCS / "core-ultra-7-155h")
    assert isinstance(cpu.runtime, NotAvailable)


def test_the_devices_that_a_runtime_sees_are_listed_after_the_cpu() -> None:
    missing = NotAvailable("a test")
    seen = [RuntimeDevice(id, f"an {id}", ("FP16",), missing) for id in ("GPU.0", "NPU", "CPU")]
    cpu, gpu, npu = find(PCS / "core-ultra-7-155h", runtime=lambda: seen)
    assert [device.id for device in (cpu, gpu, npu)] == ["CPU", "GPU.0", "NPU"]
    assert (cpu.name, cpu.runtime) == ("Intel(R) Core(TM) Ultra 7 155H", seen[2])
    assert (gpu.name, gpu.kind, gpu.processor) == ("an GPU.0", "GPU", None)


def test_this_pc_is_found() -> None:
    cpu = find()[0]
    assert cpu.processor is not None
    assert cpu.memory is not None
    assert cpu.processor.threads == os.cpu_count()
    assert cpu.memory.total_bytes == psutil.virtual_memory().total
    assert isinstance(cpu.runtime, RuntimeDevice)
    assert "FP32" in cpu.runtime.capabilities


@pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc/cpuinfo")
def test_numpy_detects_what_the_kernel_lists() -> None:
    kernel = find_processor().instruction_sets
    numpy = detected_by_numpy(tuple(kernel))
    for name in kernel:
        if isinstance(numpy[name], NotAvailable):
            assert name not in NUMPY_FEATURES
        else:
            assert numpy[name] == kernel[name]
    assert NUMPY_FEATURES.keys() <= X86_FLAGS.keys() | ARM_FLAGS.keys()


class CoreWithBrokenGpu:
    available_devices = ("CPU", "GPU", "NPU")

    def get_property(self, device: str, name: str) -> object:
        if device == "GPU":
            raise RuntimeError("Exception from src/core.cpp:117:\nno OpenCL driver\n")
        return {"FULL_DEVICE_NAME": "a name", "OPTIMIZATION_CAPABILITIES": ["INT8"], "NPU_DRIVER_VERSION": 17}[name]


def test_a_device_that_fails_to_answer_is_listed_with_the_reason() -> None:
    seen = seen_by_openvino(CoreWithBrokenGpu())
    assert not isinstance(seen, NotAvailable)
    cpu, gpu, npu = seen
    assert str(gpu.name) == "n/a (no OpenCL driver)"
    assert npu.driver_version == "17"
    assert isinstance(cpu.driver_version, NotAvailable)


def test_without_openvino_the_cpu_is_found_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    (cpu,) = find()
    assert isinstance(cpu.runtime, NotAvailable)
    assert cpu.processor is not None


def test_finding_the_cpu_imports_no_engine() -> None:
    code = (
        "import sys; from pathlib import Path; from aipc.devices import find; find(Path(sys.argv[1]))\n"
        "assert not {'openvino', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(PCS / "epyc-genoa-vm")], check=True, timeout=60)
