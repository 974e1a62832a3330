"""What every execution provider asks of an ONNX Runtime GenAI directory, and what the CPU adds.

Source of the MatMulNBits layout: ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from aipc.check import external_data, rules_genai
from aipc.check.genai_config import GenaiConfig
from aipc.check.kernels import Gap, kernel_table, unknown
from aipc.check.onnx_model import Node, OnnxFacts, Tensor
from aipc.check.remedies import Remedies
from aipc.check.report import Finding, failure, note
from aipc.graph.onnx.genai_names import PROVIDER_OF_DEVICE
from aipc.store.model_files import GENAI_CONFIG

_SMALLEST_BLOCK = 16
_LARGEST_CPU_BLOCK = 256
_QUANTISED = "com.microsoft.MatMulNBits"
# GenAI reads both; the chat template is in the second, or in chat_template.jinja.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_BITS = {"cpu": (2, 4, 8), "cuda": (4, 8), "directml": (4, 8)}


def common_rules(config: GenaiConfig, facts: OnnxFacts, remedies: Remedies, device: str) -> Iterator[Finding]:
    """Rules that hold for every provider."""
    remedy = remedies.onnx(device)
    for name in _TOKENIZER_FILES:
        if not (config.path.parent / name).is_file():
            yield note("files/tokenizer", name, expected="the tokenizer beside the model", found="no such file")
    yield from external_data.rules(facts, config.path.parent, remedy)
    yield from rules_genai.rules(config, facts, remedy)
    yield from _provider(config, device, remedy)
    for node in facts.of(_QUANTISED):
        yield from _quantised(node, facts, device, remedy)
    for node in unknown(facts):
        yield note(
            f"{device}/operator",
            node.name,
            expected="an operator that decoder language models are known to use",
            found=f"{node.operator}, about which nothing is known here",
        )


def rules(config: GenaiConfig, facts: OnnxFacts, remedies: Remedies) -> Iterator[Finding]:
    """Rules of the CPU."""
    yield from common_rules(config, facts, remedies, "cpu")
    for gap in kernel_table("cpu").gaps(facts):
        if not gap.is_type:
            yield gap_failure(gap, "cpu", remedies.onnx("cpu"))
    for node in facts.of(_QUANTISED):
        if node.integer("block_size", 0) > _LARGEST_CPU_BLOCK:
            yield note(
                "cpu/block-size",
                node.input(1),
                expected=f"blocks of up to {_LARGEST_CPU_BLOCK}",
                # https://github.com/microsoft/onnxruntime/issues/28551
                found=f"{node.integer('block_size', 0)}, for which ONNX Runtime 1.26 computes zeros",
            )
    for name in _half_precision(facts):
        yield note(
            "cpu/half-precision",
            name,
            expected="FP32 activations, for which the CPU has the fast kernels",
            found=f"{facts.types.get(name)}",
        )


def _half_precision(facts: OnnxFacts) -> Iterator[str]:
    """Floating-point inputs and outputs of the graph that have 16 bits."""
    for name, tensor in {**facts.inputs, **facts.outputs}.items():
        if tensor.element_type in ("float16", "bfloat16"):
            yield name


def gap_failure(gap: Gap, device: str, remedy: str) -> Finding:
    """A node that the provider cannot run."""
    return failure(f"{device}/operator", gap.node.name, expected=gap.expected, found=gap.found, remedy=remedy)


def floating_point_ports(facts: OnnxFacts) -> Iterator[tuple[str, Tensor]]:
    """The graph's inputs and outputs that hold neither ids nor masks."""
    for name, tensor in {**facts.inputs, **facts.outputs}.items():
        if "float" in tensor.element_type or tensor.element_type == "double":
            yield name, tensor


def _provider(config: GenaiConfig, device: str, remedy: str) -> Iterator[Finding]:
    if config.made_for != device:
        yield failure(
            "genai/provider",
            f"{GENAI_CONFIG}: model.decoder.session_options.provider_options",
            expected="[], which is the CPU" if device == "cpu" else f'[{{"{PROVIDER_OF_DEVICE[device]}": …}}]',
            found=", ".join(provider.name for provider in config.providers) or "[]",
            remedy=remedy,
        )


def _quantised(node: Node, facts: OnnxFacts, device: str, remedy: str) -> Iterator[Finding]:
    """The layout of a MatMulNBits: B (N, blocks, block bytes), scales N · blocks."""
    weight = node.input(1)
    bits, block, rows, columns = (node.integer(key, 0) for key in ("bits", "block_size", "N", "K"))
    bits = bits or 4  # the definition's default
    if bits not in _BITS[device]:
        allowed = " or ".join(map(str, _BITS[device]))
        yield failure("matmulnbits/bits", weight, expected=f"{allowed} bits", found=bits, remedy=remedy)
    if block < _SMALLEST_BLOCK or block & (block - 1):
        yield failure(
            "matmulnbits/block-size",
            weight,
            expected=f"a power of two from {_SMALLEST_BLOCK} on",
            found=f"block_size {block}",
            remedy=remedy,
        )
        return
    blocks = -(-columns // block)
    yield from _sized(facts, weight, (rows, blocks, block * bits // 8), remedy)
    yield from _sized(facts, node.input(2), (rows, blocks), remedy)
    if facts.types.get(node.input(3)) == "uint8":
        yield from _sized(facts, node.input(3), (rows, -(-blocks * bits // 8)), remedy)


def _sized(facts: OnnxFacts, name: str, shape: tuple[int, ...], remedy: str) -> Iterator[Finding]:
    """Elements are counted: older files have the same bytes in fewer dimensions."""
    tensor = facts.weights.get(name)
    if tensor is None or _count(tensor.shape) == _count(shape):
        return
    yield failure(
        "matmulnbits/shape",
        name,
        expected=f"shape {shape}, as N, K, bits and block_size say",
        found=f"shape {tensor.shape}",
        remedy=remedy,
    )


def _count(shape: tuple[int | None, ...]) -> int:
    count = 1
    for dimension in shape:
        count *= dimension or 0
    return count
