"""The doctor on recorded PCs: what it finds, what it says is in the way, and the fix."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from recorded_machine import MACHINES, NAMES, RecordedMachine

from aipc.devices.device import Device
from aipc.devices.doctor import examine
from aipc.devices.known import NotAvailable
from aipc.devices.machine import ThisPc
from aipc.devices.packages import OPENVINO, OPENVINO_RANGE
from aipc.devices.verdict import Verdict
from aipc.devices.windows_devices import SCRIPT
from aipc.errors import UsageError


def device(machine: RecordedMachine, device_id: str) -> Device:
    (found,) = (found for found in examine(machine).devices if found.id == device_id)
    return found


def verdict(machine: RecordedMachine, device_id: str, engine: str = "openvino") -> Verdict:
    (found,) = (verdict for verdict in device(machine, device_id).verdicts if verdict.engine == engine)
    return found


def said(verdict: Verdict) -> tuple[str, str]:
    """The only obstacle's reason and fix."""
    (obstacle,) = verdict.obstacles
    return obstacle.reason, obstacle.fix


def test_a_healthy_meteor_lake_runs_on_all_three() -> None:
    machine = RecordedMachine("meteor-lake-linux")
    cpu, gpu, npu = examine(machine).devices
    assert [found.id for found in (cpu, gpu, npu)] == ["CPU", "GPU", "NPU"]
    assert [found.verdicts[0].can_run for found in (cpu, gpu, npu)] == [True, True, True]
    assert [found.verdicts[0].device for found in (cpu, gpu, npu)] == ["cpu", "gpu", "npu"]
    assert cpu.generation == "Meteor Lake"
    assert cpu.firmware == "microcode 0x24"
    assert gpu.name == "Meteor Lake-P [Intel Arc Graphics]"
    assert gpu.generation == "Xe-LPG (Meteor Lake)"
    assert (npu.vendor, npu.generation) == ("Intel", "NPU 3720 (Meteor Lake)")
    assert npu.driver == "intel_vpu of Linux 6.14.0-37-generic, libze_intel_npu 1.28.0"
    assert str(npu.firmware).startswith("20250415*MTL_CLIENT_SILICON")
    assert (npu.memory.total_bytes, npu.memory.is_shared) == (32539840 * 1024, True)
    assert npu.memory.available_bytes == 24404880 * 1024
    assert npu.capabilities == ("FP16", "INT8")


def test_an_npus_own_engine_is_named_where_onnx_has_none() -> None:
    reason, fix = said(verdict(RecordedMachine("meteor-lake-linux"), "NPU", "onnx"))
    assert "no provider for Intel's NPU" in reason
    assert fix == "--engine openvino --device npu"
    _, fix = said(verdict(RecordedMachine("lunar-lake-linux-no-group"), "NPU", "onnx"))
    assert fix == "the same as for openvino"  # which cannot run there either, yet


def test_a_user_outside_of_the_group_is_told_which_and_how_to_join() -> None:
    machine = RecordedMachine("lunar-lake-linux-no-group")
    for device_id, node in (("NPU", "/dev/accel/accel0"), ("GPU", "/dev/dri/renderD128")):
        reason, fix = said(verdict(machine, device_id))
        assert reason == f"{node} may be opened by the group render (crw-rw----), and this user is not in it"
        assert fix == "sudo usermod -aG render $USER, then log out and log in again"
    assert device(machine, "NPU").generation == "NPU 4000 (Lunar Lake)"


def test_a_user_who_joined_the_group_after_logging_in_is_told_to_log_in_again() -> None:
    joined = {"/etc/group": "render:x:992:ada\n"}
    reason, fix = said(verdict(RecordedMachine("lunar-lake-linux-no-group", joined), "NPU"))
    assert "after this session began" in reason
    assert fix == "log out and log in again"


def test_a_node_of_roots_alone_is_to_be_given_to_the_group() -> None:
    reason, fix = said(verdict(RecordedMachine("lunar-lake-linux-no-group", {"stat": "root crw-------\n"}), "NPU"))
    assert reason == "/dev/accel/accel0 may be opened by root alone (root crw-------)"
    assert fix.startswith("sudo chown root:render /dev/accel/accel0 && sudo chmod g+rw /dev/accel/accel0 && ")


def test_a_container_without_the_node_is_to_be_started_with_it() -> None:
    machine = RecordedMachine("lunar-lake-linux-no-group")
    machine.removed |= {"/dev/accel/accel0", "stat"}
    machine.environment["container"] = "podman"
    assert said(verdict(machine, "NPU"))[1] == "start the container with --device /dev/accel/accel0"


