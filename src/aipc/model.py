"""The Python API: a loaded model, and the answers that stream from it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType

from aipc.chat import Chat, Message
from aipc.devices.known import NotAvailable
from aipc.engines import Capabilities, LoadOptions, Sampling, Session, Step
from aipc.errors import ContextLengthError, EmptyPromptError, EngineError
from aipc.monitor.bandwidth import measured_bandwidth
from aipc.monitor.memory import peak_resident_bytes
from aipc.monitor.statistics import Statistics, from_steps
from aipc.progress import Progress, silent
from aipc.quant.recipe import Recipe
from aipc.ready import ReadyModel, ready_model
from aipc.store import store_root
from aipc.text import StopStrings

USUAL_MAX_TOKENS = 1024
KV_CACHE_BYTES_PER_ELEMENT = 1  # OpenVINO keeps the CPU's KV cache in 8 bits unless told otherwise

Prompt = str | Sequence[Message | Mapping[str, str]]


def load(
    model: str | Path | None = None,
    *,
    device: str = "cpu",
    weights: str = "int4",
    group_size: int | None = None,
    ratio: float = 1.0,
    symmetric: bool | None = None,
    all_layers: bool = False,
    properties: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Model:
    """Load a model on a device.

    `model` is a converted directory, a stored model's name, a checkpoint directory or a Hugging Face id; the last two
    are converted into the store first, by the recipe that `weights` to `all_layers` describe (see `aipc.convert`).
    `properties` go to the engine. Raises a leaf of `AipcError`.
    """
    recipe = Recipe(weights, group_size, ratio, symmetric, all_layers)
    ready = ready_model(str(model) if model is not None else None, recipe, progress=progress)
    return load_ready(ready, device=device, properties=properties or {}, progress=progress)


def load_ready(ready: ReadyModel, *, device: str, properties: Mapping[str, str], progress: Progress) -> Model:
    """`load` for a directory that was found and checked."""
    chat = Chat.load(ready.path)
    begun = time.perf_counter()
    progress("load", 0, 0)
    options = LoadOptions(
        context_tokens=ready.context_tokens, properties=properties, rope_switch_tokens=ready.rope_switch_tokens
    )
    session = _engine_of(ready.path).load(ready.path, device, options)
    return Model(ready, chat, session, load_s=time.perf_counter() - begun)


def _engine_of(path: Path) -> ModuleType:
    """The engine whose kind of directory this is."""
    from aipc.engines import fake, openvino

    for engine in (openvino, fake):
        if (path / engine.MODEL_FILE).is_file():
            return engine
    raise EngineError(
        f"{path} holds no model that an engine can load",
        expected=openvino.MODEL_FILE,
        try_next=f"aipc convert CHECKPOINT {path}",
    )


class Model:
    """A model on a device, with its tokenizer and chat template. A context manager; one answer at a time."""

    def __init__(self, ready: ReadyModel, chat: Chat, session: Session, *, load_s: float) -> None:
        self.ready = ready
        self.chat = chat
        self.session = session
        self.load_s = load_s

    @property
    def name(self) -> str:
        return self.ready.name

    @property
    def capabilities(self) -> Capabilities:
        return self.session.capabilities

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        logprobs: bool = False,
        raw: bool = False,
    ) -> Answer:
        """Start an answer; iterate over it for its steps.

        `prompt` is one user message, or a conversation of messages with a role and a content. With `raw`, or for a
        model without a chat template, a text is continued as it is. `max_tokens` None is what the context leaves, at
        most 1024. `temperature` 0 is greedy. The answer ends before any of the `stop` texts. Raises `EmptyPromptError`,
        `ContextLengthError` or `UsageError` before anything is computed.
        """
        prompt_ids = self.prompt_ids(prompt, raw=raw)
        sampling = Sampling(
            max_tokens=self._checked_max_tokens(len(prompt_ids), max_tokens),
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop_token_ids=self.chat.tokenizer.stop_token_ids,
            logprobs=logprobs,
        )
        return Answer(self, prompt_ids, sampling, StopStrings(stop))

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        logprobs: bool = False,
        raw: bool = False,
    ) -> Answer:
        """`stream`, read to its end: the answer's `text`, `token_ids`, `finish_reason` and `statistics()` are there."""
        answer = self.stream(
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
            logprobs=logprobs,
            raw=raw,
        )
        for _ in answer:
            pass
        return answer

    def prompt_ids(self, prompt: Prompt, *, raw: bool = False) -> list[int]:
        """The token ids that the model is given. Raises `EmptyPromptError`, or `TemplateError` from the template."""
        if isinstance(prompt, str):
            if not prompt.strip():
                raise EmptyPromptError("the prompt is empty", try_next='aipc run "Can you introduce yourself?"')
            if raw or not self.chat.has_template:
                return self.chat.tokenizer.encode(prompt)
            prompt = [Message("user", prompt)]
        return self.chat.prompt_ids([_message(item) for item in prompt])

    def _checked_max_tokens(self, prompt_tokens: int, max_tokens: int | None) -> int:
        room = self.capabilities.context_tokens - prompt_tokens
        if room < 1:
            raise ContextLengthError(
                "the prompt does not fit the model's context",
                expected=f"fewer than {self.capabilities.context_tokens} tokens",
                found=prompt_tokens,
                try_next="a shorter prompt",
            )
        return min(room, USUAL_MAX_TOKENS) if max_tokens is None else max_tokens

    def bytes_per_token(self, tokens: int) -> int | NotAvailable:
        """Bytes that decoding one token reads after `tokens` tokens: the weights, and the KV cache at 8 bits."""
        weights, kv_elements = self.ready.weight_bytes_per_token, self.ready.kv_elements_per_token
        if weights is None or kv_elements is None:
            return NotAvailable("the directory has no aipc manifest")
        return weights + kv_elements * KV_CACHE_BYTES_PER_ELEMENT * tokens

    def warm_up(self) -> None:
        """Run the slow first inference now; may be called from another thread."""
        self.session.warm_up()

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _message(item: Message | Mapping[str, str]) -> Message:
    return item if isinstance(item, Message) else Message(item["role"], item["content"])


