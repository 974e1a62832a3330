"""What every OpenVINO device asks of an IR that `openvino_genai.LLMPipeline` shall run, and what CPU and GPU add.

Sources: openvino-genai 2026.4's LLM pipeline (input, output and state names), and OpenVINO's lists of the weight
formats that the CPU and GPU plugins decompress.
"""

from __future__ import annotations

from collections.abc import Iterator

from aipc.check.openvino_ir import IrFacts
from aipc.check.remedies import Remedies
from aipc.check.report import Finding, failure, note
from aipc.store.model_files import OPENVINO_BIN, OPENVINO_XML

_REQUIRED_INPUTS = ("input_ids", "attention_mask", "beam_idx")
_TOKENIZERS = ("openvino_tokenizer.xml", "openvino_detokenizer.xml")
_FORMATS = {
    "cpu": frozenset({"f32", "f16", "bf16", "i8", "u8", "i4", "u4", "nf4", "f4e2m1", "f8e4m3", "f8e5m2"}),
    "gpu": frozenset({"f32", "f16", "i8", "u8", "i4", "u4"}),
}


def common_rules(facts: IrFacts, remedies: Remedies) -> Iterator[Finding]:
    """Rules that hold on every device."""
    yield from _files(facts, remedies)
    yield from _interface(facts, remedies)
    yield from _state(facts, remedies)


def rules(facts: IrFacts, remedies: Remedies, device: str) -> Iterator[Finding]:
    """Rules of the CPU and the GPU."""
    yield from common_rules(facts, remedies)
    formats = _FORMATS[device]
    for weight in facts.weights:
        if weight.element_type not in formats:
            yield note(
                f"{device}/format",
                weight.name,
                expected=f"one of {', '.join(sorted(formats))}, which the {device.upper()} plugin is known to take",
                found=weight.label,
            )
        if weight.element_type == "f16" and not weight.is_decompressed_late:
            yield note(
                "openvino/decompression",
                weight.name,
                expected="the decompression mark on the Convert behind an FP16 weight",
                found="none: the plugin unpacks the weight to FP32 while it loads",
            )
    if all(weight.element_type == "f32" for weight in facts.of_role("linear")) and facts.of_role("linear"):
        yield note("openvino/compressed", OPENVINO_XML, expected="INT4, INT8 or FP16 weights", found="FP32 ones")


def _files(facts: IrFacts, remedies: Remedies) -> Iterator[Finding]:
    end = max((constant.offset + constant.size_bytes for constant in facts.constants), default=0)
    remedy = remedies.openvino()
    if facts.bin_bytes is None:
        yield failure("files/weights", OPENVINO_BIN, expected=f"{end:,} bytes", found="no such file", remedy=remedy)
    elif facts.bin_bytes < end:
        yield failure(
            "files/weights", OPENVINO_BIN, expected=f"{end:,} bytes", found=f"{facts.bin_bytes:,} bytes", remedy=remedy
        )
    for constant in facts.constants:
        if constant.expected_bytes is not None and constant.size_bytes != constant.expected_bytes:
            yield failure(
                "files/constant",
                constant.name,
                expected=f"{constant.expected_bytes:,} bytes, as its type and shape say",
                found=f"{constant.size_bytes:,} bytes",
                remedy=remedy,
            )
    for name in _TOKENIZERS:
        if not (facts.directory / name).is_file():
            yield note(
                "files/tokenizer", name, expected="a tokenizer beside the model, for LLMPipeline", found="no such file"
            )


def _interface(facts: IrFacts, remedies: Remedies) -> Iterator[Finding]:
    for name in _REQUIRED_INPUTS:
        if name not in facts.inputs:
            yield failure(
                "openvino/inputs",
                name,
                expected="a text-generation model with this input",
                found=f"inputs {', '.join(facts.inputs)[:200] or 'none'}",
                remedy=remedies.openvino(),
            )
    if "logits" not in facts.outputs:
        yield failure(
            "openvino/outputs",
            "logits",
            expected="a text-generation model with this output",
            found=f"outputs {', '.join(facts.outputs)[:200] or 'none'}",
            remedy=remedies.openvino(),
        )


def _state(facts: IrFacts, remedies: Remedies) -> Iterator[Finding]:
    remedy = remedies.openvino()
    if not facts.variables:
        yield failure(
            "openvino/state",
            OPENVINO_XML,
            expected="a KV cache as the model's state (ReadValue, Assign)",
            found="a model without state",
            remedy=remedy,
        )
    for variable in facts.variables:
        if not variable.is_assigned:
            yield failure(
                "openvino/state", variable.name, expected="an Assign that writes it", found="none", remedy=remedy
            )