def test_a_container_whose_user_is_in_no_group_of_the_node_is_to_be_started_with_it() -> None:
    machine = RecordedMachine("lunar-lake-linux-no-group", {"stat": "UNKNOWN crw-rw---- 992\n"})
    machine.environment["container"] = "podman"
    fix = said(verdict(machine, "NPU"))[1]
    assert fix == "start the container with --device /dev/accel/accel0 --group-add 992"


def test_a_node_of_a_group_without_a_name_is_to_be_given_to_one() -> None:
    machine = RecordedMachine("lunar-lake-linux-no-group", {"stat": "UNKNOWN crw-rw---- 992\n"})
    assert said(verdict(machine, "NPU"))[1].startswith("sudo chown root:render /dev/accel/accel0")


def test_a_kernel_that_is_too_old_names_the_one_that_is_needed() -> None:
    machine = RecordedMachine("meteor-lake-linux-old-kernel")
    reason, fix = said(verdict(machine, "NPU"))
    assert reason == (
        "the kernel 5.15.0-119-generic is too old for the NPU of Meteor Lake, which needs Linux 6.6 or newer"
    )
    assert fix.startswith("install a newer kernel")
    assert "needs Linux 6.7 or newer" in said(verdict(machine, "GPU"))[0]
    assert isinstance(device(machine, "NPU").driver, NotAvailable)


NOTHING_SEEN = {"runtimes": '{"openvino": [], "directx": [], "cuda": [], "instruction_sets": {}}'}
UNBOUND = {"/sys/bus/pci/devices/0000:00:0b.0/uevent": "PCI_ID=8086:7D1D\n", **NOTHING_SEEN}


def unbound(*removed: str) -> RecordedMachine:
    """The Meteor Lake without a driver on its NPU, and without some files."""
    machine = RecordedMachine("meteor-lake-linux", UNBOUND)
    machine.removed.update(removed)
    return machine


def test_a_module_that_failed_to_start_the_npu_points_to_the_log() -> None:
    reason, fix = said(verdict(unbound(), "NPU"))
    assert "is loaded but did not start the NPU" in reason
    assert fix.startswith("sudo dmesg | grep intel_vpu")


def test_a_missing_firmware_is_named_by_its_file() -> None:
    reason, fix = said(verdict(unbound("/lib/firmware/intel/vpu/vpu_37xx_v1.bin.zst"), "NPU"))
    assert reason == "the NPU's firmware /lib/firmware/intel/vpu/vpu_37xx_v1.bin is not there"
    assert "intel-fw-npu" in fix


def test_a_kernel_without_the_module_needs_its_extra_modules() -> None:
    reason, fix = said(verdict(unbound("/sys/module/intel_vpu/initstate"), "NPU"))
    assert reason == "the kernel 6.14.0-37-generic has no module intel_vpu"
    assert "linux-modules-extra" in fix


@pytest.mark.parametrize("place", ["kernel/drivers/accel/ivpu", "updates/dkms"])
def test_a_module_that_is_there_but_not_loaded_is_to_be_loaded(place: str) -> None:
    machine = unbound("/sys/module/intel_vpu/initstate")
    machine.replaced[f"/lib/modules/6.14.0-37-generic/{place}/intel_vpu.ko.zst"] = ""
    assert said(verdict(machine, "NPU")) == ("the kernel module intel_vpu is not loaded", "sudo modprobe intel_vpu")


@pytest.mark.parametrize(
    ("removed", "package"),
    [
        (("libze_loader.so.1", "libze_loader.so.1.24.2"), "libze1"),
        (("libze_intel_npu.so.1", "libze_intel_npu.so.1.28.0"), "intel-level-zero-npu"),
        (("libnpu_driver_compiler.so",), "intel-driver-compiler-npu"),
    ],
)
def test_a_missing_library_of_the_npu_names_its_package(removed: tuple[str, ...], package: str) -> None:
    machine = RecordedMachine("meteor-lake-linux")
    machine.removed |= {f"/usr/lib/x86_64-linux-gnu/{name}" for name in removed}
    if package != "intel-driver-compiler-npu":  # OpenVINO sees an NPU whose compiler is missing
        machine.replaced |= NOTHING_SEEN
    reason, fix = said(verdict(machine, "NPU"))
    assert reason.endswith(("is not installed", "OpenVINO's Linux wheel has none"))
    assert package in fix


