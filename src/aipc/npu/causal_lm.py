"""A causal language model for Hugging Face's `generate` and `pipeline`, run by OpenVINO.

transformers decides what the next token is, exactly as for its own models; this computes the logits. Imports PyTorch
and transformers: `aipc.npu` imports it when the class is first used.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from transformers import AutoConfig, Cache, GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from aipc.errors import DeviceError, UsageError
from aipc.npu.bars import Bars
from aipc.npu.cache import StateCache, first_rows
from aipc.npu.checks import check_ids, check_static, check_static_total
from aipc.npu.compiler import CompilerConfig
from aipc.npu.directory import checked_arguments, prepared
from aipc.npu.network import Ints, Network, find_place
from aipc.static_device import check_eligible, refuse_beyond_context

Self = TypeVar("Self", bound="NPUModelForCausalLM")
# transformers 5 renamed the field; a model that fills another one computes every step from the first token on.
_CACHE_NAME = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
_DEVICES = ("cpu", "npu")  # of PyTorch's, where a program may "move" the model: it stays where it was loaded


class NPUModelForCausalLM(torch.nn.Module, GenerationMixin):  # type: ignore[misc]  # both are untyped here
    """A model on one of OpenVINO's devices, used as one of transformers.

    It has no weights of its own in PyTorch: tensors go in and come out on the CPU, as float32. `eval()` and `to()` do
    nothing. One sequence of steps at a time: starting another ends the one before it. `generate` in several threads
    runs one after the other.
    """

    main_input_name = "input_ids"
    base_model_prefix = ""
    input_modalities = ("text",)  # these two are for transformers 5's pipelines
    output_modalities = ("text",)
    _is_stateful = True  # refuses what would take tokens back: assisted generation, contrastive search

    def __init__(
        self, network: Network, config: Any, generation_config: Any, *, rope_switch_tokens: int | None
    ) -> None:
        """`config` and `generation_config` are transformers'. Made by `from_pretrained` or `aipc.npu.compile`."""
        super().__init__()
        # Programs look at the first parameter for the device.
        self.placeholder = torch.nn.Parameter(torch.zeros(0), requires_grad=False)
        self.config = config
        self.generation_config = generation_config
        self.network = network
        self._rope_switch_tokens = rope_switch_tokens
        self._last_cache: StateCache | None = None
        self._in_use = threading.RLock()  # of the one state, by a generation or by a step of a program's own
        self.eval()

    @classmethod
    def from_pretrained(
        cls: type[Self],
        model_name_or_path: str | Path,
        config: CompilerConfig | None = None,
        transformers_class: Any = None,
        export: bool = True,
        *,
        use_cache: bool = True,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        dtype: Any = None,
        torch_dtype: Any = None,
        low_cpu_mem_usage: bool | None = None,
        device: str = "npu",
        rehearse: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> Self:
        """Load a model, which is downloaded, converted and for an NPU compiled into aipc's store where that is needed,
        once.

        `model_name_or_path` is a Hugging Face id, a checkpoint directory, a converted one, a stored model's name, or
        "guide" for the embedded model. `config` None is FP16, as in the NPU library, or whatever a converted directory
        has. `device` is "npu", or "cpu" or "gpu" when that is wanted: none stands in for another. `rehearse` runs the
        NPU's static pipeline on the CPU, for a PC without one. `properties` are OpenVINO's; on an NPU MAX_PROMPT_LEN
        (1024 tokens) and MIN_RESPONSE_LEN (128) too, whose sum is the context.

        `transformers_class`, `export`, `attn_implementation`, `trust_remote_code`, `torch_dtype`, `dtype` and
        `low_cpu_mem_usage` are there for programs that give them: attention is the same however it is spelled, the
        store replaces the export, no checkpoint's code runs, and PyTorch loads no weights. A `dtype` that is int4, int8
        or float16 of aipc.npu counts as the config's, as in the library before 1.4. Raises a leaf of `AipcError`:
        `DeviceError` when the device is not there, before anything is downloaded, and for a converted model that the
        NPU does not take.
        """
        checked = checked_arguments(config, dtype, transformers_class)
        place = find_place(device, rehearse=rehearse, properties={} if properties is None else properties)
        with Bars() as bars:
            ready = prepared(model_name_or_path, checked, revision=revision, progress=bars)
            if place.lengths is not None:
                check_eligible(ready)
                refuse_beyond_context(ready.context_tokens, properties or {})
            config_of_model = AutoConfig.from_pretrained(ready.path, trust_remote_code=False)
            network = Network(ready.path, place, progress=bars, note=bars.note)
        model = named(cls, class_name(config_of_model))(
            network,
            config_of_model,
            _generation_config(ready.path, config_of_model),
            rope_switch_tokens=ready.rope_switch_tokens,
        )
        model.generation_config.use_cache = use_cache
        return model

    @property
    def device(self) -> torch.device:
        """PyTorch's, where tensors go in and come out. What runs the model is `network.device_name`."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of the logits."""
        return torch.float32

    @property
    def name_or_path(self) -> str:
        """The directory that was loaded, which holds the tokenizer too; a compiled model's original."""
        return str(self.config.name_or_path)

    def can_generate(self) -> bool:
        return True

    def to(self: Self, *arguments: Any, **keywords: Any) -> Self:
        """Does nothing for the CPU, the NPU and dtypes. Raises `DeviceError` for another device."""
        for argument in (*arguments, *keywords.values()):
            is_device = isinstance(argument, (str, torch.device, int)) and not isinstance(argument, bool)
            if is_device and str(argument).partition(":")[0].lower() not in _DEVICES:
                raise DeviceError(
                    f"the model was loaded on {self.network.device} and cannot be moved",
                    expected="cpu: its tensors are there, whatever runs the model",
                    found=str(argument),
                    try_next="from_pretrained(..., device='gpu') for an Intel GPU",
                )
        return self

    def cuda(self: Self, device: Any = None) -> Self:
        """Raises `DeviceError`."""
        return self.to("cuda")

    def train(self: Self, mode: bool = True) -> Self:
        """Raises `UsageError` for True: these models only generate."""
        if mode:
            raise UsageError("train()", expected="eval(): these models only generate", found="training mode")
        return super().train(False)

    def __deepcopy__(self, memo: object) -> NoReturn:
        """Raises `UsageError`."""
        self._refuse_copy()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Raises `UsageError`: pickle and torch.save ask here."""
        self._refuse_copy()

    def _refuse_copy(self) -> NoReturn:
        raise UsageError(
            "a model on a device cannot be copied or pickled",
            try_next=f"another load of {self.name_or_path}, which is converted already",
        )

    def _apply(self: Self, fn: Any, recurse: bool = True) -> Self:
        return self  # half(), float() and their like: there are no weights here

    @classmethod
    def is_remote_code(cls) -> bool:
        return False

    def get_experts_implementation(self) -> dict[str, str]:
        return {}  # asked for by transformers 5 before it decodes; there is no mixture of experts here

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state is the cache, and transformers makes none

    def generate(self, *arguments: Any, **keywords: Any) -> Any:  # whatever a version of transformers takes
        """`GenerationMixin.generate`; a second thread waits for the first, as the model has one state."""
        with self._in_use:
            return super().generate(*arguments, **keywords)

    def _prepare_generated_length(self, *arguments: Any, **keywords: Any) -> Any:
        generation_config = super()._prepare_generated_length(*arguments, **keywords)
        if getattr(generation_config, "prefill_chunk_size", None) is not None:
            raise UsageError("prefill_chunk_size", expected="None: OpenVINO cuts a prompt itself where it must")
        if self.network.lengths is not None:  # before the first token, not in the middle of an answer
            check_static_total(
                self.network.lengths,
                generation_config.max_length,
                prompt_tokens=keywords.get("input_ids_length", 0),
                rope_switch_tokens=self._rope_switch_tokens,
            )
        return generation_config

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: StateCache | None = None,
        cache: StateCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 1,
        **kwargs: Any,  # versions of transformers add their own, and look for this very name
    ) -> dict[str, Any]:
        """The arguments of the next `forward`. `input_ids` (batch, all tokens so far or the new ones).

        Versions of transformers cut `input_ids` at different places, so the cut is made here by the cache's length, and
        have two names for the cache. A LongRoPE model starts anew where its factors change, as transformers' own does.
        """
        if kwargs.get("inputs_embeds") is not None:
            raise UsageError("inputs_embeds", expected="input_ids: the embedding is inside the model")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = _positions(mask)
        _check_positions(kwargs.get("position_ids"), positions, mask)
        past = self._checked_cache(past_key_values, cache)
        if past is not None and past.has_long_factors != self._needs_long_factors(mask):
            past = None
        past_tokens = 0 if past is None else past.tokens
        return {
            "input_ids": input_ids[:, past_tokens - mask.shape[1] :],  # all tokens so far, or the new ones alone
            "cache": past,
            "attention_mask": mask,
            "position_ids": positions[:, past_tokens:],
            "use_cache": use_cache,
            "logits_to_keep": logits_to_keep,
        }

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: StateCache | None = None,
        cache: StateCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """Logits (batch, tokens, vocabulary), float32, of the last `logits_to_keep` tokens, 0 for all.

        `input_ids` (batch, new tokens); `attention_mask` (batch, all tokens), 0 at padding. `past_key_values`, which
        newer versions of transformers call `cache`, is what the step before returned, None for a new sequence. Raises
        `UsageError` for what OpenVINO's model does not give, `ContextLengthError` past an NPU's lengths, and
        `EngineError`.
        """
        if output_attentions or output_hidden_states or return_dict is False:
            raise UsageError(
                "output_attentions, output_hidden_states and return_dict=False", expected="none: there are logits only"
            )
        ids = _ints(input_ids)
        check_ids(ids, vocabulary_tokens=self.config.vocab_size)
        batch, new_tokens = ids.shape
        past = self._checked_cache(past_key_values, cache)
        past_tokens = 0 if past is None else past.tokens
        if attention_mask is None:
            attention_mask = torch.ones((batch, past_tokens + new_tokens), dtype=torch.int64)
        if self.network.lengths is not None:
            check_static(
                self.network.lengths,
                batch=batch,
                new_tokens=new_tokens,
                past_tokens=past_tokens,
                kept=logits_to_keep,
                rope_switch_tokens=self._rope_switch_tokens,
            )
        if attention_mask.shape != (batch, past_tokens + new_tokens):
            raise UsageError(
                "attention_mask", expected=(batch, past_tokens + new_tokens), found=tuple(attention_mask.shape)
            )
        positions = _positions(attention_mask)[:, past_tokens:] if position_ids is None else position_ids
        with self._in_use:
            past = self._checked_cache(past)  # which a step in another thread may have ended
            past = self._new_cache(batch, attention_mask) if past is None else self._continued(past, attention_mask)
            self._last_cache = None  # until the step is done: a failed one leaves no cache that could go on
            logits = self.network.logits(ids, _ints(attention_mask), _ints(positions), past.rows, kept=logits_to_keep)
            now = StateCache(past_tokens + new_tokens, first_rows(batch), has_long_factors=past.has_long_factors)
            self._last_cache = now
        returned = {} if use_cache is False else {_CACHE_NAME: now}
        return CausalLMOutputWithPast(logits=torch.from_numpy(logits), **returned)

    def _checked_cache(self, *given: StateCache | None) -> StateCache | None:
        past = next((cache for cache in given if cache is not None and not _is_new_of_transformers(cache)), None)
        if past is not None and past is not self._last_cache:
            raise UsageError(
                "past_key_values",
                expected="what this model's last step returned: its one KV cache is inside OpenVINO",
                found="another",
                try_next="the whole text as one prompt, or a second model",
            )
        return past

    def _continued(self, past: StateCache, mask: torch.Tensor) -> StateCache:
        if past.has_long_factors != self._needs_long_factors(mask):
            raise UsageError(
                "the sequence grows past the length at which LongRoPE's factors change",
                expected=f"{self._rope_switch_tokens} tokens at most with the cache of fewer",
                found=int(mask.sum(-1).max()),
                try_next="the whole text as one prompt; generate() does so",
            )
        return past

    def _new_cache(self, batch: int, mask: torch.Tensor) -> StateCache:
        self.network.reset()
        return StateCache(0, first_rows(batch), has_long_factors=self._needs_long_factors(mask))

    def _needs_long_factors(self, mask: torch.Tensor) -> bool:
        """As the model decides it: by the last position of the longest row."""
        limit = self._rope_switch_tokens
        return limit is not None and int(mask.sum(-1).max()) > limit


def _is_new_of_transformers(cache: object) -> bool:
    """A cache of theirs without a token, which programs hand in for `generate` to fill: none has begun."""
    return isinstance(cache, Cache) and cache.get_seq_length() == 0


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """(batch, all tokens): counted from each row's first token, and 0 at the padding before it."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def _check_positions(given: torch.Tensor | None, positions: torch.Tensor, mask: torch.Tensor) -> None:
    """transformers 5 counts positions as well. A program's own would be lost here, so they are refused."""
    if given is None or given.shape != positions.shape:
        return
    if not torch.equal(given[mask.bool()], positions[mask.bool()]):
        raise UsageError(
            "position_ids",
            expected="those that the attention mask counts, with padding on the left",
            try_next="tokenizer.padding_side = 'left'; and leave position_ids out",
        )


def _ints(tensor: torch.Tensor) -> Ints:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.int64)


def named(cls: type[Self], name: str) -> type[Self]:
    """`cls` under the name of the checkpoint's class, by which pipelines know what a model can do."""
    return type(name, (cls,), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def class_name(config: Any) -> str:
    """The class that a checkpoint's config names, or else transformers' own for its kind of model."""
    names = getattr(config, "architectures", None) or []
    return names[0] if names else MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, "NPUModelForCausalLM")


def _generation_config(model_dir: Path, config: Any) -> Any:
    """What generation_config.json says, or where there is none config.json."""
    if (model_dir / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(model_dir)
    return GenerationConfig.from_model_config(config)
