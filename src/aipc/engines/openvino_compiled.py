"""A model compiled for the NPU: taken from the store where it was compiled before, else compiled now and kept.

openvino-genai writes and reads the blob (EXPORT_BLOB, BLOB_PATH). It holds no weights, which stay in the model's own
file (WEIGHTS_PATH), and it belongs to one version of the plugin, driver and chip.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aipc.engines import LoadOptions
from aipc.engines.openvino_device import full_name
from aipc.engines.openvino_lengths import PROMPT, RESPONSE, static_lengths
from aipc.engines.openvino_pipeline import StaticPipeline
from aipc.engines.openvino_rehearsal import shown_device
from aipc.errors import IntegrityError, StoreError
from aipc.openvino_import import first_useful_line, import_openvino
from aipc.store.blobs import BlobKey, BlobWriting, drop_blob, find_blob, model_identity, why_stale, writing_blob

WEIGHTS_FILE = "openvino_model.bin"
# Somebody who sets one of these keeps compiled models in a way of their own.
_OWN_WAYS = frozenset({"BLOB_PATH", "EXPORT_BLOB", "CACHE_DIR", "CACHE_MODE"})
# Of the compiler alone: a blob brings its own.
_COMPILERS = frozenset({PROMPT, RESPONSE, "PREFILL_HINT", "GENERATE_HINT"})
_CANNOT_WRITE = "can't be exported"  # openvino-genai's words once the compiler is done
_KEEPS_WEIGHTS_OUT = {"CACHE_MODE": "OPTIMIZE_SIZE"}

Properties = Mapping[str, str | int]


class CompiledModel:
    """How one model gets onto the NPU, with `properties` as `checked_properties` returns them."""

    def __init__(self, genai: Any, core: Any, model_dir: Path, *, properties: Properties, options: LoadOptions) -> None:
        self._genai = genai
        self._core = core
        self._model_dir = model_dir
        self._properties = properties
        self._options = options
        device = shown_device("NPU", options.properties)
        self._words = f"for the {device} ({static_lengths(options.properties)})"

    def pipeline(self) -> StaticPipeline:
        """Raises `EngineError` when OpenVINO refuses the model. A store that cannot keep it is told, and no error."""
        if not self._options.keeps_compiled or _OWN_WAYS & set(self._properties):
            return self._compiled()
        try:
            key = self._key()
            return self._loaded(key) or self._in_turn(key)
        except StoreError as error:
            return self._not_kept(error)

    def _in_turn(self, key: BlobKey) -> StaticPipeline:
        """Under the lock of its key: another process may have compiled it meanwhile."""
        needed_bytes = (self._model_dir / WEIGHTS_FILE).stat().st_size  # more than a blob without them
        with writing_blob(key, needed_bytes=needed_bytes, note=self._options.note) as writing:
            return self._loaded(key) or self._compiled_and_kept(key, writing)

    def _loaded(self, key: BlobKey) -> StaticPipeline | None:
        """From the store; None where it holds nothing for this key, or nothing that is whole and can be loaded."""
        try:
            blob = find_blob(key)
            if blob is None:
                return None
            pipeline = self._pipeline(
                {name: value for name, value in self._properties.items() if name not in _COMPILERS},
                BLOB_PATH=str(blob),
                WEIGHTS_PATH=str(self._model_dir / WEIGHTS_FILE),
            )
        except (IntegrityError, RuntimeError) as error:
            reason = error if isinstance(error, IntegrityError) else first_useful_line(error)
            self._options.note(f"compiled again: what was kept cannot be used ({reason})")
            drop_blob(key)
            return None
        self._options.note(f"compiled before {self._words}")
        return pipeline

    def _compiled_and_kept(self, key: BlobKey, writing: BlobWriting) -> StaticPipeline:
        stale = why_stale(key)
        if stale is not None:
            self._options.note(f"compiled again: {stale}")
        blob = writing.begin()
        _check_spelling(blob)
        try:
            pipeline = self._compiled(EXPORT_BLOB="YES", BLOB_PATH=str(blob), **_KEEPS_WEIGHTS_OUT)
        except RuntimeError as error:
            if not (writing.has_begun or _CANNOT_WRITE in str(error)):
                raise  # the compiler refused the model
            writing.discard()
            return self._not_kept(StoreError(f"{blob} could not be written: {first_useful_line(error)}"))
        try:
            writing.commit()
        except (StoreError, OSError) as error:
            self._note_not_kept(error)
        return pipeline

    def _not_kept(self, error: StoreError) -> StaticPipeline:
        self._note_not_kept(error)
        return self._compiled()

    def _note_not_kept(self, error: Exception) -> None:
        self._options.note(f"the compiled model is not kept, and will be compiled anew next time: {error}")

    def _compiled(self, **extra: str) -> StaticPipeline:
        self._options.progress(f"compiling {self._words}", 0, 0)
        return self._pipeline(self._properties, **extra)

    def _pipeline(self, properties: Properties, **extra: str) -> StaticPipeline:
        return StaticPipeline(self._genai, self._model_dir, properties={**properties, **extra})

    def _key(self) -> BlobKey:
        shape = static_lengths(self._options.properties)
        others = {name: value for name, value in self._properties.items() if name not in (PROMPT, RESPONSE)}
        return BlobKey(
            self._model_dir,
            str(shape),
            {
                "model": model_identity(self._model_dir),
                "plugin": f"{import_openvino().get_version()} with openvino-genai {self._genai.__version__}",
                "driver": _said(self._core, "NPU_DRIVER_VERSION"),
                "compiler": _said(self._core, "NPU_COMPILER_VERSION"),
                "platform": self._platform(),
                "properties": json.dumps(others, sort_keys=True),
            },
        )

    def _platform(self) -> str:
        device, given = shown_device("NPU", self._options.properties), self._options.properties
        name = full_name(self._core, "NPU", given)
        return f"{device}, {name}, {given.get('NPU_PLATFORM') or _said(self._core, 'DEVICE_ARCHITECTURE')}"


def _check_spelling(blob: Path) -> None:
    """openvino-genai opens the blob by a narrow string, in which Windows reads other letters. Raises `StoreError`."""
    if os.name == "nt" and not str(blob).isascii():
        raise StoreError(
            "openvino-genai cannot write there on Windows",
            expected="a store whose path has ASCII letters alone",
            found=blob,
            try_next="set AIPC_HOME to such a directory",
        )


def _said(core: Any, name: str) -> str:
    """A property of the NPU; one that this plugin or PC does not have is a part of the key as well."""
    try:
        return str(core.get_property("NPU", name))
    except RuntimeError:
        return "n/a"
