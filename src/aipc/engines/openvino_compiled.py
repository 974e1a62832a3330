"""A model for the NPU as openvino-genai compiles it, writes it (EXPORT_BLOB) and reads it (BLOB_PATH)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aipc.engines import LoadOptions
from aipc.engines.openvino_device import lost_in_blob
from aipc.engines.openvino_kept import (
    KEEPS_WEIGHTS_OUT,
    KeptModel,
    Properties,
    blob_key,
    compiled_for,
    keeps_himself,
    of_loading,
)
from aipc.engines.openvino_lengths import PROMPT, RESPONSE
from aipc.engines.openvino_pipeline import StaticPipeline
from aipc.errors import StoreError
from aipc.openvino_import import first_useful_line, import_openvino
from aipc.store.blobs import BlobKey
from aipc.store.model_files import OPENVINO_BIN

_CANNOT_WRITE = "can't be exported"  # openvino-genai's words once the compiler is done


class CompiledModel:
    """How one model gets onto the NPU, with `properties` as `checked_properties` returns them."""

    def __init__(self, genai: Any, core: Any, model_dir: Path, *, properties: Properties, options: LoadOptions) -> None:
        self._genai = genai
        self._core = core
        self._model_dir = model_dir
        self._properties = properties
        self._options = options

    def pipeline(self) -> StaticPipeline:
        """Raises `RuntimeError` when OpenVINO refuses the model. A store that cannot keep it is told, and no error.

        Nor is it kept where a rehearsal's blob would compute otherwise: openvino-genai loads it with a core of its
        own, which cannot be told anything for the CPU.
        """
        model = KeptModel(
            compiled_for(self._options.properties),
            self._compiled,
            self._loaded,
            progress=self._options.progress,
            note=self._options.note,
        )
        if not self._options.keeps_compiled or keeps_himself(self._properties):
            return model.compiled()
        lost = lost_in_blob(self._core, import_openvino().Core(), self._options.properties)
        if lost is not None:
            self._options.note(f"what this rehearsal compiles is not kept: {lost}")
            return model.compiled()
        return model.taken(self._key)

    def _compiled(self, blob: Path | None) -> StaticPipeline:
        if blob is None:
            return self._pipeline(self._properties)
        _check_spelling(blob)
        try:
            return self._pipeline(self._properties, EXPORT_BLOB="YES", BLOB_PATH=str(blob), **KEEPS_WEIGHTS_OUT)
        except RuntimeError as error:
            if not (blob.exists() or _CANNOT_WRITE in str(error)):
                raise  # the compiler refused the model
            raise StoreError(f"{blob} could not be written: {first_useful_line(error)}") from error

    def _loaded(self, blob: Path) -> StaticPipeline:
        weights = self._model_dir / OPENVINO_BIN
        return self._pipeline(of_loading(self._properties), BLOB_PATH=str(blob), WEIGHTS_PATH=str(weights))

    def _pipeline(self, properties: Properties, **extra: str) -> StaticPipeline:
        return StaticPipeline(self._genai, self._model_dir, properties={**properties, **extra})

    def _key(self) -> BlobKey:
        return blob_key(
            self._core,
            self._model_dir,
            self._options.properties,
            plugin=f"{import_openvino().get_version()} with openvino-genai {self._genai.__version__}",
            properties={name: value for name, value in self._properties.items() if name not in (PROMPT, RESPONSE)},
        )


def _check_spelling(blob: Path) -> None:
    """openvino-genai opens the blob by a narrow string, in which Windows reads other letters. Raises `StoreError`."""
    if os.name == "nt" and not str(blob).isascii():
        raise StoreError(
            "openvino-genai cannot write there on Windows",
            expected="a store whose path has ASCII letters alone",
            found=blob,
            try_next="set AIPC_HOME to such a directory",
        )
