"""What Intel's NPU asks of an IR beyond what every OpenVINO device does.

Sources: OpenVINO's guide to GenAI on the NPU (symmetric INT4, group 128 or one scale a row, ratio 1.0), and the NPU
plugin's weight patterns, which take groups of a multiple of 64. The plugin itself checks none of this: an asymmetric
model compiles, and answers with noise.
"""

from __future__ import annotations

from collections.abc import Iterator

from aipc.check.openvino_ir import IrFacts, IrWeight, Variable
from aipc.check.remedies import Remedies
from aipc.check.report import Finding, failure, note
from aipc.check.rules_openvino import common_rules
from aipc.quant import PER_CHANNEL
from aipc.quant.recipe import Recipe
from aipc.store.model_files import OPENVINO_BIN, OPENVINO_XML

PROMPT_TOKENS, RESPONSE_TOKENS = 1024, 128  # the defaults of MAX_PROMPT_LEN and MIN_RESPONSE_LEN
_GROUP_STEP = 64
_DOCUMENTED_GROUP = 128
_FOUR_BITS = frozenset({"i4", "u4", "nf4", "f4e2m1"})
_OTHERS = frozenset({"i8", "u8", "f16", "bf16"})  # BF16 becomes FP16 when the plugin loads it
_KV_BYTES = 2  # the plugin keeps the cache in FP16


def rules(facts: IrFacts, remedies: Remedies) -> Iterator[Finding]:
    """Rules of the NPU."""
    yield from common_rules(facts, remedies)
    linear = facts.of_role("linear")
    remedy = remedies.openvino()
    yield from _understood(facts, remedy)
    for weight in facts.weights:
        yield from _format(weight, remedy)
    yield from _ratio(linear, remedy)
    yield from _cache(facts, remedy)
    yield from _limits(facts)


def refused_choice(recipe: Recipe) -> tuple[str, str] | None:
    """What the rules ask for and what `recipe` makes instead, before anything is made; None where it may pass."""
    if recipe.weights != "int4" or recipe.ratio == 0:
        return None
    if recipe.symmetric is False:
        return "symmetric INT4", "--asym"
    if recipe.group_size not in (None, PER_CHANNEL) and recipe.group_size % _GROUP_STEP:
        return f"--group-size {_DOCUMENTED_GROUP} or -1", f"--group-size {recipe.group_size}"
    if recipe.ratio < 1:
        return "--ratio 1.0", f"--ratio {recipe.ratio:g}"
    return None


def _understood(facts: IrFacts, remedy: str) -> Iterator[Finding]:
    """Nothing passes whose weights could not be looked at."""
    if not facts.of_role("linear"):
        yield failure(
            "npu/unread",
            OPENVINO_XML,
            expected="weight matrices in the layers",
            found="none that is known",
            remedy=remedy,
        )
    for constant in facts.unread:
        yield failure(
            "npu/unread",
            constant.name,
            expected="codes → Convert → (Subtract) → Multiply → (Reshape) → Convert → MatMul or Gather",
            found=f"{constant.element_type} in another pattern",
            remedy=remedy,
        )


def _format(weight: IrWeight, remedy: str) -> Iterator[Finding]:
    if weight.element_type in _FOUR_BITS:
        yield from _four_bits(weight, remedy)
    elif weight.role == "linear" and weight.element_type not in _OTHERS:
        yield failure(
            "npu/format",
            weight.name,
            expected="symmetric INT4, NF4, INT8 or FP16",
            found=weight.label,
            remedy=remedy,
        )
    elif weight.role == "linear" and weight.element_type == "u8":
        yield note("npu/symmetric", weight.name, expected="symmetric INT4, the fastest format here", found=weight.label)


def _four_bits(weight: IrWeight, remedy: str) -> Iterator[Finding]:
    if weight.element_type not in ("i4", "nf4") or weight.has_zero_point:
        yield failure(
            "npu/symmetric",
            weight.name,
            expected="symmetric INT4: i4 codes and no zero point",
            found=weight.label,
            remedy=remedy,
        )
    if weight.group_size is None or weight.scales != weight.groups:
        yield failure(
            "npu/scales",
            weight.name,
            expected=f"a scale for each of {weight.groups:,} groups",
            found=f"{weight.scales:,}",
            remedy=remedy,
        )
    if weight.element_type == "nf4":
        yield from _nf4(weight, remedy)
    elif weight.group_size is not None and weight.group_size != -1:
        yield from _group(weight, weight.group_size, remedy)


