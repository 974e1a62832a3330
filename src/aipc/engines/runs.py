"""How a generation is split where a model's rotary factors change."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from aipc.engines import Sampling, Step


@dataclass(frozen=True)
class Run:
    """One uninterrupted request: at most `max_tokens` tokens on one KV cache."""

    max_tokens: int
    seed: int


def runs(prompt_tokens: int, max_tokens: int, *, rope_switch_tokens: int | None, seed: int) -> Sequence[Run]:
    """How a generation is split so that one KV cache never mixes the short and the long factors of longrope.

    Token number k is computed by a forward pass whose total length is prompt_tokens + k − 1. While that is at most
    `rope_switch_tokens` the short factors hold; the first pass beyond it starts anew from all tokens so far, as
    transformers does: its `longrope_frequency_update` takes the long factors when seq_len > original length, and
    `Phi3ForCausalLM.prepare_inputs_for_generation` drops the cache there.

    The second run has a seed of its own, as one seed twice would repeat the same draws.
    """
    whole = Run(max_tokens, seed)
    if rope_switch_tokens is None or prompt_tokens > rope_switch_tokens:
        return (whole,)
    before = rope_switch_tokens - prompt_tokens + 1
    if max_tokens <= before:
        return (whole,)
    return (Run(before, seed), Run(max_tokens - before, seed + 1))


def steps_of_runs(
    tokens: list[int],
    sampling: Sampling,
    run: Callable[[list[int], Sampling, Run], Generator[Step, None, None]],
    *,
    rope_switch_tokens: int | None,
) -> Generator[Step, None, None]:
    """The steps of each run in turn, up to a stop token; `tokens`, at first the prompt, grows by every one.

    Closing this generator closes the run that is going on.
    """
    seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
    for part in runs(len(tokens), sampling.max_tokens, rope_switch_tokens=rope_switch_tokens, seed=seed):
        with closing(run(tokens, sampling, part)) as steps:
            for step in steps:
                tokens.append(step.token_id)
                yield step
        if tokens[-1] in sampling.stop_token_ids:
            return
