"""Which directories can be checked, and what is said of the others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from recorded import FIXTURES, unpack_ir

from aipc.check import DEVICES, check
from aipc.errors import MissingPackageError, ModelNotFoundError, UsageError


def test_a_directory_of_neither_format_is_named_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(ModelNotFoundError, match=r"genai_config\.json.*found config\.json"):
        check(tmp_path, "npu")


def test_no_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        check(tmp_path / "missing", "npu")


def test_an_unknown_device_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cpu, gpu, npu, directml, cuda"):
        check(tmp_path, "tpu")


@pytest.mark.parametrize("device", ["directml", "cuda"])
def test_an_ir_is_none_for_onnx_runtimes_devices(device: str, tmp_path: Path) -> None:
    report = check(unpack_ir("optimum-int4-sym", tmp_path), device)
    (finding,) = report.failures
    assert (finding.rule, finding.found) == ("format", "an OpenVINO IR")
    assert finding.remedy == f"aipc convert SOURCE OUT --to onnx --device {device} --weights int4"


def test_where_both_formats_lie_the_device_decides(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason='reading ONNX models needs the onnx package: pip install "aipc[onnx]"')
    from decoder_graph import write_decoder

    both = write_decoder(unpack_ir("optimum-int4-sym", tmp_path))
    assert {device: check(both, device).kind for device in DEVICES} == {
        "cpu": "openvino",
        "gpu": "openvino",
        "npu": "openvino",
        "directml": "onnx",
        "cuda": "onnx",
    }


def test_without_the_onnx_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match=r"pip install \"aipc\[onnx\]\""):
        check(FIXTURES / "builder-cpu-int4", "cpu")
