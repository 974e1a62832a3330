"""genai_config.json: what ONNX Runtime GenAI must know of a model to run it.

Source: ONNX Runtime GenAI's configuration reference, and the files that its own builder writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aipc.checkpoint import Checkpoint
from aipc.config import ConfigFile
from aipc.graph.onnx.genai_names import PLAIN, REWINDS
from aipc.graph.onnx.provider import Provider
from aipc.models import Architecture


def genai_config(architecture: Architecture, checkpoint: Checkpoint, provider: Provider) -> dict[str, Any]:
    """The whole document."""
    context_tokens = _context_tokens(architecture, provider)
    sizes = architecture.attention_sizes
    inputs = {
        "input_ids": "input_ids",
        "attention_mask": "attention_mask",
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }
    if not provider.rotates:
        inputs["position_ids"] = "position_ids"
    options = [] if provider.options is None else [dict(provider.options)]
    return {
        "model": {
            **_token_ids(checkpoint),
            "context_length": context_tokens,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": options},
                "filename": "model.onnx",
                "head_size": sizes.size,
                "hidden_size": architecture.hidden_size,
                "inputs": inputs,
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
                "num_attention_heads": sizes.query,
                "num_hidden_layers": architecture.num_hidden_layers,
                "num_key_value_heads": sizes.key_value,
            },
            "type": PLAIN if architecture.rope_switch_tokens is None else REWINDS,
            "vocab_size": architecture.vocabulary_size,
        },
        "search": {
            "diversity_penalty": 0.0,
            "do_sample": False,
            "early_stopping": True,
            "length_penalty": 1.0,
            "max_length": context_tokens,
            "min_length": 0,
            "no_repeat_ngram_size": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
    }


def _context_tokens(architecture: Architecture, provider: Provider) -> int:
    """A provider without windows computes rightly as long as the sequence is no longer than one."""
    window = architecture.sliding_window
    if window is None or provider.has_windows:
        return architecture.context_tokens
    return min(window, architecture.context_tokens)


def _token_ids(checkpoint: Checkpoint) -> dict[str, Any]:
    """Which tokens begin, end and pad a sequence, from generation_config.json and config.json."""
    path = checkpoint.path / "generation_config.json"
    sources = [ConfigFile.load(path).values] if path.is_file() else []
    sources.append(checkpoint.config.values)
    found = {key: _first(sources, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    eos = found["eos_token_id"]
    if found["pad_token_id"] is None and eos is not None:
        found["pad_token_id"] = eos[0] if isinstance(eos, list) else eos
    return {key: value for key, value in found.items() if value is not None}


def _first(sources: Sequence[Mapping[str, Any]], key: str) -> Any:
    return next((source[key] for source in sources if source.get(key) not in (None, [])), None)