def lunar_lake_in_the_group() -> RecordedMachine:
    seen = {"id": "NPU", "name": "Intel(R) AI Boost", "capabilities": ["INT4"], "driver_version": "35"}
    answer = json.dumps({"openvino": [seen], "directx": [], "cuda": [], "instruction_sets": {}})
    machine = RecordedMachine("lunar-lake-linux-no-group", {"runtimes": answer})
    machine.forbidden = []
    return machine


def test_a_compiler_under_either_of_its_names_will_do() -> None:
    machine = lunar_lake_in_the_group()
    assert "libopenvino_intel_npu_compiler_loader.so" in machine.list("/usr/lib/x86_64-linux-gnu")
    assert verdict(machine, "NPU").can_run
    machine.removed.add("/usr/lib/x86_64-linux-gnu/libopenvino_intel_npu_compiler_loader.so")
    assert said(verdict(machine, "NPU"))[0].startswith("the NPU's compiler libopenvino_intel_npu_compiler_loader.so")


def test_a_library_is_found_where_the_loader_was_told_to_look() -> None:
    machine = lunar_lake_in_the_group()
    machine.removed.add("/usr/lib/x86_64-linux-gnu/libopenvino_intel_npu_compiler_loader.so")
    machine.replaced["/etc/ld.so.conf.d/npu.conf"] = "# of a package\n/opt/npu/lib\n"
    machine.replaced["/opt/npu/lib/libopenvino_intel_npu_compiler_loader.so"] = ""
    assert verdict(machine, "NPU").can_run


def test_of_two_versions_of_a_library_the_higher_number_counts() -> None:
    machine = RecordedMachine("meteor-lake-linux")
    machine.replaced["/usr/lib/x86_64-linux-gnu/libze_intel_npu.so.1.5.1.20240708"] = ""
    assert str(device(machine, "NPU").driver).endswith("libze_intel_npu 1.28.0")


def test_an_npu_that_another_driver_holds_is_to_be_bound_by_a_command() -> None:
    reason, fix = said(verdict(RecordedMachine("meteor-lake-linux", UNBOUND | VFIO), "NPU"))
    assert reason == "the kernel driver vfio-pci holds the NPU"
    assert fix.startswith("echo 0000:00:0b.0 | sudo tee /sys/bus/pci/drivers/vfio-pci/unbind && ")


VFIO = {"/sys/bus/pci/devices/0000:00:0b.0/uevent": "DRIVER=vfio-pci\n"}


def test_a_newer_npu_than_the_tables_know_is_shown() -> None:
    replaced = {"/sys/bus/pci/devices/0000:00:0b.0/device": "0xffee\n"}
    npu = device(RecordedMachine("meteor-lake-linux", replaced), "NPU")
    assert npu.can_run  # as OpenVINO sees it
    assert "ffee is not known" in str(npu.generation)
    ids = {"/sys/bus/pci/devices/0000:c5:00.1/device": "0x1fff\n"}
    assert "1fff revision" in str(device(RecordedMachine("strix-point-linux", ids), "NPU").generation)


def test_the_firmware_comes_from_the_journal_where_dmesg_is_for_root() -> None:
    machine = RecordedMachine("meteor-lake-linux")
    machine.replaced["journalctl"] = str(machine.run("dmesg"))
    machine.removed.add("dmesg")
    assert str(device(machine, "NPU").firmware).startswith("20250415*MTL_CLIENT_SILICON")
    del machine.replaced["journalctl"]
    assert "cannot be read (dmesg cannot be run)" in str(device(machine, "NPU").firmware)


def test_a_driver_that_is_too_old_for_the_generation_names_the_release() -> None:
    machine = RecordedMachine("meteor-lake-linux", NOTHING_SEEN)
    machine.replaced["/sys/bus/pci/devices/0000:00:0b.0/device"] = "0xfd3e\n"
    npu = device(machine, "NPU")
    assert npu.generation == "NPU 5020 (Wildcat Lake)"
    assert said(npu.verdicts[0])[0] == "the NPU driver 1.28.0 is too old for Wildcat Lake, which needs 1.32.0 or newer"


def test_a_runtime_that_sees_the_device_refutes_a_guess() -> None:
    machine = RecordedMachine("meteor-lake-linux")
    machine.replaced["/sys/bus/pci/devices/0000:00:0b.0/device"] = "0xfd3e\n"  # as above, but OpenVINO lists an NPU
    assert verdict(machine, "NPU").can_run


