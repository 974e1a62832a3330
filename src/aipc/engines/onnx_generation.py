"""Tokens out of ONNX Runtime GenAI, one at a time.

GenAI holds Python's interpreter lock while it computes. So each token is computed when it is asked for, and a prompt in
pieces, between which other threads run and a session can be closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aipc.engines import Sampling
from aipc.engines.onnx_request import search_options


class Generation:
    """One request on a KV cache of its own, which is as long as prompt and answer together."""

    def __init__(
        self, genai: Any, model: Any, sampling: Sampling, *, max_length: int, vocabulary_tokens: int, seed: int
    ) -> None:
        params = genai.GeneratorParams(model)
        options = search_options(sampling, max_length=max_length, vocabulary_tokens=vocabulary_tokens, seed=seed)
        params.set_search_options(**options)
        self._generator = genai.Generator(model, params)
        self._logprobs = sampling.logprobs
        self._last: int | None = None

    def append(self, token_ids: Sequence[int]) -> None:
        """Compute the keys and values of more of the prompt."""
        import numpy

        self._generator.append_tokens(numpy.array(token_ids, numpy.int32))

    def next(self) -> tuple[int, float | None]:
        """The next token, and the natural logarithm of the model's own probability of it when it was asked for."""
        if self._last is not None and self._generator.is_done():
            # One of the model's end tokens came that is no end here. GenAI goes on when it is given the token.
            self.append([self._last])
        logits = self._generator.get_logits().copy() if self._logprobs else None
        self._generator.generate_next_token()
        self._last = int(self._generator.get_next_tokens()[0])
        return self._last, None if logits is None else _logprob(logits, self._last)


def chunks(prompt: Sequence[int], chunk_tokens: int | None) -> Iterator[Sequence[int]]:
    """The prompt in pieces of at most `chunk_tokens`; None is in one."""
    step = chunk_tokens or len(prompt)
    return (prompt[start : start + step] for start in range(0, len(prompt), step))


def _logprob(logits: Any, token_id: int) -> float:
    """`logits` is (batch 1, tokens, vocabulary) float32; the last token's count."""
    import numpy

    last = logits[0, -1].astype(numpy.float64)
    highest = last.max()
    return float(last[token_id] - highest - numpy.log(numpy.exp(last - highest).sum()))
