"""What a step of generation may ask for. Checked here, as OpenVINO answers some of it by numbers that mean nothing."""

from __future__ import annotations

from collections.abc import Mapping

from aipc.engines.openvino_lengths import PROMPT, RESPONSE, StaticLengths
from aipc.errors import ContextLengthError, UsageError
from aipc.npu.network import Ints


def check_ids(input_ids: Ints, *, vocabulary_tokens: int) -> None:
    """Raises `UsageError` unless `input_ids` (batch, tokens) are the model's."""
    if input_ids.ndim != 2 or input_ids.size == 0:
        raise UsageError("input_ids", expected="(batch, tokens), one token or more", found=input_ids.shape)
    lowest, highest = int(input_ids.min()), int(input_ids.max())
    if lowest < 0 or highest >= vocabulary_tokens:
        raise UsageError(
            "input_ids",
            expected=f"token ids from 0 to {vocabulary_tokens - 1}",
            found=lowest if lowest < 0 else highest,
            try_next="the tokenizer of this very model",
        )


def check_static(
    lengths: StaticLengths,
    *,
    batch: int,
    new_tokens: int,
    past_tokens: int,
    kept: int,
    rope_switch_tokens: int | None = None,
) -> None:
    """Whether an NPU's pipeline can take a step of `new_tokens` in `batch` rows after `past_tokens`.

    `kept` is the number of tokens whose logits are wanted, 0 for all. Raises `UsageError` or `ContextLengthError`.
    """
    if batch != 1:
        raise UsageError(
            "the NPU's pipeline takes one sequence at a time: no batches, no beams, no num_return_sequences",
            expected="a batch of 1",
            found=batch,
            try_next="one prompt after the other, with num_beams=1; or device='cpu'",
        )
    if past_tokens and new_tokens > 1:
        raise UsageError(
            "the NPU's pipeline continues by one token", found=new_tokens, try_next="the whole text as one prompt"
        )
    if kept != 1 and new_tokens > 1:
        raise UsageError(
            "the NPU's pipeline computes the logits of the last token only",
            expected="logits_to_keep=1",
            found=f"{new_tokens} tokens with logits_to_keep={kept}",
            try_next="logits_to_keep=1, or device='cpu' for all logits",
        )
    if not past_tokens and new_tokens > lengths.prompt_tokens:
        raise ContextLengthError(
            "the prompt is longer than the NPU's pipeline was compiled for",
            expected=f"{lengths.prompt_tokens} tokens at most",
            found=new_tokens,
            try_next=_longer({PROMPT: new_tokens}),
        )
    check_static_total(lengths, past_tokens + new_tokens, rope_switch_tokens=rope_switch_tokens)


def check_static_total(
    lengths: StaticLengths, tokens: int, *, prompt_tokens: int = 0, rope_switch_tokens: int | None = None
) -> None:
    """`tokens` are those of prompt and answer together; `prompt_tokens`, where the prompt is yet to be read, say
    whether longer prompts must be compiled for too.

    Raises `ContextLengthError` when they are longer than an NPU's pipeline, or than the original context of a LongRoPE
    model that cannot go beyond it there (see `StaticLengths.usable_tokens`).
    """
    usable_tokens = lengths.usable_tokens(lengths.context_tokens, rope_switch_tokens)
    if usable_tokens < min(tokens, lengths.context_tokens):
        raise ContextLengthError(
            "the NPU's pipeline reads prompts in chunks, and cannot pass this model's original context so",
            expected=f"{usable_tokens} tokens at most",
            found=tokens,
            try_next="fewer tokens, or device='cpu'",
        )
    if tokens > lengths.context_tokens:
        longer = {RESPONSE: tokens - lengths.prompt_tokens}
        if prompt_tokens > lengths.prompt_tokens:
            longer = {PROMPT: prompt_tokens, RESPONSE: max(tokens - prompt_tokens, 1)}
        raise ContextLengthError(
            "prompt and answer are longer than the NPU's pipeline was compiled for",
            expected=f"{lengths.context_tokens} tokens at most",
            found=tokens,
            try_next=f"fewer max_new_tokens, or {_longer(longer)}",
        )


def _longer(lengths: Mapping[str, int]) -> str:
    properties = {name: str(tokens) for name, tokens in lengths.items()}
    return f"from_pretrained(..., properties={properties})"
