"""A model in the NPU's static pipeline, compiled, written and read by OpenVINO itself: openvino-genai has no part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aipc.engines.openvino_device import stand_ins_own
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
from aipc.engines.openvino_pipeline import interruptible
from aipc.errors import IntegrityError, StoreError
from aipc.openvino_import import first_useful_line, import_openvino
from aipc.progress import Note, Progress
from aipc.store.blobs import BlobKey
from aipc.store.model_files import OPENVINO_BIN, OPENVINO_XML

# The static pipeline of a language model, and which axes of its KV cache are the batch and the tokens. OpenVINO's
# spelling of what openvino-genai sets:
# https://github.com/openvinotoolkit/openvino.genai/blob/master/src/cpp/src/utils.cpp (update_npu_config)
_STATIC = {"NPU_USE_NPUW": "YES", "NPUW_LLM": "YES", "NPUW_LLM_BATCH_DIM": "0", "NPUW_LLM_SEQ_LEN_DIM": "2"}
_STATIC_NAMES = {
    PROMPT: "NPUW_LLM_MAX_PROMPT_LEN",
    RESPONSE: "NPUW_LLM_MIN_RESPONSE_LEN",
    "PREFILL_HINT": "NPUW_LLM_PREFILL_HINT",
    "GENERATE_HINT": "NPUW_LLM_GENERATE_HINT",
}
_LENGTHS = {_STATIC_NAMES[PROMPT], _STATIC_NAMES[RESPONSE]}


class StaticModel:
    """The model in `model_dir` on `core`'s NPU, with `properties` as `checked_properties` returns them.

    A compiled model that came out of a blob runs as long as this is held.
    """

    def __init__(self, core: Any, model_dir: Path, properties: Properties) -> None:
        self._core = core
        self._model_dir = model_dir
        self._properties = properties
        self._texts = {name: str(value) for name, value in properties.items()}
        self._compiled: Any = None
        self._blob: Any = None

    def compiled(self, *, keeps: bool, progress: Progress, note: Note) -> Any:
        """OpenVINO's `CompiledModel`. Raises `RuntimeError` when OpenVINO refuses the model."""
        model = KeptModel(compiled_for(self._texts), self._compile, self._load, progress=progress, note=note)
        if not keeps or keeps_himself(self._properties):
            return model.compiled()
        return model.taken(self._key)

    def _compile(self, blob: Path | None) -> Any:
        if self._compiled is None:  # else it is there, and only could not be written
            model = self._core.read_model(self._model_dir / OPENVINO_XML)
            properties = {**self._compilers(), **({} if blob is None else KEEPS_WEIGHTS_OUT)}
            self._compiled = interruptible(lambda: self._core.compile_model(model, "NPU", properties))
        if blob is not None:
            try:
                blob.write_bytes(self._compiled.export_model().getbuffer())
            except (OSError, RuntimeError) as error:
                raise StoreError(f"{blob} could not be written: {first_useful_line(error)}") from error
        return self._compiled

    def _load(self, blob: Path) -> Any:
        self._tell_stand_ins()
        try:
            # Writable, as a tensor wants to be; the file stays as it is. Nothing but the tensor holds the map.
            self._blob = import_openvino().Tensor(np.memmap(blob, np.uint8, "c"), shared_memory=True)
        except (OSError, ValueError) as error:  # gone meanwhile, or empty
            raise IntegrityError(f"{blob} cannot be read", found=str(error)) from error
        properties = {**of_loading(self._properties), "WEIGHTS_PATH": str(self._model_dir / OPENVINO_BIN)}
        try:
            return interruptible(lambda: self._core.import_model(self._blob, "NPU", properties))
        except RuntimeError:
            self._blob = None  # Windows would not let a file go that is mapped
            raise

    def _tell_stand_ins(self) -> None:
        """A blob brings a stand-in's part of the model without its properties, such as the precision."""
        for device, own in stand_ins_own(self._core, self._texts).items():
            self._core.set_property(device, own)

    def _compilers(self) -> dict[str, str | int]:
        """Properties as the compiler spells them."""
        return {**_STATIC, **{_STATIC_NAMES.get(name, name): value for name, value in self._properties.items()}}

    def _key(self) -> BlobKey:
        """Another one than of openvino-genai's blobs, by its properties: neither takes the other's place."""
        properties = {name: value for name, value in self._compilers().items() if name not in _LENGTHS}
        plugin = import_openvino().get_version()
        return blob_key(self._core, self._model_dir, self._texts, plugin=plugin, properties=properties)