class Answer:
    """One answer: an iterator of steps, and what is known of it once it has ended.

    `text` and `token_ids` grow while it is read. `finish_reason` is `stop` (the model ended its turn, or a stop text
    came), `length` (`max_tokens`), `cancelled` (closed before its end), or None while it runs.
    """

    def __init__(self, model: Model, prompt_ids: list[int], sampling: Sampling, stops: StopStrings) -> None:
        self.prompt_ids = prompt_ids
        self.text = ""
        self.steps: list[Step] = []
        self.finish_reason: str | None = None
        self._model = model
        self._sampling = sampling
        self._stops = stops
        self._incremental = model.chat.tokenizer.incremental()
        self._engine_steps = model.session.stream(prompt_ids, sampling)
        self._started_s = time.perf_counter()
        self._iterator = self._read()

    @property
    def token_ids(self) -> list[int]:
        return [step.token_id for step in self.steps]

    def __iter__(self) -> Iterator[Step]:
        return self._iterator

    def __next__(self) -> Step:
        return next(self._iterator)

    def _read(self) -> Iterator[Step]:
        try:
            for engine_step in self._engine_steps:
                step = replace(engine_step, text=self._whole_text(engine_step))
                self.steps.append(step)
                self.text += step.text
                yield step
                if self.finish_reason is not None:
                    return
            self.finish_reason = "stop"
        finally:
            self._engine_steps.close()
            self.finish_reason = self.finish_reason or "cancelled"

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

    def close(self) -> None:
        """Stop within one token. An answer that has ended stays as it is."""
        self._engine_steps.close()
        self.finish_reason = self.finish_reason or "cancelled"

    def statistics(self) -> Statistics:
        """What the answer cost so far. The first call on a PC measures its memory bandwidth, in under half a second."""
        model = self._model
        peak_memory_bytes = peak_resident_bytes()
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
