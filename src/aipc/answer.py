"""One answer of a model: its steps while they come, and what is known of it once it has ended."""

from __future__ import annotations

import time
from dataclasses import replace
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from aipc.devices.known import NotAvailable
from aipc.engines import Sampling, Step
from aipc.errors import StoreError
from aipc.monitor.bandwidth import measured_bandwidth
from aipc.monitor.memory import peak_resident_bytes
from aipc.monitor.statistics import Statistics, from_steps
from aipc.store import store_root
from aipc.tokenizer.streaming import StopStrings

if TYPE_CHECKING:
    from aipc.model import Model

FinishReason = Literal["stop", "length", "cancelled", "error"]
POLL_S = 0.1  # on Windows a wait without a timeout would not notice Ctrl-C


class Answer:
    """One answer: an iterator of steps, and a context manager that stops it.

    `text` and `token_ids` grow while it is read. `finish_reason` is `stop` (the model ended its turn, or a stop text
    came), `length` (`max_tokens`), `cancelled` (closed or interrupted before its end), `error` (the engine failed, and
    its exception was raised), or None while it runs.
    """

    def __init__(
        self, model: Model, prompt_ids: list[int], sampling: Sampling, stops: StopStrings, *, may_reuse: bool = False
    ) -> None:
        self.prompt_ids = prompt_ids
        self._may_reuse = may_reuse  # what an earlier prompt left in the engine's cache
        self.text = ""
        self.steps: list[Step] = []
        self.finish_reason: FinishReason | None = None
        self._model = model
        self._sampling = sampling
        self._stops = stops
        self._incremental = model.chat.tokenizer.incremental()
        self._engine_steps = model.session.stream(prompt_ids, sampling)
        self._started_s = time.perf_counter()
        self._reading = Lock()  # held while the engine is asked for a step, or closed

    @property
    def token_ids(self) -> list[int]:
        """Every token that was generated, a stop token included."""
        return [step.token_id for step in self.steps]

    @property
    def context_tokens(self) -> int:
        """How many prompt and answer may have together: the model's, or what it was compiled for."""
        return self._model.capabilities.context_tokens

    @property
    def fills_context(self) -> bool:
        return len(self.prompt_ids) + len(self.steps) >= self.context_tokens

    def __iter__(self) -> Answer:
        return self  # no generator of its own: a cycle would keep an answer that a `break` left alive, and the engine

    def __next__(self) -> Step:
        try:
            with self._reading:
                step = self._next_step()
        finally:
            if self.finish_reason is not None:
                self._stop_engine()
        if step is None:
            raise StopIteration
        return step

    def _next_step(self) -> Step | None:
        if self.finish_reason is not None:
            return None
        if not self.steps:
            self._started_s = time.perf_counter()  # engines begin when the first step is asked for
        try:
            engine_step = next(self._engine_steps, None)
            if self.finish_reason is not None:  # closed by another thread meanwhile
                return None
            return self._engine_ended() if engine_step is None else self._shown(engine_step)
        except BaseException as error:
            self.finish_reason = "error" if isinstance(error, Exception) else "cancelled"
            raise

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

    def _engine_ended(self) -> Step | None:
        """What was held back when the engine ends without a stop token, before `max_tokens`.

        No token carries that text, so the last one comes a second time; `steps` and `token_ids` have it once.
        """
        self.finish_reason = "stop"
        rest = self._rest()
        self.text += rest
        return replace(self.steps[-1], text=rest) if rest else None

    def close(self) -> None:
        """Stop within one token; from any thread. An answer that has ended stays as it is."""
        self.finish_reason = self.finish_reason or "cancelled"
        self._stop_engine()

    def close_and_wait(self) -> None:
        """`close`, and return when the engine is free; not for the thread that is reading."""
        self.close()
        while not self._stop_engine(timeout_s=POLL_S):
            pass

    def _stop_engine(self, *, timeout_s: float = 0.0) -> bool:
        """False when another thread is reading: it looks at `finish_reason` after its step, and comes here then."""
        if not self._reading.acquire(timeout=timeout_s):
            return False
        try:
            self._engine_steps.close()
        finally:
            self._reading.release()
        return True

    def statistics(self) -> Statistics:
        """What the answer cost so far. The first call on a PC measures its memory bandwidth, in under half a second."""
        model = self._model
        peak_memory_bytes = peak_resident_bytes()  # before the measurement, which takes memory itself
        return from_steps(
            self.steps,
            model.session,
            started_s=self._started_s,
            prompt_tokens=len(self.prompt_ids),
            may_reuse=self._may_reuse,
            load_s=model.load_s,
            peak_memory_bytes=peak_memory_bytes,
            bytes_per_token=model.bytes_per_token(len(self.prompt_ids) + len(self.steps) // 2),
            memory_bandwidth_bytes_per_s=_memory_bandwidth(),
            device_choice=model.device_choice,
        )

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _memory_bandwidth() -> float | NotAvailable:
    try:
        return measured_bandwidth(store_root() / "bandwidth.json")
    except StoreError as error:  # no place for a store, which an answer does not need
        return NotAvailable(error.what)
