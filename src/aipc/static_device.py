"""What is settled before a model goes onto a device with static shapes, the NPU: whether it may, and the lengths.

All of it costs milliseconds, and comes before a compilation that takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aipc.chat import Chat
from aipc.check import check
from aipc.devices import NotAvailable, find_memory
from aipc.engines import Capabilities, Sampling
from aipc.engines.openvino_lengths import (
    PROMPT,
    RESPONSE,
    lengths_for_conversation,
    lengths_for_request,
    static_lengths,
)
from aipc.engines.request import checked_request
from aipc.errors import ContextLengthError, DeviceError, UsageError
from aipc.ready import ReadyModel

_KV_BYTES = 2  # an element of the KV cache: the plugin keeps it in FP16


@dataclass(frozen=True)
class Need:
    """One request: its prompt's token ids once the tokenizer is there, and the most tokens of its answer, if given."""

    prompt_ids: Callable[[Chat], list[int]]
    max_tokens: int | None


def prepare_static(ready: ReadyModel, chat: Chat, need: Need | None, properties: Mapping[str, str]) -> dict[str, str]:
    """`properties` with the lengths that they leave open.

    Raises `DeviceError` for a model that the NPU does not take, `ContextLengthError` for a request that does not fit,
    `UsageError` for a `max_tokens` that is none and for lengths beyond the model's context, and what making the prompt
    raises.
    """
    check_eligible(ready)
    refuse_beyond_context(ready.context_tokens, properties)
    usable_tokens = _usable_tokens(ready, properties)
    if need is None:
        return {**_conversation(ready, usable_tokens), **properties}
    prompt_ids = need.prompt_ids(chat)
    prompt_tokens = len(prompt_ids)
    if prompt_tokens >= usable_tokens:
        raise ContextLengthError(
            "the prompt does not fit the model's context on the NPU",
            expected=f"fewer than {usable_tokens} tokens",
            found=prompt_tokens,
            try_next="a shorter prompt" + (", or --device cpu" if prompt_tokens < ready.context_tokens else ""),
        )
    chosen = {**lengths_for_request(prompt_tokens, need.max_tokens, context_tokens=usable_tokens), **properties}
    lengths = static_lengths(chosen)
    capabilities = Capabilities(
        context_tokens=lengths.usable_tokens(ready.context_tokens, ready.rope_switch_tokens),
        longest_prompt_tokens=lengths.prompt_tokens,
    )
    checked_request(prompt_ids, Sampling(1 if need.max_tokens is None else need.max_tokens), capabilities)
    return chosen


def check_eligible(ready: ReadyModel) -> None:
    """Raises `DeviceError` for a model that the NPU does not take, or answers from by noise."""
    report = check(ready.path, "npu")
    if report.passes:
        return
    first = report.failures[0]
    more = f" and {len(first.where) - 1} more places" if len(first.where) > 1 else ""
    others = sorted({finding.rule for finding in report.failures} - {first.rule})
    raise DeviceError(
        f"{ready.name} cannot run on the NPU: {first.rule}, {first.where[0]}{more}"
        + (f"; also {', '.join(others)}" if others else ""),
        expected=first.expected,
        found=first.found,
        try_next=first.remedy,
    )


def refuse_beyond_context(context_tokens: int, properties: Mapping[str, str]) -> None:
    """Raises `UsageError` for lengths that would take memory, gigabytes of it, for tokens that the model cannot have.

    Without one given, openvino-genai's own is taken whatever the model's context.
    """
    static_lengths(properties)  # raises for what is no number
    for name in (PROMPT, RESPONSE):
        if int(properties.get(name, "0")) > context_tokens:
            raise UsageError(
                f"property {name}",
                expected=f"at most {context_tokens} tokens, the model's context",
                found=properties[name],
                try_next=f"{name}={context_tokens}",
            )


def _usable_tokens(ready: ReadyModel, properties: Mapping[str, str]) -> int:
    """The model's context; a longrope model's original one, unless the person chose lengths that go beyond it."""
    if ready.rope_switch_tokens is None:
        return ready.context_tokens
    return max(
        min(ready.context_tokens, ready.rope_switch_tokens),
        static_lengths(properties).usable_tokens(ready.context_tokens, ready.rope_switch_tokens),
    )


def _conversation(ready: ReadyModel, context_tokens: int) -> dict[str, str]:
    per_token, available = ready.kv_elements_per_token, find_memory().available_bytes
    return lengths_for_conversation(
        context_tokens=context_tokens,
        kv_bytes_per_token=None if per_token is None else per_token * _KV_BYTES,
        available_bytes=None if isinstance(available, NotAvailable) else available,
    )
