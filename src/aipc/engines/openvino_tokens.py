"""Tokens out of openvino-genai, one at a time.

`ContinuousBatchingPipeline.step()` holds Python's interpreter lock while the device computes (seconds for a prompt),
and with it every other thread: progress, counters, a server's event loop. `generate()` does not, so streaming runs it
on a thread of its own. Only `step()` gives log-probabilities, so it is used when those are asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread, main_thread
from typing import Any

from aipc.engines import Step

POLL_S = 0.1  # on Windows a wait without a timeout would not notice Ctrl-C

# A step, or how it ended: None when it was done, the error otherwise.
Message = Step | BaseException | None


class TokenThread:
    """`generate(streamer)` of a pipeline on a thread of its own, read as an iterator of steps.

    The engine does not wait for a slow reader, so a `Step.time_s` is the time the token arrived, not when it was
    read. `release` is called when the engine has come to rest, also after an error or a cancellation.
    """

    def __init__(self, genai: Any, generate: Callable[[Any], None], *, release: Callable[[], None]) -> None:
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._cancelled = Event()
        self._generate = generate
        self._release = release
        self._streamer = _streamer(genai, self._messages, self._cancelled)
        self._thread = Thread(target=self._work, name="aipc-openvino")

    def start(self) -> None:
        self._thread.start()

    def _work(self) -> None:
        outcome: BaseException | None = None
        try:
            self._generate(self._streamer)
        except BaseException as error:  # handed to the reader, whatever it is
            outcome = error
        finally:
            self._release()
            self._messages.put(outcome)

    def __iter__(self) -> Iterator[Step]:
        while True:
            message = _next(self._messages)
            if message is None:
                return
            if isinstance(message, BaseException):
                raise message
            yield message

    def cancel(self) -> None:
        """Ask the engine to stop at its next token, and return at once."""
        self._cancelled.set()

    def close(self) -> None:
        """Stop the engine at its next token, and wait until it has."""
        self.cancel()
        while self._thread.is_alive():
            self._thread.join(POLL_S)


def _next(messages: SimpleQueue[Message]) -> Message:
    while True:
        try:
            return messages.get(timeout=POLL_S)
        except Empty:
            continue


def _streamer(genai: Any, messages: SimpleQueue[Message], cancelled: Event) -> Any:
    running, cancel = genai.StreamingStatus.RUNNING, genai.StreamingStatus.CANCEL

    class QueueStreamer(genai.StreamerBase):  # type: ignore[misc]  # the base class comes from an extension module
        # An exception out of `write` ends the process (std::terminate in genai 2026.4), so it does next to nothing.
        def write(self, token: int | list[int]) -> Any:
            now = time.perf_counter()
            for token_id in [token] if isinstance(token, int) else token:
                messages.put(Step(token_id, now))
            # At the interpreter's exit the main thread ends first, then waits for this one.
            return running if main_thread().is_alive() and not cancelled.is_set() else cancel

        def end(self) -> None:
            pass

    return QueueStreamer()


def stepped(pipeline: Any, request: Callable[[], Any], *, turn: Lock) -> Generator[Step, None, None]:
    """Steps with their log-probabilities, each computed when it is asked for.

    `request` adds a request to the `ContinuousBatchingPipeline` and returns its handle. `turn` is held during calls.
    """
    with turn:
        handle = request()
    try:
        while pipeline.has_non_finished_requests():
            with turn:
                pipeline.step()
            yield from _read(handle)
    finally:
        with turn:
            handle.cancel()
            if pipeline.has_non_finished_requests():
                pipeline.step()  # computes nothing: drops the cancelled request and its blocks


def _read(handle: Any) -> Iterator[Step]:
    while handle.can_read():
        for output in handle.read().values():
            now = time.perf_counter()
            for token_id, logprob in zip(output.generated_ids, output.generated_log_probs, strict=True):
                yield Step(token_id, now, logprob=logprob)
