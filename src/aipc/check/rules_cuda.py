"""What ONNX Runtime's CUDA provider asks of a GenAI directory.

Source: its table of kernels. What it has no kernel for runs on the CPU, in silence, with a copy there and back for
every token: a failure where it is the model's arithmetic, a note where it is the arithmetic of shapes.
"""

from __future__ import annotations

from collections.abc import Iterator

from aipc.check.genai_config import GenaiConfig
from aipc.check.kernels import kernel_table
from aipc.check.onnx_model import OnnxFacts
from aipc.check.remedies import Remedies
from aipc.check.report import Finding, failure, note
from aipc.check.rules_onnx import common_rules, floating_point_ports, gap_failure

_ARITHMETIC = frozenset(
    {
        "Attention",
        "Gelu",
        "Gemm",
        "LayerNormalization",
        "MatMul",
        "Mul",
        "RMSNormalization",
        "RotaryEmbedding",
        "Sigmoid",
        "SimplifiedLayerNormalization",
        "Softmax",
    }
)


def rules(config: GenaiConfig, facts: OnnxFacts, remedies: Remedies) -> Iterator[Finding]:
    """Rules of CUDA."""
    remedy = remedies.onnx("cuda")
    yield from common_rules(config, facts, remedies, "cuda")
    for name, tensor in floating_point_ports(facts):
        if tensor.element_type not in ("float16", "bfloat16"):
            yield failure(
                "cuda/half-precision",
                name,
                expected="float16 or bfloat16, the types of its GroupQueryAttention",
                found=tensor.element_type,
                remedy=remedy,
            )
    for gap in kernel_table("cuda").gaps(facts):
        operator = gap.node.operator
        if operator.startswith("com.microsoft.") or operator in _ARITHMETIC:
            yield gap_failure(gap, "cuda", remedy)
        else:
            yield note("cuda/operator", gap.node.name, expected=gap.expected, found=f"{gap.found}: runs on the CPU")
    yield from _captured(config, facts, remedy)


def _captured(config: GenaiConfig, facts: OnnxFacts, remedy: str) -> Iterator[Finding]:
    options = config.providers[0].options if config.made_for == "cuda" else {}
    if str(options.get("enable_cuda_graph", "0")) != "1":
        return
    for node in facts.nodes:
        if node.has_branches:
            yield failure(
                "cuda/graph",
                node.name,
                expected="no branches, or enable_cuda_graph 0: a captured graph has none",
                found=node.operator,
                remedy=remedy,
            )
