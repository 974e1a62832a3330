"""An engine of known tokens at a known speed, for tests of all that sits above the engines."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import TracebackType

from aipc.engines import Capabilities, LoadOptions, Sampling, Step
from aipc.engines.request import checked_request
from aipc.errors import EngineError

name = "fake"

MODEL_FILE = "fake_engine.json"


@dataclass(frozen=True)
class Request:
    """What a session was asked, and how much of the answer was read: all of it, or up to where it was closed."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    steps: tuple[Step, ...]


class FakeSession:
    """Answers every prompt with `token_ids`, the first after `prefill_s` and each other after `token_s` seconds.

    Ends where the tokens end, at `max_tokens`, at a stop token, or, when `fail_after` is given, with an `EngineError`
    in place of the token after that many. `logprob` is every token's log-probability when they are asked for.
    `requests` holds the finished, failed and closed requests, and `warm_ups` counts the calls of `warm_up`.
    """

    engine = name
    is_rehearsal = False

    def __init__(
        self,
        token_ids: Sequence[int],
        *,
        prefill_s: float = 0.0,
        token_s: float = 0.0,
        fail_after: int | None = None,
        logprob: float = -1.0,
        device: str = "FAKE",
        capabilities: Capabilities | None = None,
    ) -> None:
        self.device = device
        self.device_name = "no device at all"
        self.capabilities = capabilities or Capabilities(context_tokens=4096)
        self.requests: list[Request] = []
        self.warm_ups = 0
        self.is_closed = False
        self._token_ids = tuple(token_ids)
        self._prefill_s, self._token_s = prefill_s, token_s
        self._fail_after = fail_after
        self._logprob = logprob
        self._is_streaming = False
        self._never = Event()  # its wait() keeps time better than sleep() on Windows

    def stream(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generator[Step, None, None]:
        prompt = checked_request(prompt_ids, sampling, self.capabilities)
        self._check_open()
        return self._stream(tuple(prompt), sampling)

    def _stream(self, prompt_ids: tuple[int, ...], sampling: Sampling) -> Generator[Step, None, None]:
        if self._is_streaming:
            raise EngineError("the session is already generating")
        self._is_streaming = True
        steps: list[Step] = []
        try:
            for token_id in self._token_ids[: sampling.max_tokens]:
                steps.append(self._step(token_id, sampling, index=len(steps)))
                yield steps[-1]
                self._check_open()
                if token_id in sampling.stop_token_ids:
                    return
        finally:
            self._is_streaming = False
            self.requests.append(Request(prompt_ids, sampling, tuple(steps)))

    def _step(self, token_id: int, sampling: Sampling, *, index: int) -> Step:
        self._never.wait(self._token_s if index else self._prefill_s)
        if index == self._fail_after:
            raise EngineError(f"the fake engine fails after {index} tokens, as it was told")
        return Step(token_id, time.perf_counter(), logprob=self._logprob if sampling.logprobs else None)

    def _check_open(self) -> None:
        if self.is_closed:
            raise EngineError("the session is closed")

    def warm_up(self) -> None:
        self._check_open()
        self.warm_ups += 1

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def import_packages() -> None:
    """There are none."""


def load(model_dir: Path, device: str, options: LoadOptions) -> FakeSession:
    """A session as `fake_engine.json` in `model_dir` describes it.

    Its keys are `token_ids` and, when wanted, `prefill_s`, `token_s`, `fail_after` and `load_s`, the time that loading
    takes. Raises `EngineError` when the file is missing or says anything else.
    """
    path = model_dir / MODEL_FILE
    try:
        script = json.loads(path.read_text(encoding="utf-8"))
        time.sleep(script.pop("load_s", 0.0))
        capabilities = Capabilities(context_tokens=options.context_tokens)
        return FakeSession(**script, device=device.upper(), capabilities=capabilities)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EngineError(f"{path} is no script for the fake engine", found=error) from error
