"""The trained network as a Hugging Face checkpoint that opens like any Phi-3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guide.shape import Shape
from guide.tokenizer import BOS_ID, IDS

if TYPE_CHECKING:
    from guide.network import Network

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


def write_checkpoint(network: Network, tokenizer_dir: Path, directory: Path) -> Path:
    """Write config.json, model.safetensors in FP16 and the tokenizer's files. Raises `ValueError` when a weight is
    too large for FP16.
    """
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name, parameter in network.state_dict().items():
        weights[name] = np.ascontiguousarray(parameter.detach().float().cpu().numpy().astype(np.float16))
        if not np.isfinite(weights[name]).all():
            raise ValueError(f"{name} has values that FP16 cannot hold")
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config_of(network.shape), indent=2) + "\n"
    (directory / "config.json").write_text(text, encoding="utf-8", newline="\n")
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer_dir / name, directory / name)
    return directory


def config_of(shape: Shape) -> dict[str, Any]:
    """config.json with every key that Phi-3's architecture reads."""
    return {
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": BOS_ID,
        "embd_pdrop": 0.0,
        "eos_token_id": IDS["<|endoftext|>"],
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "initializer_range": shape.initializer_range,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "model_type": "phi3",
        "num_attention_heads": shape.num_attention_heads,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_key_value_heads": shape.num_attention_heads,
        "original_max_position_embeddings": shape.max_position_embeddings,
        "pad_token_id": IDS["<|endoftext|>"],
        "resid_pdrop": 0.0,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": shape.vocab_size,
    }
