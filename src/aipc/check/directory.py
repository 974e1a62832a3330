"""Which format a directory holds, and which rules a device has for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from aipc.check import rules_cuda, rules_directml, rules_npu, rules_onnx, rules_openvino
from aipc.check.genai_config import GenaiConfig, read_genai_config
from aipc.check.onnx_model import OnnxFacts, read_onnx
from aipc.check.openvino_ir import IrFacts, read_ir
from aipc.check.remedies import Remedies
from aipc.check.report import Finding, Kind, Report, failure, grouped
from aipc.engines.onnx_directory import read_directory
from aipc.errors import EngineError, ModelNotFoundError, StoreError, UsageError
from aipc.store.model_files import GENAI_CONFIG, OPENVINO_XML
from aipc.targets import ONNX_DEVICES

_OPENVINO_DEVICES = ("cpu", "gpu", "npu")
_MARKS: dict[Kind, str] = {"openvino": OPENVINO_XML, "onnx": GENAI_CONFIG}


def report_of(model_dir: Path, device: str) -> Report:
    """`aipc.check.check`."""
    if device not in {*_OPENVINO_DEVICES, *ONNX_DEVICES}:
        known = ", ".join(dict.fromkeys((*_OPENVINO_DEVICES, *ONNX_DEVICES)))
        raise UsageError(f"the device {device!r}", expected=f"one of {known}")
    kind = _kind(model_dir, device)
    if kind == "openvino":
        ir = read_ir(model_dir)
        linear = ((weight.rows, weight.columns) for weight in ir.of_role("linear"))
        remedies = Remedies.of(model_dir, linear)
        return Report(model_dir, device, kind, _ir_summary(ir), grouped(_ir_findings(ir, remedies, device)))
    config = read_genai_config(model_dir)
    graph = read_onnx(model_dir / config.file_name)
    quantised = graph.of("com.microsoft.MatMulNBits")
    remedies = Remedies.of(model_dir, ((node.integer("N", 0), node.integer("K", 0)) for node in quantised))
    findings = grouped(_onnx_findings(config, graph, remedies, device))
    return Report(model_dir, device, kind, _onnx_summary(config, graph), findings)


def _kind(model_dir: Path, device: str) -> Kind:
    try:
        names = {entry.name for entry in model_dir.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        raise ModelNotFoundError(f"{model_dir}", expected="a model's directory", found="none") from None
    except OSError as error:
        raise StoreError(f"{model_dir} cannot be read: {error.strerror}", try_next="change its permissions") from error
    kinds = [kind for kind, mark in _MARKS.items() if mark in names]
    if not kinds:
        found = ", ".join(sorted(names)[:6]) + (", …" if len(names) > 6 else "")
        raise ModelNotFoundError(
            f"{model_dir} holds no model that is ready to run",
            expected=f"{OPENVINO_XML} (OpenVINO) or {GENAI_CONFIG} (ONNX Runtime GenAI)",
            found=found or "an empty directory",
            try_next="aipc convert SOURCE OUT makes either from a checkpoint",
        )
    wanted = [kind for kind in kinds if device in _devices(kind)]
    return (wanted or kinds)[0]


def _devices(kind: Kind) -> tuple[str, ...]:
    return _OPENVINO_DEVICES if kind == "openvino" else ONNX_DEVICES


def _ir_findings(facts: IrFacts, remedies: Remedies, device: str) -> Iterator[Finding]:
    if device not in _OPENVINO_DEVICES:
        yield failure(
            "format",
            OPENVINO_XML,
            expected=f"an ONNX Runtime GenAI directory, which {device} needs",
            found="an OpenVINO IR",
            remedy=remedies.onnx(device),
        )
    elif device == "npu":
        yield from rules_npu.rules(facts, remedies)
    else:
        yield from rules_openvino.rules(facts, remedies, device)


def _onnx_findings(config: GenaiConfig, facts: OnnxFacts, remedies: Remedies, device: str) -> Iterator[Finding]:
    if device not in ONNX_DEVICES:
        yield failure(
            "format",
            GENAI_CONFIG,
            expected=f"an OpenVINO IR, which Intel's {device.upper()} needs",
            found=f"an ONNX Runtime GenAI directory made for {config.made_for}",
            remedy=remedies.openvino(),
        )
        return
    yield from _trust(config.path.parent, remedies.onnx(device))
    of_device = {"cpu": rules_onnx.rules, "cuda": rules_cuda.rules, "directml": rules_directml.rules}
    yield from of_device[device](config, facts, remedies)


def _trust(model_dir: Path, remedy: str) -> Iterator[Finding]:
    """What the engine itself refuses to hand on: options that load or write files, files elsewhere."""
    try:
        read_directory(model_dir)
    except EngineError as error:
        expected, found = error.expected or "a directory that aipc runs", error.found or error.what
        yield failure("aipc/trust", str(error.what), expected=expected, found=found, remedy=remedy)


def _ir_summary(facts: IrFacts) -> str:
    formats = Counter(weight.label for weight in facts.weights)
    shown = ", ".join(f"{count} × {label}" for label, count in formats.most_common(4)) or "no weight matrices"
    return f"OpenVINO IR: {shown}"


def _onnx_summary(config: GenaiConfig, facts: OnnxFacts) -> str:
    quantised = Counter(
        f"{node.integer('bits', 4)} bits in blocks of {node.integer('block_size', 0)}"
        for node in facts.of("com.microsoft.MatMulNBits")
    )
    shown = ", ".join(f"{count} × {label}" for label, count in quantised.most_common(3)) or "no quantised weights"
    layers = f"{config.layers} layer{'s' * (config.layers != 1)}"
    return f"ONNX Runtime GenAI, made for {config.made_for}: {layers}, {shown}"
