"""Which answers say how fast a device runs a model, and what of them is kept."""

from __future__ import annotations

import sys
from contextlib import suppress

from aipc.answer import Answer
from aipc.devices.openvino import driver_of
from aipc.engines import Session
from aipc.engines.openvino_device import RUNTIME_PROPERTIES
from aipc.engines.openvino_lengths import PROMPT, RESPONSE
from aipc.errors import StoreError
from aipc.model import Model
from aipc.monitor.bandwidth import this_pc
from aipc.monitor.measurements import FILE, Measurement, record
from aipc.monitor.statistics import Spread, token_times_ms
from aipc.progress import Note, unsaid
from aipc.store import store_root
from aipc.store.identity import model_identity

FEWEST_TOKENS = 16  # generated: the median of fewer times is no speed
LONGEST_CONTEXT_TOKENS = 1024  # prompt and answer: a longer KV cache makes each token slower by what it reads
# Those that say where files lie, and the lengths without which an NPU does not take a person's prompts.
_USUAL_PROPERTIES = RUNTIME_PROPERTIES | {PROMPT, RESPONSE, "EXPORT_BLOB", "BLOB_PATH"}
_PACKAGES = {"openvino": "openvino_genai", "onnx": "onnxruntime_genai"}


def remember(model: Model, answer: Answer, *, note: Note = unsaid) -> None:
    """Keep how fast `answer` came, if it says something.

    It does with at least `FEWEST_TOKENS` generated in a context of at most `LONGEST_CONTEXT_TOKENS`, whichever way it
    ended, unless the engine failed; not with properties that tune the device, and never from a
    rehearsal, which is another device's speed. A store that cannot be written keeps nothing, and neither does one whose
    measurements a newer aipc wrote, which is noted.
    """
    with suppress(StoreError, OSError):  # no place for a store, or a directory that is gone: the answer came anyway
        measured = measurement_of(model, answer)
        if measured is not None:
            record(store_root() / FILE, measured, note=note)


def measurement_of(model: Model, answer: Answer) -> Measurement | None:
    """As `remember` keeps it; None for an answer that says nothing."""
    tokens = len(answer.prompt_ids) + len(answer.steps)
    if answer.finish_reason == "error" or len(answer.steps) < FEWEST_TOKENS or tokens > LONGEST_CONTEXT_TOKENS:
        return None
    session = model.session
    times = token_times_ms(answer.steps)
    is_usual = _USUAL_PROPERTIES.issuperset(model.properties) and not session.is_rehearsal
    if not is_usual or not isinstance(times, Spread) or times.median <= 0:
        return None
    return Measurement(
        model=model_identity(model.ready.path),
        model_name=model.name,
        recipe=model.ready.recipe_label,
        pc=this_pc(),
        engine=session.engine,
        engine_version=_engine_version(session.engine),
        device=session.device,
        device_name=session.device_name,
        driver=_driver(session),
        prompt_tokens=len(answer.prompt_ids),
        generated_tokens=len(answer.steps),
        decode_tokens_per_s=1e3 / times.median,
    )


def _engine_version(engine: str) -> str | None:
    """Of the package that is loaded: reading what is installed takes 15 ms."""
    package = sys.modules.get(_PACKAGES.get(engine, ""))
    version = getattr(package, "__version__", None)
    return version if isinstance(version, str) else None


def _driver(session: Session) -> str | None:
    version = driver_of(session.device) if session.engine == "openvino" else None
    return version if isinstance(version, str) else None