def test_a_runtime_that_does_not_see_a_healthy_device_is_the_obstacle() -> None:
    machine = RecordedMachine("meteor-lake-linux", NOTHING_SEEN)
    assert "does not see the device" in said(verdict(machine, "NPU"))[0]


@pytest.mark.parametrize("answer", ["", "nonsense", "[]", '{"openvino": 1}'])
def test_a_runtime_that_crashes_is_the_obstacle(answer: str) -> None:
    reason, _ = said(verdict(RecordedMachine("meteor-lake-linux", {"runtimes": answer}), "CPU"))
    assert reason.startswith("OpenVINO does not answer: ")


def test_packages_of_different_releases_clash() -> None:
    machine = RecordedMachine("meteor-lake-linux")
    machine.packages["openvino-tokenizers"] = "2026.2.0.0"
    reason, fix = said(verdict(machine, "NPU"))
    assert reason == (
        "the versions of OpenVINO's packages clash: openvino 2026.4.1, openvino-genai 2026.4.1.0, "
        "openvino-tokenizers 2026.2.0.0"
    )
    assert fix.startswith("pip install --upgrade ")


@pytest.mark.parametrize(("patch", "fits"), [("2026.4.0", False), ("2026.4.1", True), ("2026.4.10", True)])
def test_openvino_is_no_older_than_what_was_built_against_it(patch: str, fits: bool) -> None:
    machine = RecordedMachine("meteor-lake-linux")
    machine.packages["openvino"] = patch
    assert verdict(machine, "CPU").can_run == fits


def test_a_missing_package_is_to_be_installed() -> None:
    machine = RecordedMachine("nvidia-linux")
    assert said(verdict(machine, "CPU")) == (
        "not installed: openvino-tokenizers",
        'pip install "openvino-tokenizers==2026.4.*"',
    )


def test_missing_opencl_is_named_by_its_packages() -> None:
    machine = RecordedMachine("meteor-lake-linux", NOTHING_SEEN)
    machine.removed |= {"/etc/OpenCL/vendors/intel.icd"}
    machine.removed |= {f"/usr/lib/x86_64-linux-gnu/libOpenCL.so.1{end}" for end in ("", ".0.0")}
    fixes = [obstacle.fix for obstacle in verdict(machine, "GPU").obstacles]
    assert "ocl-icd-libopencl1" in fixes[0]
    assert "intel-opencl-icd" in fixes[1]


def test_an_amd_npu_is_described_though_no_engine_runs_on_it() -> None:
    machine = RecordedMachine("strix-point-linux")
    npu = device(machine, "NPU")
    assert (npu.vendor, npu.generation, npu.firmware) == ("AMD", "XDNA 2 (Strix Point)", "1.0.0.63")
    assert not npu.can_run
    assert [found.fix for verdict in npu.verdicts for found in verdict.obstacles] == ["--device cpu"] * 2
    (note,) = npu.notes
    assert note.reason.startswith("this process may lock 8 MiB of memory")
    assert "memlock unlimited" in note.fix
    gpu = device(machine, "GPU")
    assert (gpu.generation, gpu.can_run, gpu.memory.is_shared) == ("RDNA 3.5 (Strix Point)", False, True)


def test_an_amd_npu_without_its_driver_says_since_when_linux_has_it() -> None:
    old = {"/proc/sys/kernel/osrelease": "6.8.0-57-generic\n", "/sys/bus/pci/devices/0000:c5:00.1/uevent": ""}
    (note,) = device(RecordedMachine("strix-point-linux", old), "NPU").notes
    assert note.reason == "the kernel 6.8.0-57-generic has no driver amdxdna, which came with Linux 6.14"


def test_an_nvidia_gpu_runs_onnx_by_cuda() -> None:
    machine = RecordedMachine("nvidia-linux")
    gpu = device(machine, "GPU")
    assert (gpu.name, gpu.driver) == ("NVIDIA GeForce RTX 4090", "nvidia 580.95.05")
    assert gpu.generation == "Ada Lovelace, compute capability 8.9"
    assert (gpu.memory.total_bytes, gpu.memory.is_shared) == (24564 * 2**20, False)
    assert (verdict(machine, "GPU", "onnx").can_run, verdict(machine, "GPU", "onnx").device) == (True, "cuda.0")
    assert "not on NVIDIA's" in said(verdict(machine, "GPU"))[0]


def nvidia_smi(*rows: str) -> dict[str, str]:
    return {"nvidia-smi": "\n".join(rows)}


