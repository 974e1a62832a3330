"""The Python API: a loaded model, and the answers that stream from it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import TracebackType

from aipc.answer import Answer
from aipc.chat import Chat
from aipc.devices.device import kind_of
from aipc.devices.known import NotAvailable
from aipc.engines import Capabilities, LoadOptions, Sampling, Session
from aipc.engines.choice import engine_of
from aipc.engines.openvino_rehearsal import with_rehearsal
from aipc.errors import ContextLengthError, TemplateError, UsageError
from aipc.placing import Placed, check_required, placed, wanted_place
from aipc.progress import Note, Progress, silent, unsaid
from aipc.prompt import Prompt, checked_stops, prompt_ids
from aipc.quant.recipe import Recipe
from aipc.ready import ReadyModel
from aipc.static_device import Need, prepare_static
from aipc.store import usual_weights
from aipc.tokenizer.streaming import StopStrings

USUAL_MAX_TOKENS = 1024
_MOST_BEGINNINGS = 10_000  # of prompts: by then an engine's cache has long lost the first ones
KV_CACHE_BYTES_PER_ELEMENT = {"U8": 1, "F16": 2, "BF16": 2, "F32": 4}  # by the property KV_CACHE_PRECISION


def load(
    model: str | Path | None = None,
    *,
    device: str | None = None,
    require_device: str | None = None,
    engine: str | None = None,
    weights: str | None = None,
    group_size: int | None = None,
    ratio: float = 1.0,
    symmetric: bool | None = None,
    all_layers: bool = False,
    properties: Mapping[str, str] | None = None,
    rehearse: bool = False,
    progress: Progress = silent,
    note: Note = unsaid,
) -> Model:
    """Load a model on a device.

    `model` is a converted directory, a stored model's name, a checkpoint directory or a Hugging Face id; None and
    "guide" are the embedded model. A checkpoint is converted into the store first, by the recipe that `weights` to
    `all_layers` describe (see `aipc.convert`), for the `engine` "openvino" or "onnx"; None is the one that the model
    was converted for or that alone has the device ("directml", "cuda"), and else OpenVINO. `device` None is the
    one that an ONNX directory was made for, and else "cpu"; "auto" is chosen as `aipc.automatic` says, and the model's
    `device_choice` tells why. With `require_device` nothing runs on another device. `properties` go to OpenVINO.

    On an NPU the lengths are fixed here: the model's context as far as memory allows, or the properties MAX_PROMPT_LEN
    and MIN_RESPONSE_LEN. `rehearse` runs the NPU's pipeline on the CPU, for a PC without one, and says so in every
    result. What the NPU's compiler makes is kept in the store. `note` is called with what a person should know, such
    as why it is compiled again. Raises a leaf of `AipcError`.
    """
    recipe = chosen_recipe(model, weights, group_size, ratio, symmetric, all_layers)
    for name, value in (("device", device), ("require_device", require_device)):
        _check_device_type(name, value)
    properties = with_rehearsal({} if properties is None else properties, device, rehearse=rehearse)
    wanted = wanted_place(device, engine=engine, require_device=require_device, properties=properties)
    return load_placed(placed(model, recipe, wanted, progress=progress), progress=progress, note=note)


def chosen_recipe(
    model: str | Path | None,
    weights: str | None,
    group_size: int | None,
    ratio: float,
    symmetric: bool | None,
    all_layers: bool,
) -> Recipe | None:
    """The recipe that the arguments of `load` describe, None when they are all left out. Raises `RecipeError`."""
    if (weights, group_size, ratio, symmetric, all_layers) == (None, None, 1.0, None, False):
        return None
    return Recipe(usual_weights(model) if weights is None else weights, group_size, ratio, symmetric, all_layers)


def _check_device_type(name: str, device: object) -> None:
    if not isinstance(device, (str, type(None))):
        raise UsageError(name, expected="a name, such as 'cpu'", found=device)


def load_placed(place: Placed, *, progress: Progress, note: Note = unsaid, need: Need | None = None) -> Model:
    """`load` for a directory that was found and checked, and has its place.

    `need` tells how long the only request will be, for a device whose lengths are fixed here; None is a conversation.
    """
    begun = time.perf_counter()
    progress("load", 0, 0)
    ready, properties = place.ready, place.wanted.properties
    module = engine_of(ready.path, place.engine)
    module.import_packages()
    device = place.device_for(module)
    with ThreadPoolExecutor(1) as beside:  # what is left of an engine's load needs no interpreter
        chat = beside.submit(_prepared_chat, ready.path)
        if module.name == "openvino" and kind_of(device) == "npu":
            properties = prepare_static(ready, chat.result(), need, properties)
        options = LoadOptions(
            context_tokens=ready.context_tokens,
            properties=properties,
            rope_switch_tokens=ready.rope_switch_tokens,
            keeps_compiled=True,
            progress=progress,
            note=note,
        )
        session = module.load(ready.path, device, options)
    try:
        check_required(session, place.wanted.required)
        load_s = time.perf_counter() - begun
        return Model(
            ready, chat.result(), session, load_s=load_s, properties=properties, device_choice=place.device_choice
        )
    except BaseException:
        session.close()
        raise


def _prepared_chat(path: Path) -> Chat:
    chat = Chat.load(path)
    with suppress(TemplateError):  # raised by the first prompt that needs the template
        chat.prepare()
    return chat


class Model:
    """A model on a device, with its tokenizer and chat template. A context manager.

    One answer at a time: a new one closes the one before it. `properties` are those that the session was loaded with;
    `device_choice` is why "auto" took its device, None where it was named.
    """

    def __init__(
        self,
        ready: ReadyModel,
        chat: Chat,
        session: Session,
        *,
        load_s: float,
        properties: Mapping[str, str] | None = None,
        device_choice: str | None = None,
    ) -> None:
        self.ready = ready
        self.chat = chat
        self.session = session
        self.load_s = load_s
        self.properties = properties or {}
        self.device_choice = device_choice
        self._former: weakref.ref[Answer] | None = None  # weak: one that is given up frees the engine at once
        self._exchange = Lock()
        self._beginnings: dict[tuple[int, ...], None] = {}  # of prompts so far, at most a block of the engine's cache

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
        stop: str | Sequence[str] = (),
        logprobs: bool = False,
        raw: bool = False,
    ) -> Answer:
        """Start an answer; iterate over it for its steps. It closes the answer before it, if that has not ended.

        `prompt` is one user message, or a conversation of messages with a role and a content. With `raw`, or for a
        model without a chat template, a text is continued as it is. `max_tokens` None is what the context leaves, at
        most 1024. `temperature` 0 is greedy. The answer ends before the `stop` text, or any of them. Raises
        `EmptyPromptError`, `ContextLengthError` or `UsageError` before anything is computed or closed, and
        `TemplateError`.
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
        stops = StopStrings(checked_stops(stop))
        answer = Answer(self, prompt_ids, sampling, stops, may_reuse=self._may_reuse(prompt_ids))
        self._close_former(answer)
        return answer

    def _may_reuse(self, prompt_ids: list[int]) -> bool:
        """Whether the engine may have computed the beginning of this prompt for an earlier one, and skip it now.

        A prompt that is shorter than a block of its cache becomes one with its answer, so that its own length counts.
        """
        block_tokens = self.capabilities.reused_prefix_tokens
        if block_tokens is None:
            return False
        beginnings = [tuple(prompt_ids[:length]) for length in range(1, min(block_tokens, len(prompt_ids)) + 1)]
        may_reuse = any(beginning in self._beginnings for beginning in beginnings)
        self._beginnings[beginnings[-1]] = None
        if len(self._beginnings) > _MOST_BEGINNINGS:
            del self._beginnings[next(iter(self._beginnings))]
        return may_reuse

    def _close_former(self, answer: Answer) -> None:
        with self._exchange:
            former = self._former() if self._former is not None else None
            self._former = weakref.ref(answer)
        if former is not None:
            former.close_and_wait()

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
        stop: str | Sequence[str] = (),
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
        """The token ids that the model is given. Raises as `stream` does."""
        return prompt_ids(self.chat, prompt, raw=raw)

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
        """Bytes that decoding one token reads after `tokens` tokens: the weights, and the window of the KV cache."""
        weights, kv_elements = self.ready.weight_bytes_per_token, self.ready.kv_elements_per_token
        if weights is None or kv_elements is None:
            return NotAvailable("the directory has no aipc manifest")
        element_bytes = self._kv_cache_bytes_per_element()
        if isinstance(element_bytes, NotAvailable):
            return element_bytes
        window = self.ready.sliding_window
        return weights + kv_elements * element_bytes * (tokens if window is None else min(tokens, window))

    def _kv_cache_bytes_per_element(self) -> int | NotAvailable:
        if self.capabilities.kv_element_bytes is not None:
            return self.capabilities.kv_element_bytes
        precision = self.properties.get("KV_CACHE_PRECISION")
        if precision is not None:
            unknown = NotAvailable(f"the size of a KV cache of {precision} is not known")
            return KV_CACHE_BYTES_PER_ELEMENT.get(precision.upper(), unknown)
        if self.session.device != "CPU" or "EXECUTION_MODE_HINT" in self.properties:
            return NotAvailable("OpenVINO does not say in which precision it keeps the KV cache")
        return KV_CACHE_BYTES_PER_ELEMENT["U8"]  # OpenVINO's default on a CPU

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
