"""A model compiled for the NPU: taken from the store where it was compiled before, else compiled now and kept.

The blob belongs to one version of the plugin, driver and chip. It reads weights from the model's own file
(WEIGHTS_PATH); a rehearsal's has those that are INT8 or INT4 inside all the same. How it is compiled, written and read
is its caller's affair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from aipc.engines.openvino_device import full_name
from aipc.engines.openvino_lengths import PROMPT, RESPONSE, static_lengths
from aipc.engines.openvino_rehearsal import shown_device
from aipc.errors import IntegrityError, StoreError
from aipc.openvino_import import first_useful_line
from aipc.progress import Note, Progress
from aipc.store.blobs import BLOBS_KEPT, BlobKey, BlobWriting, drop_blob, find_blob, why_stale, writing_blob
from aipc.store.identity import model_identity
from aipc.store.model_files import OPENVINO_BIN

Model = TypeVar("Model")
Properties = Mapping[str, str | int]

KEEPS_WEIGHTS_OUT = {"CACHE_MODE": "OPTIMIZE_SIZE"}
_MOST_OF_WEIGHTS = 1.5  # 1.35 of the guide's INT4 weights, and 0.07 of its FP16 ones, which stay outside
# Somebody who sets one of these keeps compiled models in a way of their own.
_OWN_WAYS = frozenset({"BLOB_PATH", "EXPORT_BLOB", "CACHE_DIR", "CACHE_MODE"})
# Of the compiler alone: a blob brings its own.
_COMPILERS = frozenset({PROMPT, RESPONSE, "PREFILL_HINT", "GENERATE_HINT"})


@dataclass(frozen=True)
class KeptModel(Generic[Model]):
    """One model, and how it is compiled and loaded.

    `compile_model` writes the blob too where it is given a path; a `StoreError` means that it could not, and then it is
    called again without one. `load_model` reads such a blob, and may raise `IntegrityError`. Both raise `RuntimeError`
    when OpenVINO refuses. `words` say for which device and lengths.
    """

    words: str
    compile_model: Callable[[Path | None], Model]
    load_model: Callable[[Path], Model]
    progress: Progress
    note: Note

    def taken(self, make_key: Callable[[], BlobKey]) -> Model:
        """The model. A store that cannot keep it is told, and no error; so is a key that raises `StoreError`."""
        try:
            key = make_key()
            model = self._loaded(key)
            return self._in_turn(key) if model is None else model
        except StoreError as error:
            self._note_not_kept(error)
            return self.compiled()

    def compiled(self, blob: Path | None = None) -> Model:
        """Now, and written to `blob`; without one it is not kept."""
        self.progress(f"compiling {self.words}", 0, 0)
        return self.compile_model(blob)

    def _in_turn(self, key: BlobKey) -> Model:
        """Under the lock of its key: another process may have compiled it meanwhile."""
        weights_bytes = (key.model_dir / OPENVINO_BIN).stat().st_size
        with writing_blob(key, needed_bytes=int(_MOST_OF_WEIGHTS * weights_bytes), note=self.note) as writing:
            model = self._loaded(key)
            return self._compiled_and_kept(key, writing) if model is None else model

    def _loaded(self, key: BlobKey) -> Model | None:
        """From the store; None where it holds nothing for this key, or nothing that is whole and can be loaded."""
        try:
            blob = find_blob(key)
            if blob is None:
                return None
            model = self.load_model(blob)
        except (IntegrityError, RuntimeError) as error:
            reason = str(error) if isinstance(error, IntegrityError) else first_useful_line(error)
        else:
            self.note(f"compiled before {self.words}")
            return model
        # Once the error is gone, which may hold what was read of the blob: Windows would not let that file go.
        self.note(f"compiled again: what was kept cannot be used ({reason})")
        drop_blob(key)
        return None

    def _compiled_and_kept(self, key: BlobKey, writing: BlobWriting) -> Model:
        stale = why_stale(key)
        if stale is not None:
            self.note(f"compiled again: {stale}")
        model = self.compiled(writing.begin())
        try:
            for shape in writing.commit():
                self.note(f"no longer kept, as {BLOBS_KEPT} of a model are: {shape}")
        except (StoreError, OSError) as error:
            self._note_not_kept(error)
        return model

    def _note_not_kept(self, error: Exception) -> None:
        self.note(f"the compiled model is not kept, and will be compiled anew next time: {error}")


def keeps_himself(properties: Properties) -> bool:
    """Whether these say where or how a compiled model is kept."""
    return not _OWN_WAYS.isdisjoint(properties)


def of_loading(properties: Properties) -> dict[str, str | int]:
    """Those that a blob is loaded with."""
    return {name: value for name, value in properties.items() if name not in _COMPILERS}


def compiled_for(given: Mapping[str, str]) -> str:
    """For a person: "for the NPU (prompt 1024 + answer 128 tokens)". `given` are the properties as texts."""
    return f"for the {shown_device('NPU', given)} ({static_lengths(given)})"


def blob_key(
    core: Any, model_dir: Path, given: Mapping[str, str], *, plugin: str, properties: Mapping[str, str | int]
) -> BlobKey:
    """`given` are the properties as texts; `properties`, those that the compiler gets, its lengths aside.

    Raises `StoreError` when the model's files cannot be read.
    """
    return BlobKey(
        model_dir,
        str(static_lengths(given)),
        {
            "model": model_identity(model_dir),
            "plugin": plugin,
            "driver": _said(core, "NPU_DRIVER_VERSION"),
            "compiler": _said(core, "NPU_COMPILER_VERSION"),
            "platform": _platform(core, given),
            "properties": json.dumps(dict(properties), sort_keys=True),
        },
    )


def _platform(core: Any, given: Mapping[str, str]) -> str:
    device, name = shown_device("NPU", given), full_name(core, "NPU", given)
    return f"{device}, {name}, {given.get('NPU_PLATFORM') or _said(core, 'DEVICE_ARCHITECTURE')}"


def _said(core: Any, name: str) -> str:
    """A property of the NPU; one that this plugin or PC does not have is a part of the key as well."""
    try:
        return str(core.get_property("NPU", name))
    except RuntimeError:
        return "n/a"
