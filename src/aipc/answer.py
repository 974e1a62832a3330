"""One answer of a model: its steps while they come, and what is known of it once it has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from aipc.engines import Sampling, Step
from aipc.monitor.bandwidth import measured_bandwidth
from aipc.monitor.memory import peak_resident_bytes
from aipc.monitor.statistics import Statistics, from_steps
from aipc.store import store_root
from aipc.tokenizer.streaming import StopStrings

if TYPE_CHECKING:
    from aipc.model import Model

FinishReason = Literal["stop", "length", "cancelled", "error"]


class Answer:
    """One answer: an iterator of steps, and a context manager that stops it.

    `text` and `token_ids` grow while it is read. `finish_reason` is `stop` (the model ended its turn, or a stop text
    came), `length` (`max_tokens`), `cancelled` (closed or interrupted before its end), `error` (the engine failed, and
    its exception was raised), or None while it runs.
    """

    def __init__(self, model: Model, prompt_ids: list[int], sampling: Sampling, stops: StopStrings) -> None:
        self.prompt_ids = prompt_ids
        self.text = ""
        self.steps: list[Step] = []
        self.finish_reason: FinishReason | None = None
        self._model = model
        self._sampling = sampling
        self._stops = stops
        self._incremental = model.chat.tokenizer.incremental()
        self._engine_steps = model.session.stream(prompt_ids, sampling)
        self._started_s = time.perf_counter()
        self._iterator = self._read()

    @property
    def token_ids(self) -> list[int]:
        """Every token that was generated, a stop token included."""
        return [step.token_id for step in self.steps]

    def __iter__(self) -> Iterator[Step]:
        return self._iterator

    def __next__(self) -> Step:
        return next(self._iterator)

    def _read(self) -> Iterator[Step]:
        self._started_s = time.perf_counter()  # engines begin when the first step is asked for
        try:
            for engine_step in self._engine_steps:
                if self.finish_reason is None:  # else it was closed by another thread meanwhile
                    yield self._shown(engine_step)
                if self.finish_reason is not None:
                    return
            if self.finish_reason is None:
                yield from self._engine_ended()
        except Exception:
            self.finish_reason = "error"
            raise
        finally:
            self._engine_steps.close()
            self.finish_reason = self.finish_reason or "cancelled"

    def _shown(self, engine_step: Step) -> Step:
        step = replace(engine_step, text=self._whole_text(engine_step))
        self.steps.append(step)
        self.text += step.text
        return step

    def _whole_text(self, step: Step) -> str:
        """What can be shown after this token; at the end, what was held back too. A stop token has no text itself."""
        if step.token_id in self._sampling.stop_token_ids:
            self.finish_reason = "stop"
            return self._rest()
        text = self._stops.push(self._incremental.push(step.token_id))
        if self._stops.matched is not None:
            self.finish_reason = "stop"
        elif len(self.steps) + 1 == self._sampling.max_tokens:
            self.finish_reason = "length"
            text += self._rest()
        return text

    def _rest(self) -> str:
        text = self._stops.push(self._incremental.finish())
        return text if self._stops.matched is not None else text + self._stops.finish()

    def _engine_ended(self) -> Iterator[Step]:
        """Show what was held back when the engine ends without a stop token, before `max_tokens`.

        No token carries that text, so the last one comes a second time; `steps` and `token_ids` have it once.
        """
        self.finish_reason = "stop"
        rest = self._rest()
        if rest:
            self.text += rest
            yield replace(self.steps[-1], text=rest)

    def close(self) -> None:
        """Stop within one token; from any thread. An answer that has ended stays as it is."""
        self.finish_reason = self.finish_reason or "cancelled"
        with suppress(ValueError):  # another thread is reading: it stops at its next token
            self._engine_steps.close()

    def statistics(self) -> Statistics:
        """What the answer cost so far. The first call on a PC measures its memory bandwidth, in under half a second."""
        model = self._model
        peak_memory_bytes = peak_resident_bytes()  # before the measurement, which takes memory itself
        return from_steps(
            self.steps,
            model.session,
            started_s=self._started_s,
            prompt_tokens=len(self.prompt_ids),
            load_s=model.load_s,
            peak_memory_bytes=peak_memory_bytes,
            bytes_per_token=model.bytes_per_token(len(self.prompt_ids) + len(self.steps) // 2),
            memory_bandwidth_bytes_per_s=measured_bandwidth(store_root() / "bandwidth.json"),
        )

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