RTX_4090 = "00000000:01:00.0, NVIDIA GeForce RTX 4090, 580.95.05, 24564, 8.9, 95.02.3C.00.8C"


def test_an_nvidia_driver_or_gpu_that_is_too_old_for_cuda_13_is_named() -> None:
    older = RecordedMachine("nvidia-linux", nvidia_smi(RTX_4090.replace("580.95.05", "570.124.06")))
    reason, fix = said(verdict(older, "GPU", "onnx"))
    assert reason == "NVIDIA's driver 570.124.06 is too old for CUDA 13, which needs 580 or newer"
    assert "ubuntu-drivers install" in fix
    pascal = RecordedMachine("nvidia-linux", nvidia_smi(RTX_4090.replace("8.9", "6.1")))
    assert "compute capability 7.5 or newer, and this one has 6.1" in said(verdict(pascal, "GPU", "onnx"))[0]


@pytest.mark.parametrize(("driver", "can_run"), [("32.0.15.7216", False), ("32.0.15.8108", True)])
def test_windows_number_of_an_nvidia_driver_is_read_as_nvidias(driver: str, can_run: bool) -> None:
    recorded = RecordedMachine("meteor-lake-windows")
    answer = str(recorded.run("powershell")).replace("32.0.15.7216", driver)
    machine = RecordedMachine("meteor-lake-windows", {"powershell": answer})
    machine.packages = {"onnxruntime-genai-cuda": "0.18.0"}
    assert (verdict(machine, "GPU.1", "onnx").device, verdict(machine, "GPU.1", "onnx").can_run) == ("cuda.0", can_run)


def test_two_gpus_of_one_name_have_an_index_each() -> None:
    machine = RecordedMachine("nvidia-linux", nvidia_smi(RTX_4090, RTX_4090.replace(":01:", ":02:")))
    machine.replaced |= {
        path.replace(":01:", ":02:"): str(machine.read(path)) for path in machine.files() if ":01:" in path
    }
    runtimes = json.loads(str(machine.run("python", "-c", "runtimes")))
    machine.replaced["runtimes"] = json.dumps(runtimes | {"cuda": ["NVIDIA GeForce RTX 4090"] * 2})
    assert [verdict(machine, f"GPU.{index}", "onnx").device for index in (0, 1)] == ["cuda.0", "cuda.1"]


def test_a_gpu_that_shares_the_pcs_memory_has_no_size_and_no_vbios() -> None:
    row = "0000000F:01:00.0, NVIDIA GB10, 580.95.05, [N/A], 12.1, [N/A]"
    gpu = device(RecordedMachine("nvidia-linux", nvidia_smi(row.replace("0000000F", "00000000"))), "GPU")
    assert isinstance(gpu.memory.total_bytes, NotAvailable)
    assert isinstance(gpu.firmware, NotAvailable)


def test_an_nvidia_gpu_needs_nvidias_driver_and_the_package_for_cuda() -> None:
    nouveau = {"/sys/bus/pci/devices/0000:01:00.0/uevent": "DRIVER=nouveau\n"}
    machine = RecordedMachine("nvidia-linux", nouveau | NOTHING_SEEN)
    machine.removed.add("nvidia-smi")
    machine.packages = {"onnxruntime-genai": "0.18.0"}
    package, driver = verdict(machine, "GPU", "onnx").obstacles
    assert package.reason == "the installed onnxruntime-genai does not run on cuda"
    assert "nouveau" in driver.reason


def test_a_meteor_lake_with_windows_has_two_gpus_and_an_npu_driver_that_is_too_old() -> None:
    machine = RecordedMachine("meteor-lake-windows")
    cpu, own, card, npu = examine(machine).devices
    assert [found.id for found in (cpu, own, card, npu)] == ["CPU", "GPU.0", "GPU.1", "NPU"]
    assert cpu.processor is not None
    assert (cpu.processor.cores, cpu.processor.threads) == (16, 22)
    assert cpu.processor.instruction_sets["AVX2"] is True
    assert isinstance(cpu.processor.instruction_sets["AVX-VNNI"], NotAvailable)
    assert [verdict.device for verdict in own.verdicts] == ["gpu.0", "directml.1"]
    assert (card.memory.total_bytes, card.memory.is_shared) == (8585740288, False)
    assert cpu.memory.available_bytes == 20 * 2**30
    assert (card.verdicts[1].device, card.can_run) == ("directml.0", True)
    assert said(npu.verdicts[0])[0] == (
        "the NPU driver 32.0.100.3104 is too old: OpenVINO needs 32.0.100.4239 or newer"
    )
    assert len([command for command in machine.commands_run if command[0] == "powershell"]) == 1


