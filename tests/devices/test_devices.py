from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from aipc.devices import NotAvailable, find_memory
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
    processor = find_processor(tmp_path)
    assert "cpuinfo" in str(processor.name)
    assert str(processor.name).startswith("n/a (")
    assert processor.instruction_sets == {}


def test_a_recorded_pcs_memory_is_its_own() -> None:
    intel = find_memory(PCS / "core-ultra-7-155h")
    assert intel.total_bytes == 32539840 * 1024
    assert intel.available_bytes == 26843136 * 1024
    assert "MemAvailable" in str(find_memory(PCS / "snapdragon-x-elite").available_bytes)


def test_this_pc_is_found() -> None:
    processor = find_processor()
    assert processor.threads == os.cpu_count()
    assert find_memory().total_bytes == psutil.virtual_memory().total


def test_openvino_sees_this_cpu() -> None:
    seen = seen_by_openvino()
    assert not isinstance(seen, NotAvailable)
    assert isinstance(seen[0].capabilities, tuple)
    assert "FP32" in seen[0].capabilities


def test_without_openvino_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert isinstance(seen_by_openvino(), NotAvailable)


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


def test_finding_the_cpu_imports_no_engine() -> None:
    code = (
        "import sys; from pathlib import Path; from aipc.devices import find_processor\n"
        "find_processor(Path(sys.argv[1]))\n"
        "assert not {'openvino', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(PCS / "epyc-genoa-vm")], check=True, timeout=60)
