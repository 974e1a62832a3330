"""A model that PyTorch holds in memory, taken through a temporary checkpoint onto a device."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from aipc.conversion import write_network
from aipc.errors import UnsupportedModelError
from aipc.models import known_model_types
from aipc.npu.causal_lm import NPUModelForCausalLM, named
from aipc.npu.compiler import CompilerConfig
from aipc.npu.network import Network, find_place
from aipc.static_device import refuse_beyond_context


def compiled(
    model: Any, config: CompilerConfig, *, device: str, rehearse: bool, properties: Mapping[str, str]
) -> NPUModelForCausalLM:
    """`aipc.npu.compile`."""
    _check_model(model)
    place = find_place(device, rehearse=rehearse, properties=properties)
    with TemporaryDirectory(prefix="aipc-", ignore_cleanup_errors=True) as directory:
        checkpoint, out = Path(directory, "checkpoint"), Path(directory, "model")
        _save(model, checkpoint)
        out.mkdir()
        architecture = write_network(checkpoint, out, config.precision.recipe)
        if place.lengths is not None:
            refuse_beyond_context(architecture.context_tokens, properties)
        return named(NPUModelForCausalLM, type(model).__name__)(
            Network(out, place, from_memory=True),
            copy.deepcopy(model.config),
            copy.deepcopy(model.generation_config),
            rope_switch_tokens=architecture.rope_switch_tokens,
        )


def _save(model: Any, directory: Path) -> None:
    """With transformers' own settings for generation meanwhile, as it refuses to write some that it generates with."""
    settings = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        model.save_pretrained(directory)
    finally:
        model.generation_config = settings


def _check_model(model: Any) -> None:
    """Before gigabytes are written. What else is wrong with a model, the conversion says."""
    found = getattr(getattr(model, "config", None), "model_type", None)
    if not isinstance(model, PreTrainedModel) or found not in known_model_types() or not model.can_generate():
        raise UnsupportedModelError(
            f"a {type(model).__name__} cannot be compiled",
            expected=f"a model of transformers for text, of a family from {', '.join(known_model_types())}",
            found=f"model_type {found}" if found else "no model of transformers",
            try_next="AutoModelForCausalLM.from_pretrained on a checkpoint of one of these families",
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UnsupportedModelError(
            f"a {type(model).__name__} cannot be compiled",
            expected="a model whose weights are all in memory",
            found="some on the device meta, or offloaded",
            try_next="AutoModelForCausalLM.from_pretrained without device_map",
        )
