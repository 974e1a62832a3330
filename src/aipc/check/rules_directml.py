"""What DirectML asks of a GenAI directory.

Sources: the table of kernels that its provider registers; its GroupQueryAttention, RotaryEmbedding and MatMulNBits in
ONNX Runtime's core/providers/dml, as of the last release, 1.24.4. ONNX Runtime GenAI asks for graph capture, and the
session then refuses a model with control flow, or of which one node would run elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from aipc.check.genai_config import GenaiConfig
from aipc.check.kernels import kernel_table
from aipc.check.onnx_model import Node, OnnxFacts
from aipc.check.remedies import Remedies
from aipc.check.report import Finding, failure, note
from aipc.check.rules_onnx import common_rules, floating_point_ports, gap_failure
from aipc.store.model_files import GENAI_CONFIG

NEWEST_OPSET = 21  # no kernel that its provider registers is of a later one
_ATTENTION, _QUANTISED = "com.microsoft.GroupQueryAttention", "com.microsoft.MatMulNBits"
_KEY, _VALUE, _COS, _SIN = 1, 2, 7, 8
_IGNORED_INPUTS = {9: "position_ids", 10: "attention_bias", 11: "head_sink", 12: "k_scale", 13: "v_scale"}
_ZERO_POINTS, _UNSUPPORTED = 3, {4: "g_idx", 5: "bias"}


def rules(config: GenaiConfig, facts: OnnxFacts, remedies: Remedies) -> Iterator[Finding]:
    """Rules of DirectML."""
    remedy = remedies.onnx("directml")
    yield from common_rules(config, facts, remedies, "directml")
    for name, tensor in floating_point_ports(facts):
        if tensor.element_type != "float16":
            yield failure("directml/half-precision", name, expected="float16", found=tensor.element_type, remedy=remedy)
    for node in facts.of(_ATTENTION):
        yield from _attention(node, remedy)
    for node in facts.of(_QUANTISED):
        yield from _quantised(node, facts, remedy)
    yield from _operators(facts, remedy)
    yield from _limits(config, facts, remedy)


def _operators(facts: OnnxFacts, remedy: str) -> Iterator[Finding]:
    for node in facts.nodes:
        if node.has_branches:
            yield failure(
                "directml/branches",
                node.name,
                expected="no branches: GenAI captures the graph, and a captured graph has none",
                found=node.operator,
                remedy=remedy,
            )
    for gap in kernel_table("directml").gaps(facts):
        yield gap_failure(gap, "directml", remedy)
    if facts.opset > NEWEST_OPSET:
        yield note(
            "directml/opset",
            facts.path.name,
            found=f"opset {facts.opset}, of which the provider knows what opset {NEWEST_OPSET} has already; each "
            "operator's own version was compared",
        )


def _attention(node: Node, remedy: str) -> Iterator[Finding]:
    """Its kernel reads query, key, value, the cache and the lengths, and nothing else."""

    def broken(expected: str, found: str) -> Finding:
        return failure("directml/attention", node.name, expected=expected, found=found, remedy=remedy)

    if node.integer("do_rotary", 0):
        yield broken("do_rotary 0, with RotaryEmbedding before it", "do_rotary 1, which the kernel ignores")
    if node.input(_COS) or node.input(_SIN):
        yield broken("no cos_cache and sin_cache", "both, which the kernel ignores")
    if not node.input(_KEY) or not node.input(_VALUE):
        yield broken("query, key and value as three inputs", "packed in one")
    if node.integer("local_window_size", -1) > 0:
        yield broken("no local_window_size", f"{node.integer('local_window_size', -1)}, which the kernel ignores")
    for attribute in ("softcap", "smooth_softmax"):
        if node.attributes.get(attribute, 0):
            yield broken(f"no {attribute}", f"{node.attributes[attribute]}, which the kernel ignores")
    for index, name in _IGNORED_INPUTS.items():
        if node.input(index):
            yield broken(f"no {name}", f"{node.input(index)}, which the kernel ignores")


def _quantised(node: Node, facts: OnnxFacts, remedy: str) -> Iterator[Finding]:
    weight = node.input(1)
    for index, name in _UNSUPPORTED.items():
        if node.input(index):
            yield failure("directml/matmulnbits", weight, expected=f"no {name}", found=name, remedy=remedy)
    zero_points = facts.types.get(node.input(_ZERO_POINTS), "uint8")
    if zero_points != "uint8":
        yield failure(
            "directml/matmulnbits", weight, expected="packed uint8 zero points", found=zero_points, remedy=remedy
        )


def _limits(config: GenaiConfig, facts: OnnxFacts, remedy: str) -> Iterator[Finding]:
    if config.chunk_tokens is not None:
        yield failure(
            "directml/chunks",
            f"{GENAI_CONFIG}: search.chunk_size",
            expected="none: attention to a cache takes one new token at a time",
            found=config.chunk_tokens,
            remedy=remedy,
        )
    if facts.of(_ATTENTION):
        yield note(
            "directml/one-prefill",
            facts.path.name,
            found="attention to a cache takes one new token at a time: each turn of a conversation is computed from "
            "the beginning",
        )