def test_an_npu_without_a_driver_is_found_among_windows_broken_devices() -> None:
    answer = json.loads(str(RecordedMachine("meteor-lake-windows").run("powershell")))
    answer["entities"][0] |= {"Name": "Multimedia Video Controller", "PNPClass": None, "ConfigManagerErrorCode": 28}
    answer["drivers"] = []
    machine = RecordedMachine("meteor-lake-windows", {"powershell": json.dumps(answer)})
    reason, fix = said(verdict(machine, "NPU"))
    assert reason == "no driver is installed (code 28)"
    assert "Windows Update" in fix


def test_a_newer_npu_driver_that_openvino_sees_runs_on_windows() -> None:
    recorded = RecordedMachine("meteor-lake-windows")
    answer = json.loads(str(recorded.run("powershell")))
    answer["drivers"][0]["DriverVersion"] = "32.0.100.4404"
    runtimes = json.loads(str(recorded.run("python", "-c", "runtimes")))
    runtimes["openvino"].append(
        {"id": "NPU", "name": "Intel(R) AI Boost", "capabilities": ["INT4"], "driver_version": "4404"}
    )
    replaced = {"powershell": json.dumps(answer), "runtimes": json.dumps(runtimes)}
    assert verdict(RecordedMachine("meteor-lake-windows", replaced), "NPU").can_run


