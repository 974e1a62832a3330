"""Engines run a converted model on a device.

An engine module offers one function `load(model_dir, device, options) -> Session`. A session yields one `Step` per
generated token until it is done, stopped or closed. Text is put together above the engines (`aipc.chat`), so an
engine never sees a string of the conversation.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from aipc.progress import Note, Progress, silent, unsaid


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and when to stop.

    `temperature` 0 is greedy, and one below 1e-6 is refused. `top_k` 0 and `top_p` 1.0 switch those filters off.
    `max_tokens` counts generated tokens. Generation also ends at any of `stop_token_ids`, which is yielded as the last
    step.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_token_ids: frozenset[int] = frozenset()
    logprobs: bool = False


@dataclass(frozen=True)
class Step:
    """One generated token.

    `text` is what became whole with this token (empty while a character or a possible stop string is incomplete);
    `time_s` is `time.perf_counter()` when the token arrived; `logprob` is natural-log, when it was asked for.
    """

    token_id: int
    time_s: float
    text: str = ""
    logprob: float | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a session's device can do. Checked before work starts, so that nothing fails in the middle."""

    context_tokens: int
    max_batch: int = 1
    beams: bool = False
    logprobs: bool = True
    longest_prompt_tokens: int | None = None  # None: only the context limits the prompt
    vocabulary_tokens: int | None = None  # ids from here on are not the model's; None: not known
    kv_element_bytes: int | None = None  # of an element of the KV cache; None: not known
    reused_prefix_tokens: int | None = None  # a beginning this long may come from a cache; None: there is none


@dataclass(frozen=True)
class LoadOptions:
    """`properties` go to the engine as they are, validated against what the device supports.

    `rope_switch_tokens` is for longrope models, and None for all others: the original context length, which is the
    longest sequence that the short factors are for. A model computes its keys with one kind of factors, chosen by the
    total length, so a request that grows beyond this length is run anew there, with all its tokens so far as the
    prompt: that pass takes as long as a prompt of that length, and the tokens equal those of transformers, which
    recomputes its cache at the same point. Prefix caching is off for such a model, as cached keys may hold the other
    factors.

    `keeps_compiled` is for devices whose compiler takes minutes: what it made is kept in the store and used again.
    `progress` shows such a compilation, and `note` is told what was chosen and why something is made again.
    """

    context_tokens: int = 4096
    properties: Mapping[str, str] = field(default_factory=dict)
    rope_switch_tokens: int | None = None
    keeps_compiled: bool = False
    progress: Progress = silent
    note: Note = unsaid


class Session(Protocol):
    """A model loaded on a device. A context manager: leaving it frees the model."""

    engine: str
    device: str  # the engine's own name of the device that was asked for, such as "CPU" or "GPU.0"
    is_rehearsal: bool  # of that device's pipeline on another one; `device` says so too, and it counts as no run there
    device_name: str  # the name a person knows it by, such as "AMD EPYC"
    capabilities: Capabilities

    def stream(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generator[Step, None, None]:
        """Yield a `Step` per token. Closing the generator cancels within one token.

        The request is checked by the call, before the first token is asked for. One stream at a time: a second one
        raises `EngineError` until the first has ended or is closed. The other errors are those of `checked_request`.
        """
        ...

    def warm_up(self) -> None:
        """Run the slow first inference now. From any thread: a stream that starts meanwhile waits for its end."""

    def close(self) -> None:
        """Stop what is running and free the model."""

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """What every module in this folder offers."""

    name: str

    def import_packages(self) -> None:
        """Import what `load` needs. Raises `MissingPackageError`."""

    def load(self, model_dir: Path, device: str, options: LoadOptions) -> Session:
        """Load a converted model.

        Raises `DeviceError` when the device is not there, `UsageError` for a property that it does not have,
        `EngineError` when loading fails, and `MissingPackageError`.
        """
        ...
