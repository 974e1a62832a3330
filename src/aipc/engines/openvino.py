"""The OpenVINO engine: Intel, AMD and ARM CPUs, Intel GPUs and NPUs, through openvino-genai."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from aipc.engines import Capabilities, LoadOptions, Sampling, Step
from aipc.engines.openvino_compiled import CompiledModel
from aipc.engines.openvino_device import checked_properties, found_device, full_name
from aipc.engines.openvino_lengths import PROMPT, RESPONSE, static_lengths
from aipc.engines.openvino_pipeline import REUSED_PREFIX_TOKENS, PagedPipeline, Pipeline, reuses_prefixes
from aipc.engines.openvino_rehearsal import REHEARSAL, shown_device, stand_in
from aipc.engines.openvino_request import generation_config
from aipc.engines.openvino_tokens import POLL_S, TokenThread
from aipc.engines.request import checked_request
from aipc.engines.runs import Run, steps_of_runs
from aipc.engines.turns import Turns
from aipc.errors import EngineError
from aipc.openvino_import import engine_errors, import_genai, import_openvino
from aipc.store.manifest import source_of
from aipc.store.model_files import OPENVINO_XML

name = "openvino"

MODEL_FILE = OPENVINO_XML
WARM_UP_IDS = (0, 0)  # more than one token: a prompt's kernels are others than a single token's


def import_packages() -> None:
    """Import openvino and openvino-genai. Raises `MissingPackageError`."""
    import_genai()


def load(model_dir: Path, device: str, options: LoadOptions) -> OpenVINOSession:
    """Load the OpenVINO IR directory `model_dir` on `device`, such as "cpu", "GPU.1" or "NPU".

    On an NPU the context is the sum of the properties MAX_PROMPT_LEN (default 1024) and MIN_RESPONSE_LEN (default
    128), in tokens, as `static_lengths` rounds them; a longrope model's may be shorter (`StaticLengths.usable_tokens`).
    With the properties of `openvino_rehearsal` the NPU's pipeline is rehearsed on a PC without one.

    Raises `DeviceError` when the device is not there, `UsageError` for a property that it does not have, `EngineError`
    when there is no model or OpenVINO refuses it, `MissingPackageError` without openvino or openvino-genai.
    """
    openvino, genai = import_openvino(), import_genai()
    core = openvino.Core()
    device_id = found_device(core, device, options.properties)
    properties = checked_properties(core, device_id, options.properties)
    _check_model(model_dir)
    pipeline: Pipeline
    shown = shown_device(device_id, options.properties)
    with engine_errors(f"{model_dir} cannot be loaded ({shown})", try_next=_advice(options)):
        if device_id == "NPU":
            pipeline = CompiledModel(genai, core, model_dir, properties=properties, options=options).pipeline()
        else:
            pipeline = PagedPipeline(genai, model_dir, device_id, options=options, properties=properties)
    return OpenVINOSession(
        pipeline,
        device=shown,
        is_rehearsal=stand_in(device_id, options.properties) is not None,
        device_name=full_name(core, device_id, options.properties),
        capabilities=_capabilities(device_id, options, vocabulary_tokens=_vocabulary_tokens(model_dir)),
        rope_switch_tokens=options.rope_switch_tokens,
    )


def _advice(options: LoadOptions) -> str:
    advice = "aipc devices shows what runs here; for a damaged file convert the model again"
    own = sorted(dict(options.properties.items() - REHEARSAL.items()).keys() - {PROMPT, RESPONSE})
    return f"the same without {', '.join(own)}; {advice}" if own else advice


def _check_model(model_dir: Path) -> None:
    if not (model_dir / MODEL_FILE).is_file():
        raise EngineError(
            f"{model_dir} holds no OpenVINO model",
            expected=MODEL_FILE,
            try_next=f"aipc convert {source_of(model_dir)} OUT",
        )


def _vocabulary_tokens(model_dir: Path) -> int | None:
    """From config.json, which travels beside a model; OpenVINO itself answers an unknown id with zeros."""
    try:
        config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    size = config.get("vocab_size") if isinstance(config, dict) else None
    return size if isinstance(size, int) else None


def _capabilities(device: str, options: LoadOptions, *, vocabulary_tokens: int | None) -> Capabilities:
    if device != "NPU":
        return Capabilities(
            context_tokens=options.context_tokens,
            vocabulary_tokens=vocabulary_tokens,
            reused_prefix_tokens=REUSED_PREFIX_TOKENS if reuses_prefixes(options) else None,
        )
    lengths = static_lengths(options.properties)
    return Capabilities(
        context_tokens=lengths.usable_tokens(options.context_tokens, options.rope_switch_tokens),
        logprobs=False,
        longest_prompt_tokens=lengths.prompt_tokens,
        vocabulary_tokens=vocabulary_tokens,
    )


class OpenVINOSession:
    """A model on one of OpenVINO's devices. One request at a time; what it computes, it computes on other threads."""

    engine = name

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        device: str,
        is_rehearsal: bool,
        device_name: str,
        capabilities: Capabilities,
        rope_switch_tokens: int | None,
    ) -> None:
        self.device = device
        self.is_rehearsal = is_rehearsal
        self.device_name = device_name
        self.capabilities = capabilities
        self._rope_switch_tokens = rope_switch_tokens
        self._pipeline: Pipeline | None = pipeline
        self._turns = Turns()
        self._running: TokenThread | None = None

    def stream(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generator[Step, None, None]:
        """Yield a `Step` per token. Closing the generator cancels within one token.

        `Step.logprob` is the natural logarithm of the model's own probability, before temperature, penalty and
        filters. With `sampling.logprobs` each token is computed when it is asked for, and no other Python thread runs
        meanwhile; without, the device runs ahead of a slow reader.

        Raises what `checked_request` raises, and `EngineError` when the session is closed or already streaming.
        """
        prompt = checked_request(prompt_ids, sampling, self.capabilities)
        self._open_pipeline()
        return self._stream(prompt, sampling)

    def _stream(self, tokens: list[int], sampling: Sampling) -> Generator[Step, None, None]:
        with self._turns.streaming(), engine_errors(f"{self.device} failed while generating"):
            steps = steps_of_runs(tokens, sampling, self._run, rope_switch_tokens=self._rope_switch_tokens)
            with closing(steps):
                yield from steps

    def _run(self, tokens: list[int], sampling: Sampling, run: Run) -> Generator[Step, None, None]:
        pipeline, genai = self._open_pipeline(), import_genai()
        input_ids = _tensor(tokens)
        config = generation_config(genai, sampling, max_tokens=run.max_tokens, seed=run.seed)
        if sampling.logprobs:
            with closing(pipeline.steps(input_ids, config, self._turns.computing)) as steps:
                for step in steps:
                    yield step
                    self._open_pipeline()  # closed meanwhile: nothing more is computed
        else:
            yield from self._run_on_thread(
                TokenThread(
                    genai,
                    lambda streamer: pipeline.generate(input_ids, config, streamer),
                    release=self._turns.computing.release,
                )
            )
        self._open_pipeline()  # an answer cut short by close() is an error, not an end

    def _run_on_thread(self, thread: TokenThread) -> Generator[Step, None, None]:
        self._start(thread)
        self._running = thread
        try:
            yield from thread
        finally:
            thread.close()
            self._running = None

    def _start(self, thread: TokenThread) -> None:
        self._take_turn()
        try:
            self._open_pipeline()  # it may have been closed meanwhile
            thread.start()
        except (EngineError, RuntimeError):
            self._turns.computing.release()
            raise

    def _take_turn(self) -> None:
        while not self._turns.computing.acquire(timeout=POLL_S):
            pass

    def warm_up(self) -> None:
        """Generate two tokens and forget them.

        An INT4 model's first inference on a CPU takes seconds, as oneDNN reorders the weights. Call this on a thread
        while the user types: a stream that starts meanwhile waits for its end. Does nothing while a stream is open or
        the device is busy anyway.
        """
        with self._turns.warming_up() as is_free, engine_errors(f"{self.device} failed while warming up"):
            if not is_free:
                return
            pipeline, genai = self._open_pipeline(), import_genai()
            config = generation_config(genai, Sampling(), max_tokens=2, seed=0)
            pipeline.generate(_tensor(WARM_UP_IDS), config, None)

    def _open_pipeline(self) -> Pipeline:
        if self._pipeline is None:
            raise EngineError("the session is closed")
        return self._pipeline

    def close(self) -> None:
        """Stop what is running and free the model. An open stream raises `EngineError` at its next token."""
        running, self._pipeline = self._running, None
        if running is not None:
            running.cancel()
        self._take_turn()  # waits for the token or the warm-up that is being computed
        self._turns.computing.release()

    def __enter__(self) -> OpenVINOSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tensor(token_ids: Sequence[int]) -> Any:
    import numpy

    return import_openvino().Tensor(numpy.array([token_ids], dtype=numpy.int64))  # (1, tokens)
