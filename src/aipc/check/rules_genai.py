"""genai_config.json and the graph must agree: GenAI allocates the KV cache and binds names by the former alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aipc.check.genai_config import GenaiConfig, layer_pattern
from aipc.check.onnx_model import OnnxFacts, Tensor
from aipc.check.report import Finding, failure, note
from aipc.store.model_files import GENAI_CONFIG

_PAST, _PRESENT = ("past_key_names", "past_value_names"), ("present_key_names", "present_value_names")
_ATTENTIONS = ("com.microsoft.GroupQueryAttention", "com.microsoft.MultiHeadAttention")


def rules(config: GenaiConfig, facts: OnnxFacts, remedy: str) -> Iterator[Finding]:
    """Where the two contradict each other."""
    yield from _names(config, facts, remedy)
    for role in _PAST:
        yield from _cache(role, config.inputs[role], facts.inputs, config, remedy)
    for role in _PRESENT:
        yield from _cache(role, config.outputs[role], facts.outputs, config, remedy)
    yield from _heads(config, facts, remedy)
    yield from _vocabulary(config, facts, remedy)
    yield from _window(config, facts)


def _names(config: GenaiConfig, facts: OnnxFacts, remedy: str) -> Iterator[Finding]:
    patterns = [layer_pattern(name) for name in config.inputs.values()]
    for name in facts.inputs:
        if not any(pattern.fullmatch(name) for pattern in patterns):
            yield failure(
                "genai/names",
                name,
                expected=f"a name under decoder.inputs of {GENAI_CONFIG} for this input of the graph",
                found="none: GenAI never fills it",
                remedy=remedy,
            )
    required = ((config.inputs["input_ids"], facts.inputs), (config.outputs["logits"], facts.outputs))
    for name, there in required:
        if name not in there:
            yield failure(
                "genai/names",
                name,
                expected=f"this name, which {GENAI_CONFIG} gives, in the graph",
                found=", ".join(list(there)[:6]) or "nothing",
                remedy=remedy,
            )


def _cache(role: str, name: str, tensors: Mapping[str, Tensor], config: GenaiConfig, remedy: str) -> Iterator[Finding]:
    """One tensor a layer, (batch, KV heads, tokens, head size)."""
    pattern = layer_pattern(name)
    layers = {
        int(match[1]): tensors[found] for found in tensors if (match := pattern.fullmatch(found)) and match.re.groups
    }
    if set(layers) != set(range(min(config.layers, len(layers) + 1))):
        yield failure(
            "genai/layers",
            role,
            expected=f"num_hidden_layers {config.layers} of {GENAI_CONFIG}",
            found=f"{len(layers)} of {name} in the graph",
            remedy=remedy,
        )
    for layer, tensor in layers.items():
        for axis, key, size in ((1, "num_key_value_heads", config.kv_heads), (3, "head_size", config.head_size)):
            found = tensor.shape[axis] if len(tensor.shape) == 4 else None
            if found is not None and found != size:
                yield failure(
                    "genai/cache",
                    name.replace("%d", str(layer), 1),
                    expected=f"{key} {size} of {GENAI_CONFIG}",
                    found=f"{found} in the graph",
                    remedy=remedy,
                )


def _heads(config: GenaiConfig, facts: OnnxFacts, remedy: str) -> Iterator[Finding]:
    expectations = (
        ("num_heads", "num_attention_heads", config.query_heads),
        ("kv_num_heads", "num_key_value_heads", config.kv_heads),
    )
    for node in facts.nodes:
        if node.operator not in _ATTENTIONS:
            continue
        for attribute, key, size in expectations:
            if size is not None and node.integer(attribute, size) != size:
                yield failure(
                    "genai/heads",
                    node.name,
                    expected=f"{key} {size} of {GENAI_CONFIG}",
                    found=f"{attribute} {node.integer(attribute, size)} in the graph",
                    remedy=remedy,
                )


def _vocabulary(config: GenaiConfig, facts: OnnxFacts, remedy: str) -> Iterator[Finding]:
    logits = facts.outputs.get(config.outputs["logits"])
    found = logits.shape[-1] if logits is not None and logits.shape else None
    if found is not None and found != config.vocabulary:
        yield failure(
            "genai/vocabulary",
            config.outputs["logits"],
            expected=f"vocab_size {config.vocabulary} of {GENAI_CONFIG}",
            found=f"{found} in the graph",
            remedy=remedy,
        )


def _window(config: GenaiConfig, facts: OnnxFacts) -> Iterator[Finding]:
    """GenAI makes the cache as long as the window; attention must then look no further back."""
    if config.window_tokens is None or config.window_tokens >= config.context_tokens:
        return
    for node in facts.of(_ATTENTIONS[0]):
        if node.integer("local_window_size", -1) <= 0:
            yield note(
                "genai/window",
                node.name,
                expected=f"local_window_size {config.window_tokens}, as sliding_window of {GENAI_CONFIG} says",
                found="attention without a window: prompts that are longer fail, or are read wrongly",
            )
