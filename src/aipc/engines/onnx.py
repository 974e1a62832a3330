"""The ONNX Runtime engine: any CPU, DirectX 12 GPUs by DirectML, NVIDIA GPUs by CUDA, through onnxruntime-genai."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from aipc.engines import Capabilities, LoadOptions, Sampling, Step
from aipc.engines.onnx_device import OnnxDevice, found_device, onnx_kind_of
from aipc.engines.onnx_directory import OnnxDirectory, read_directory
from aipc.engines.onnx_generation import Generation, chunks
from aipc.engines.request import checked_request
from aipc.engines.runs import Run, steps_of_runs
from aipc.engines.turns import Turns
from aipc.errors import DeviceError, EngineError, UsageError
from aipc.graph.onnx.genai_names import PLAIN, REWINDS
from aipc.onnx_import import first_useful_line, import_genai
from aipc.store.manifest import source_of
from aipc.store.model_files import GENAI_CONFIG

name = "onnx"

MODEL_FILE = GENAI_CONFIG
WARM_UP_IDS = (0, 0)  # more than one token: a prompt's kernels are others than a single token's
_FATAL = 4  # ONNX Runtime's level of logging

# GenAI opens one DirectML adapter for the life of the process: a second one would be the first again, in silence.
_opened_adapters: dict[str, OnnxDevice] = {}


def import_packages() -> None:
    """Import onnxruntime-genai. Raises `MissingPackageError`."""
    import_genai()


def load(model_dir: Path, device: str, options: LoadOptions) -> OnnxSession:
    """Load the ONNX Runtime GenAI directory `model_dir` on `device`: "cpu", "directml", "directml.1", "cuda"…

    The directory must have been made for that kind of device. Properties there are none. Raises `DeviceError` when the
    device is not there or the directory is for another, `UsageError` for a property, `EngineError` when there is no
    model, it is damaged or not to be trusted, or ONNX Runtime refuses it, and `MissingPackageError`.
    """
    kind = onnx_kind_of(device)
    if options.properties:
        raise UsageError(
            "ONNX Runtime's devices have no properties that can be set",
            expected="none",
            found=", ".join(options.properties),
            try_next="leave --ov-config out: it is for OpenVINO",
        )
    directory = read_directory(model_dir)
    _check_made_for(directory, kind)
    genai = import_genai(kind)
    found = found_device(genai, device)
    _check_only_adapter(found)
    with _engine_errors(f"{model_dir} cannot be loaded on {found.id}", try_next="convert the model again"):
        model = genai.Model(_config(genai, directory, found, options))
        _opened_adapters[found.kind] = found
        runs_on = str(model.device_type)
    if runs_on.lower() != found.provider:
        raise DeviceError(f"ONNX Runtime took another device than {found.id}", found=runs_on)
    return OnnxSession(genai, model, device=found, directory=directory, options=options)


def made_for(model_dir: Path) -> str:
    """The device that a directory was made for. Raises as `read_directory`."""
    return read_directory(model_dir).device


def _check_made_for(directory: OnnxDirectory, kind: str) -> None:
    if directory.device != kind:
        again = f"aipc convert {source_of(directory.path)} OUT --to onnx --device {kind}"
        raise DeviceError(
            f"{directory.path} was made for {directory.device}",
            expected=f"--device {directory.device}",
            found=f"--device {kind}",
            try_next=f"--device {directory.device}, or {again}",
        )


def _check_only_adapter(device: OnnxDevice) -> None:
    opened = _opened_adapters.get(device.kind)
    if device.kind == "directml" and opened is not None and opened != device:
        raise DeviceError(
            f"this process runs on {opened.id} ({opened.name}), and DirectML opens one adapter in a process",
            expected=opened.id,
            found=device.id,
            try_next="another process",
        )


def _config(genai: Any, directory: OnnxDirectory, device: OnnxDevice, options: LoadOptions) -> Any:
    config = genai.Config(str(directory.path))
    config.overlay(json.dumps({"model": _changes(directory, options)}))
    config.clear_providers()
    if device.kind != "cpu":
        config.append_provider(device.provider)
        for key, value in directory.options.items():
            config.set_provider_option(device.provider, key, value)
        if device.index is not None:
            config.set_provider_option(device.provider, device.index_option, str(device.index))
    return config


def _changes(directory: OnnxDirectory, options: LoadOptions) -> dict[str, object]:
    quiet = {"session_options": {"log_severity_level": _FATAL}}  # what is an error is raised, and need not be logged
    # GenAI would do it at 4097 tokens whatever the model; `runs` does it where the model needs it.
    is_rewound_here = directory.model_type == REWINDS and options.rope_switch_tokens is not None
    plain = {"type": PLAIN} if is_rewound_here else {}
    return {"decoder": quiet, **plain}


@contextmanager
def _engine_errors(what: str, *, try_next: str | None = None) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise EngineError(what, found=first_useful_line(error), try_next=try_next) from error


class OnnxSession:
    """A model on one of ONNX Runtime's devices. One request at a time, computed by the thread that reads it."""

    engine = name
    is_rehearsal = False

    def __init__(
        self, genai: Any, model: Any, *, device: OnnxDevice, directory: OnnxDirectory, options: LoadOptions
    ) -> None:
        self.device = device.id
        self.device_name = device.name
        self.capabilities = Capabilities(
            context_tokens=min(options.context_tokens, directory.context_tokens),
            vocabulary_tokens=directory.vocabulary_tokens,
            kv_element_bytes=directory.kv_element_bytes,
        )
        self._genai = genai
        self._model: Any = model
        self._vocabulary_tokens = directory.vocabulary_tokens
        self._prefill_chunk_tokens = device.prefill_chunk_tokens
        self._rope_switch_tokens = options.rope_switch_tokens
        self._generation: Generation | None = None
        self._turns = Turns()

    def stream(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generator[Step, None, None]:
        """Yield a `Step` per token. Closing the generator cancels: no further token is computed.

        `Step.logprob` is the natural logarithm of the model's own probability, before temperature, penalty and
        filters. Each token is computed when it is asked for, and no other Python thread runs meanwhile; a prompt is
        computed in pieces, where the device can.

        Raises what `checked_request` raises, and `EngineError` when the session is closed or already streaming.
        """
        prompt = checked_request(prompt_ids, sampling, self.capabilities)
        self._open_model()
        return self._stream(prompt, sampling)

    def _stream(self, tokens: list[int], sampling: Sampling) -> Generator[Step, None, None]:
        with self._turns.streaming():
            try:
                with _engine_errors(f"{self.device} failed while generating"):
                    steps = steps_of_runs(tokens, sampling, self._run, rope_switch_tokens=self._rope_switch_tokens)
                    with closing(steps):
                        yield from steps
            finally:
                self._generation = None  # frees its KV cache

    def _run(self, tokens: list[int], sampling: Sampling, run: Run) -> Generator[Step, None, None]:
        self._generation = None  # the one before it, before there is memory for another
        with self._turns.computing:
            self._generation = self._new_generation(len(tokens) + run.max_tokens, sampling, run.seed)
        for chunk in chunks(tokens, self._chunk_tokens(len(tokens))):
            with self._turns.computing:
                self._open_generation().append(chunk)
        for _ in range(run.max_tokens):
            with self._turns.computing:
                token_id, logprob = self._open_generation().next()
            yield Step(token_id, time.perf_counter(), logprob=logprob)
            if token_id in sampling.stop_token_ids:
                return

    def _new_generation(self, max_length: int, sampling: Sampling, seed: int) -> Generation:
        return Generation(
            self._genai,
            self._open_model(),
            sampling,
            max_length=max_length,
            vocabulary_tokens=self._vocabulary_tokens,
            seed=seed,
        )

    def _chunk_tokens(self, prompt_tokens: int) -> int | None:
        """None is in one go: a longrope model chooses its factors by the total length, which a first chunk hides."""
        is_long = self._rope_switch_tokens is not None and prompt_tokens > self._rope_switch_tokens
        return None if is_long else self._prefill_chunk_tokens

    def warm_up(self) -> None:
        """Generate two tokens and forget them. Does nothing while a stream is open or the device is busy anyway."""
        with self._turns.warming_up() as is_free, _engine_errors(f"{self.device} failed while warming up"):
            if not is_free:
                return
            generation = self._new_generation(len(WARM_UP_IDS) + 2, Sampling(), 0)
            generation.append(WARM_UP_IDS)
            for _ in range(2):
                generation.next()

    def _open_model(self) -> Any:
        if self._model is None:
            raise EngineError("the session is closed")
        return self._model

    def _open_generation(self) -> Generation:
        self._open_model()
        if self._generation is None:
            raise EngineError("the session is closed")
        return self._generation

    def close(self) -> None:
        """Free the model. An open stream raises `EngineError` at its next token."""
        self._model = None
        with self._turns.computing:  # waits for the token or the warm-up that is being computed
            self._generation = None

    def __enter__(self) -> OnnxSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