def test_powershell_is_windows_own_and_not_one_of_the_current_directory() -> None:
    machine = RecordedMachine("meteor-lake-windows")
    machine.environment["SYSTEMROOT"] = r"C:\Windows"
    assert device(machine, "NPU").vendor == "Intel"
    started = [command[0] for command in machine.commands_run if "powershell" in command[0]]
    assert started == [r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"]


def test_an_npu_of_amds_old_driver_is_found_in_another_class() -> None:
    answer = json.loads(str(RecordedMachine("meteor-lake-windows").run("powershell")))
    answer["entities"][0] |= {"Name": "AMD IPU Device", "PNPClass": "System", "PNPDeviceID": r"PCI\VEN_1022&DEV_1502\4"}
    npu = device(RecordedMachine("meteor-lake-windows", {"powershell": json.dumps(answer)}), "NPU")
    assert npu.generation == "XDNA (Phoenix, Hawk Point)"
    assert "DeviceID LIKE 'PCI_VEN_1022&DEV_1502%'" in SCRIPT


def test_a_gpu_that_directx_calls_otherwise_is_the_one_that_is_left_over() -> None:
    recorded = RecordedMachine("meteor-lake-windows")
    runtimes = json.loads(str(recorded.run("python", "-c", "runtimes")))
    runtimes["directx"][1] = "Intel(R) Arc(TM) 140V GPU (16GB)"
    machine = RecordedMachine("meteor-lake-windows", {"runtimes": json.dumps(runtimes)})
    assert (verdict(machine, "GPU.0", "onnx").device, device(machine, "GPU.0").can_run) == ("directml.1", True)


def test_an_amd_npu_on_windows_is_known_by_its_ids() -> None:
    answer = json.loads(str(RecordedMachine("meteor-lake-windows").run("powershell")))
    answer["entities"][0] |= {
        "Name": "NPU Compute Accelerator Device",
        "PNPDeviceID": r"PCI\VEN_1022&DEV_17F0&SUBSYS_20CF1043&REV_11\4&1&0&0141",
    }
    npu = device(RecordedMachine("meteor-lake-windows", {"powershell": json.dumps(answer)}), "NPU")
    assert (npu.vendor, npu.generation) == ("AMD", "XDNA 2 (Strix Halo)")
    assert npu.verdicts[0].obstacles[0].fix.startswith("--engine onnx --device directml")


def test_without_powershell_the_cpu_is_listed_with_the_reason() -> None:
    machine = RecordedMachine("meteor-lake-windows")
    machine.removed.add("powershell")
    report = examine(machine)
    assert "powershell cannot be run" in str(report.devices[0].name)
    assert report.absent["NPU"].reason == "Windows could not be asked: powershell cannot be run"


def test_a_snapdragon_runs_onnx_on_its_cpu() -> None:
    machine = RecordedMachine("snapdragon-x-windows")
    cpu, gpu, npu = examine(machine).devices
    assert [found.can_run for found in (cpu, gpu, npu)] == [True, False, False]
    assert (npu.vendor, npu.generation, npu.driver) == ("Qualcomm", "Hexagon", "30.0.219.1000")
    assert (gpu.vendor, gpu.driver) == ("Qualcomm", "31.0.133.1")
    assert said(cpu.verdicts[0])[0] == "OpenVINO has no Python package for Windows on ARM"


def test_a_snapdragon_with_linux_says_that_its_npu_lacks_its_firmware() -> None:
    machine = RecordedMachine("snapdragon-x-linux")
    cpu, gpu, npu = examine(machine).devices
    assert [found.can_run for found in (cpu, gpu, npu)] == [True, False, False]
    assert (cpu.vendor, gpu.name) == ("Qualcomm", "Adreno of X1E80100")
    assert (npu.name, npu.firmware) == ("Hexagon of X1E80100", "qcom/x1e80100/LENOVO/21N1/qccdsp8380.mbn")
    (note,) = npu.notes
    assert note.reason.startswith("the NPU is offline; its firmware is qcom/x1e80100/")
    assert "qcom-firmware-extract" in note.fix


def test_a_virtual_machine_says_why_it_has_neither() -> None:
    report = examine(RecordedMachine("xeon-vm-linux"))
    (cpu,) = report.devices
    assert cpu.can_run
    assert cpu.processor is not None
    assert {"AVX-VNNI", "AVX-512 VNNI", "AMX-INT8", "AMX-BF16"} <= set(cpu.processor.instruction_sets_present)
    assert "without AMX" in str(cpu.generation)  # it says that it is a Rocket Lake, which no machine with AMX is
    assert list(report.absent) == ["GPU", "NPU"]
    assert report.absent["NPU"].reason == "this is a virtual machine, and no NPU is passed through to it"


WSL = {"/proc/sys/kernel/osrelease": "6.6.87.2-microsoft-standard-WSL2\n"}


def test_wsl_sends_its_user_to_windows() -> None:
    report = examine(RecordedMachine("xeon-vm-linux", WSL))
    assert report.absent["NPU"].fix == "install and run aipc in Windows"
    assert "/dev/dxg" in report.absent["GPU"].reason


def test_an_nvidia_gpu_runs_cuda_in_wsl_where_no_bus_shows_it() -> None:
    machine = RecordedMachine("nvidia-linux", WSL)
    machine.removed.add("/sys/bus/pci/devices/0000:01:00.0")
    gpu = device(machine, "GPU")
    assert (gpu.name, verdict(machine, "GPU", "onnx").device) == ("NVIDIA GeForce RTX 4090", "cuda.0")
    assert gpu.can_run
    assert gpu.memory.total_bytes == 24564 * 2**20


def test_an_intel_gpu_that_only_openvino_sees_stands_before_an_nvidia_card() -> None:
    machine = RecordedMachine("nvidia-linux", WSL)
    machine.packages["openvino-tokenizers"] = "2026.4.1.0"
    runtimes = json.loads(str(machine.run("python", "-c", "runtimes")))
    seen = {"id": "GPU", "name": "Intel(R) Graphics", "capabilities": ["FP16"], "driver_version": "25.35"}
    machine.replaced["runtimes"] = json.dumps({**runtimes, "openvino": [*runtimes["openvino"], seen]})
    assert [device(machine, f"GPU.{index}").vendor for index in (0, 1)] == ["Intel", "NVIDIA"]
    assert verdict(machine, "GPU.0").can_run


def test_a_gpu_that_openvino_alone_sees_is_listed() -> None:
    seen = {"id": "GPU", "name": "Intel(R) Graphics", "capabilities": ["FP16"], "driver_version": "25.35"}
    answer = json.dumps({"openvino": [seen], "directx": [], "cuda": [], "instruction_sets": {}})
    machine = RecordedMachine("xeon-vm-linux", {"runtimes": answer})
    assert (device(machine, "GPU").name, verdict(machine, "GPU").can_run) == ("Intel(R) Graphics", True)


def test_a_cpu_that_should_have_an_npu_points_to_the_bios() -> None:
    machine = RecordedMachine("meteor-lake-linux", NOTHING_SEEN)
    machine.removed.add("/sys/bus/pci/devices/0000:00:0b.0")
    assert "switch the NPU on in the BIOS" in examine(machine).absent["NPU"].fix


def test_another_system_is_not_examined() -> None:
    machine = RecordedMachine("xeon-vm-linux")
    machine.system = "Darwin"
    report = examine(machine)
    assert report.devices[0].verdicts[0].can_run  # OpenVINO was asked all the same
    assert "on Linux and Windows only" in report.absent["GPU"].reason


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", ["", "\0\xff\ufffd", "9" * 5000, "²", "[" * 3000, "null", '{"openvino": {}}'])
def test_no_file_and_no_answer_makes_the_doctor_fail(name: str, content: str) -> None:
    for file in RecordedMachine(name).files():
        report = examine(RecordedMachine(name, {file: content}))
        assert report.devices[0].id == "CPU"


@pytest.mark.parametrize("name", NAMES)
def test_every_verdict_that_is_negative_has_a_reason_and_a_fix(name: str) -> None:
    for found in examine(RecordedMachine(name)).devices:
        assert [verdict.engine for verdict in found.verdicts] == ["openvino", "onnx"]
        for verdict in found.verdicts:
            assert verdict.can_run == bool(verdict.grounds)
            assert all(obstacle.reason and obstacle.fix for obstacle in verdict.obstacles)


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_pc_says_where_it_is_from(name: str) -> None:
    assert (MACHINES / name / "README.md").read_text().startswith(("Recorded on ", "Written from documentation, not"))


@pytest.mark.parametrize(
    ("name", "device", "ids"),
    [
        ("meteor-lake-windows", "gpu", ["GPU.0", "GPU.1"]),
        ("meteor-lake-windows", "gpu.0", ["GPU.0"]),
        ("meteor-lake-windows", "GPU.1", ["GPU.1"]),
        ("meteor-lake-windows", "gpu.7", []),
        ("meteor-lake-windows", f"gpu.{'9' * 5000}", []),
        ("meteor-lake-linux", "gpu.0", ["GPU"]),
    ],
)
def test_asking_for_a_device_means_its_kind_or_one_of_them(name: str, device: str, ids: list[str]) -> None:
    assert [found.id for found in examine(RecordedMachine(name)).of(device).devices] == ids


def test_of_an_absent_device_only_its_own_absence_is_told() -> None:
    report = examine(RecordedMachine("xeon-vm-linux"))
    assert report.absent.keys() == {"GPU", "NPU"}
    assert [report.of(device).absent.keys() for device in ("npu", "gpu.1", "cpu")] == [{"NPU"}, {"GPU"}, set()]


@pytest.mark.parametrize("word", ["tpu", "gpu.", "gpu.x", "gpu.²", ""])
def test_a_word_that_is_no_device_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        examine(RecordedMachine("meteor-lake-windows")).of(word)


def test_this_pc_is_examined_within_seconds() -> None:
    begun = time.perf_counter()
    report = examine()
    assert time.perf_counter() - begun < 20
    assert report.devices[0].kind == "CPU"
    assert report.devices[0].verdicts[0].can_run


def test_a_command_that_takes_too_long_is_killed() -> None:
    begun = time.perf_counter()
    said = ThisPc().run(sys.executable, "-c", "import time; time.sleep(60)", timeout_s=0.5)
    assert isinstance(said, NotAvailable)
    assert "within 0.5 s" in said.reason
    assert time.perf_counter() - begun < 20


def test_a_command_that_is_not_there_or_fails_says_so() -> None:
    pc = ThisPc()
    assert "cannot be run" in str(pc.run("no-such-command-anywhere"))
    assert "ended with 3: trouble" in str(
        pc.run(sys.executable, "-c", "import sys; print('trouble', file=sys.stderr); sys.exit(3)")
    )
    assert isinstance(pc.read("/no/such/file"), NotAvailable)
    assert pc.list("/no/such/directory") == ()
    assert pc.package("no-such-package") is None


def test_the_fix_asks_for_the_range_of_openvino_that_aipc_depends_on() -> None:
    major, minor = OPENVINO_RANGE.split(".")[:2]
    dependencies = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"{name}>={major}.{minor},<{major}.{int(minor) + 1}"' in dependencies for name in OPENVINO)


def test_a_panther_lake_gpu_needs_the_kernel_that_takes_it_unasked() -> None:
    gpu = "/sys/bus/pci/devices/0000:00:02.0"
    machine = RecordedMachine("meteor-lake-linux", NOTHING_SEEN | {f"{gpu}/device": "0xb080\n", f"{gpu}/uevent": ""})
    assert said(verdict(machine, "GPU"))[0] == (
        "the kernel 6.14.0-37-generic is too old for a GPU of Xe3 (Panther Lake), which needs Linux 6.17 or newer"
    )