def _nf4(weight: IrWeight, remedy: str) -> Iterator[Finding]:
    if weight.group_size != -1:
        yield failure(
            "npu/group-size", weight.name, expected="NF4 with one scale a row", found=weight.label, remedy=remedy
        )
    yield note("npu/format", weight.name, expected="INT4, which every NPU takes", found="NF4: Lunar Lake or newer")


def _group(weight: IrWeight, size: int, remedy: str) -> Iterator[Finding]:
    expected = f"groups of {_DOCUMENTED_GROUP}, or −1 (one scale a row)"
    if size % _GROUP_STEP:
        yield failure("npu/group-size", weight.name, expected=expected, found=weight.label, remedy=remedy)
    elif size != _DOCUMENTED_GROUP:
        yield note("npu/group-size", weight.name, expected=expected, found=f"{weight.label}, not a documented size")


def _ratio(linear: tuple[IrWeight, ...], remedy: str) -> Iterator[Finding]:
    """Once some weights of the layers have 4 bits, all must: ratio 1.0."""
    if not any(weight.element_type in _FOUR_BITS for weight in linear):
        return
    for weight in linear:
        if weight.element_type not in _FOUR_BITS:
            yield failure(
                "npu/ratio",
                weight.name,
                expected="INT4 as all other weights of the layers (ratio 1.0)",
                found=weight.label,
                remedy=remedy,
            )


def _cache(facts: IrFacts, remedy: str) -> Iterator[Finding]:
    for variable in facts.variables:
        if variable.layer is None:
            yield failure(
                "npu/kv-names",
                variable.name,
                expected="past_key_values.N.keypresent.N.key or …valuepresent.N.value",
                found="another name, by which the NPU pipeline finds no cache",
                remedy=remedy,
            )
        if not variable.is_reordered:
            yield failure(
                "npu/beam-gather",
                variable.name,
                expected="a Gather by beam_idx behind the ReadValue",
                found="none",
                remedy=remedy,
            )
    yield from _layers(facts.variables, remedy)


def _layers(variables: tuple[Variable, ...], remedy: str) -> Iterator[Finding]:
    """Keys and values for each layer from 0 on."""
    named = {(variable.layer, variable.kind) for variable in variables if variable.layer is not None}
    for layer in range(max((layer for layer, _ in named if layer is not None), default=-1) + 1):
        if layer > len(variables):
            return  # a number so large is no layer; its name has been refused, or the ones before are missing
        for kind in ("key", "value"):
            if (layer, kind) not in named:
                yield failure(
                    "npu/kv-names",
                    f"layer {layer}",
                    expected=f"a variable past_key_values.{layer}.{kind}present.{layer}.{kind}",
                    found="none",
                    remedy=remedy,
                )


def _limits(facts: IrFacts) -> Iterator[Finding]:
    yield note(
        "npu/static-lengths",
        OPENVINO_XML,
        found=f"shapes are static there: prompts of up to {PROMPT_TOKENS} tokens in a context of "
        f"{PROMPT_TOKENS + RESPONSE_TOKENS} by OpenVINO's defaults; aipc run and chat choose MAX_PROMPT_LEN and "
        "MIN_RESPONSE_LEN for each",
    )
    per_token = _cache_bytes_per_token(facts.variables)
    if per_token is not None and facts.bin_bytes is not None:
        cache_bytes = per_token * (PROMPT_TOKENS + RESPONSE_TOKENS)
        yield note(
            "npu/memory",
            OPENVINO_BIN,
            found=f"about {facts.bin_bytes / 2**20:,.0f} MiB for weights and {cache_bytes / 2**20:,.0f} MiB for that "
            "context's KV cache; activations come on top",
        )


def _cache_bytes_per_token(variables: tuple[Variable, ...]) -> int | None:
    """FP16 bytes of all caches, (batch 1, KV heads, tokens, size); None when a shape is not given."""
    total = 0
    for variable in variables:
        if len(variable.shape) != 4 or variable.shape[1] < 1 or variable.shape[3] < 1:
            return None
        total += variable.shape[1] * variable.shape[3] * _KV_BYTES
    return total or None
