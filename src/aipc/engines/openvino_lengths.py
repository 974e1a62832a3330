"""The lengths of the NPU's static pipeline: the plugin's own rounding, and which to choose.

The plugin rounds both lengths up to 64 tokens. It reads a prompt in chunks of 1024, and rounds a longer prompt up to
whole chunks. See llm_compiled_model.cpp in
https://github.com/openvinotoolkit/openvino/tree/master/src/plugins/intel_npu/src/plugin/npuw
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aipc.errors import UsageError

USUAL_PROMPT_TOKENS, USUAL_RESPONSE_TOKENS = 1024, 128  # openvino-genai's own defaults
PROMPT, RESPONSE = "MAX_PROMPT_LEN", "MIN_RESPONSE_LEN"
ANSWER_TOKENS = 512  # for an answer whose longest length nobody gave
# Of a compiled model few sizes are made, so that a slightly longer prompt finds one that is there.
_SMALLEST_PROMPT, _SMALLEST_ANSWER = 256, 128
_LARGEST_PROMPT = 4096  # of a conversation; each layer keeps keys and values for it
_STEP = 64
_MOST_DIGITS = 9
_USUAL_CHUNK = 1024
_SHARE_OF_MEMORY = 4  # the KV cache of a conversation may take one part in so many of what is free


@dataclass(frozen=True)
class StaticLengths:
    """Tokens, as the plugin rounds them. A prompt has at most `prompt_tokens`, and with its answer `context_tokens`.

    `chunk_tokens` are read at a time; None: the prompt is read in one go.
    """

    prompt_tokens: int
    response_tokens: int
    chunk_tokens: int | None = None

    @property
    def context_tokens(self) -> int:
        return self.prompt_tokens + self.response_tokens

    def as_properties(self) -> dict[str, int]:
        return {PROMPT: self.prompt_tokens, RESPONSE: self.response_tokens}

    def __str__(self) -> str:
        return f"prompt {self.prompt_tokens} + answer {self.response_tokens} tokens"

    def usable_tokens(self, context_tokens: int, rope_switch_tokens: int | None) -> int:
        """How much of a model's context can be used.

        A longrope model takes its short or its long factors by the last position of what it reads. So it cannot go
        beyond its original context where a prompt is read in chunks, whose first ones would get the short factors, nor
        where a prompt of that length could not be read anew.
        """
        usable = min(context_tokens, self.context_tokens)
        if rope_switch_tokens is None:
            return usable
        reads_anew = self.chunk_tokens is None and self.prompt_tokens > rope_switch_tokens
        return usable if reads_anew else min(usable, rope_switch_tokens)


def static_lengths(properties: Mapping[str, str]) -> StaticLengths:
    """What the plugin makes of `properties`.

    Raises `UsageError` for what is no length, for a chunk it refuses, and for a length by the plugin's own name.
    """
    for name in (PROMPT, RESPONSE):
        if f"NPUW_LLM_{name}" in properties:  # the plugin's own name, which would go before the length said here
            raise UsageError(f"property NPUW_LLM_{name}", expected=name, try_next=f"--ov-config {name}=TOKENS")
    chunk = None if _reads_in_one_go(properties) else _chunk_tokens(properties)
    prompt = _rounded(_tokens(properties, PROMPT, USUAL_PROMPT_TOKENS), _STEP)
    response = _rounded(_tokens(properties, RESPONSE, USUAL_RESPONSE_TOKENS), _STEP)
    if chunk is None or prompt <= chunk:
        return StaticLengths(prompt, response)
    return StaticLengths(_rounded(prompt, chunk), response, chunk)


def lengths_for_request(prompt_tokens: int, max_tokens: int | None, *, context_tokens: int) -> dict[str, str]:
    """Properties for a prompt and an answer of at most `max_tokens`, in sizes that other prompts can use too."""
    answer_tokens = min(max_tokens or ANSWER_TOKENS, max(context_tokens - prompt_tokens, 1))
    prompt = _size(prompt_tokens, _SMALLEST_PROMPT)
    room = _rounded(max(context_tokens - prompt, 1), _STEP)
    return _as_texts(prompt, min(_size(answer_tokens, _SMALLEST_ANSWER), room))


def lengths_for_conversation(
    *, context_tokens: int, kv_bytes_per_token: int | None, available_bytes: int | None
) -> dict[str, str]:
    """Properties for prompts that are not known yet: the model's context, up to 4,096 tokens and an answer.

    It is halved, down to 1,024, until the KV cache fits a quarter of the memory that is free.
    """
    answer = _size(min(ANSWER_TOKENS, context_tokens), _SMALLEST_ANSWER)
    prompt = min(_size(context_tokens, _SMALLEST_PROMPT), _LARGEST_PROMPT)
    if kv_bytes_per_token is not None and available_bytes is not None:
        most = available_bytes // _SHARE_OF_MEMORY
        while prompt > _USUAL_CHUNK and (prompt + answer) * kv_bytes_per_token > most:
            prompt = _size(prompt // 2, _SMALLEST_PROMPT)
    return _as_texts(prompt, min(answer, _rounded(max(context_tokens - prompt, 1), _STEP)))


def _as_texts(prompt: int, response: int) -> dict[str, str]:
    return {PROMPT: str(prompt), RESPONSE: str(response)}


def _size(tokens: int, smallest: int) -> int:
    """`tokens` rounded up to a power of two, `smallest` or more, and from 1024 on to whole chunks."""
    if tokens > _USUAL_CHUNK:
        return _rounded(tokens, _USUAL_CHUNK)
    size = smallest
    while size < tokens:
        size *= 2
    return size


def _rounded(tokens: int, step: int) -> int:
    return -(-tokens // step) * step


def _tokens(properties: Mapping[str, str], name: str, default: int) -> int:
    text = properties.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS or int(text) == 0:
        raise UsageError(f"property {name}", expected="a number of tokens, 1 or more", found=repr(text))
    return int(text)


def _reads_in_one_go(properties: Mapping[str, str]) -> bool:
    hint = properties.get("NPUW_LLM_PREFILL_HINT", properties.get("PREFILL_HINT", ""))
    return hint.upper() == "STATIC" or properties.get("NPUW_LLM_PREFILL_CHUNK_SIZE") == "0"


def _chunk_tokens(properties: Mapping[str, str]) -> int:
    chunk = _tokens(properties, "NPUW_LLM_PREFILL_CHUNK_SIZE", _USUAL_CHUNK)
    if chunk & (chunk - 1):
        raise UsageError("property NPUW_LLM_PREFILL_CHUNK_SIZE", expected="a power of two", found=chunk)
    return chunk
