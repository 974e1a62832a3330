"""openvino-genai's pipelines, behind the two calls that a session makes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from aipc.engines import LoadOptions, Step
from aipc.engines.openvino_tokens import POLL_S, stepped
from aipc.errors import UsageError

# Of 3,900 tokens at Phi-3-mini's width, one go peaks at 1.6 GB and such chunks at 1.2 GB, in the same time.
PREFILL_CHUNK_TOKENS = 1024
REUSED_PREFIX_TOKENS = 16  # the smallest block of the KV cache that openvino-genai has on a device: a GPU's
NO_TOKENIZER = "aipc-encodes-and-decodes-itself"  # a path without files: saves loading the tokenizer's models


class Pipeline(Protocol):
    """A loaded model. `input_ids` is an i64 tensor (1, tokens), `config` a `GenerationConfig`."""

    def generate(self, input_ids: Any, config: Any, streamer: Any) -> None:
        """Run to the end, or until the streamer cancels. Other threads can run meanwhile."""

    def steps(self, input_ids: Any, config: Any, turn: Lock) -> Generator[Step, None, None]:
        """Steps with their log-probabilities. `turn` is held while the device computes."""
        ...


def interruptible(compile_model: Callable[[], Any]) -> Any:
    """What `compile_model` returns. Ctrl-C is noticed meanwhile, as Python notices none inside of a call of OpenVINO's.

    A compiler cannot be stopped: after an interruption it works on for nobody, until it is done or the process ends.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="aipc-compile")
    compiled = pool.submit(compile_model)
    try:
        while not wait([compiled], timeout=POLL_S).done:
            pass
        return compiled.result()
    finally:
        pool.shutdown(wait=False)
        del compiled  # an error that it holds, and its traceback this frame, would live on, and what they refer to


class PagedPipeline:
    """CPU and GPU: continuous batching over paged attention, one request at a time.

    A long prompt is prefilled in chunks, which bounds its memory; only a longrope model's in one go, as it chooses its
    factors by the total length, which a first chunk would not know. The KV cache starts empty, grows with the longest
    request, and is kept for the following ones.
    """

    def __init__(
        self, genai: Any, model_dir: Path, device: str, *, options: LoadOptions, properties: Mapping[str, str | int]
    ) -> None:
        tokenizer = genai.Tokenizer(NO_TOKENIZER)
        scheduler = _scheduler(genai, options)
        self._pipeline = interruptible(
            lambda: genai.ContinuousBatchingPipeline(str(model_dir), tokenizer, scheduler, device, **dict(properties))
        )

    def generate(self, input_ids: Any, config: Any, streamer: Any) -> None:
        self._pipeline.generate([input_ids], [config], streamer)

    def steps(self, input_ids: Any, config: Any, turn: Lock) -> Generator[Step, None, None]:
        return stepped(self._pipeline, lambda: self._pipeline.add_request(0, input_ids, config), turn=turn)


def _scheduler(genai: Any, options: LoadOptions) -> Any:
    scheduler = genai.SchedulerConfig()
    has_longrope = options.rope_switch_tokens is not None
    scheduler.max_num_batched_tokens = options.context_tokens if has_longrope else PREFILL_CHUNK_TOKENS
    scheduler.dynamic_split_fuse = not has_longrope
    scheduler.max_num_seqs = 1
    scheduler.cache_size = 0  # with no size given, the cache grows when it must
    scheduler.enable_prefix_caching = reuses_prefixes(options)
    return scheduler


def reuses_prefixes(options: LoadOptions) -> bool:
    """Whether the KV cache of a request is kept for those that begin as it does."""
    return options.rope_switch_tokens is None


class StaticPipeline:
    """NPU: static shapes, so the prompt's and the answer's lengths are fixed when the model is compiled."""

    def __init__(self, genai: Any, model_dir: Path, *, properties: Mapping[str, str | int]) -> None:
        tokenizer = genai.Tokenizer(NO_TOKENIZER)
        self._pipeline = interruptible(lambda: genai.LLMPipeline(str(model_dir), tokenizer, "NPU", **dict(properties)))

    def generate(self, input_ids: Any, config: Any, streamer: Any) -> None:
        self._pipeline.generate(input_ids, config, streamer)

    def steps(self, input_ids: Any, config: Any, turn: Lock) -> Generator[Step, None, None]:
        raise UsageError("the NPU gives no log-probabilities", try_next="--device cpu")
