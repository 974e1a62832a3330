"""A stateful OpenVINO model, one step at a time: token ids in, logits out, the KV cache kept inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aipc.devices.device import is_numbered, kind_of
from aipc.engines.openvino_device import checked_properties, found_device, full_name
from aipc.engines.openvino_lengths import StaticLengths, static_lengths
from aipc.engines.openvino_rehearsal import shown_device, stand_in, with_rehearsal
from aipc.errors import DeviceError, EngineError, UsageError
from aipc.floats import Float32
from aipc.npu.static_model import StaticModel
from aipc.openvino_import import engine_errors, import_openvino
from aipc.progress import Note, Progress, silent, unsaid
from aipc.store.model_files import OPENVINO_XML

Ints = NDArray[np.int64]
Indices = NDArray[np.int32]

_FIRST_KEPT = "first_kept_token"  # an input that is added: minus the number of tokens whose logits are wanted
_TO_END = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Place:
    """A device that was found, as OpenVINO spells it, with its checked properties.

    `shown` and `name` are for people: the device, or the rehearsal that stands for it, and what it is called.
    """

    core: Any
    device: str
    shown: str
    name: str
    properties: Mapping[str, str | int]

    @property
    def lengths(self) -> StaticLengths | None:
        """None on devices that take any length."""
        if self.device != "NPU":
            return None
        return static_lengths({name: str(value) for name, value in self.properties.items()})


def find_place(device: str, *, rehearse: bool, properties: Mapping[str, str]) -> Place:
    """Raises `DeviceError` when the device is not there, naming those that could be asked for instead, and `UsageError`
    for a property that it does not have, or a rehearsal of another device than the NPU.
    """
    if not isinstance(device, str) or kind_of(device) not in ("npu", "cpu", "gpu") or not is_numbered(device):
        raise UsageError("device", expected="one of OpenVINO's by its name: npu, cpu, gpu or gpu.1", found=repr(device))
    properties = with_rehearsal(properties, device, rehearse=rehearse)
    core = import_openvino().Core()
    try:
        found = found_device(core, device, properties)
    except DeviceError as error:
        raise DeviceError(error.what, expected=error.expected, found=error.found, try_next=_instead(device)) from error
    checked = checked_properties(core, found, properties)
    shown, name = shown_device(found, properties), full_name(core, found, properties)
    if stand_in(found, properties) is not None:
        name = f"{shown} ({name})"
    return Place(core, found, shown, name, checked)


def _instead(device: str) -> str:
    if device.upper() != "NPU":
        return "aipc devices"
    return (
        "device='cpu' runs the model on the CPU\nor: device='npu', rehearse=True runs the NPU's pipeline on the CPU\n"
        "or: aipc devices npu tells more"
    )


class Network:
    """An OpenVINO language model on a device. One sequence of steps at a time.

    `device` and `device_name` are for people. `lengths` are an NPU's, whose pipeline takes a batch of one and gives
    the logits of the last token alone.
    """

    def __init__(
        self,
        model_dir: Path,
        place: Place,
        *,
        from_memory: bool = False,
        progress: Progress = silent,
        note: Note = unsaid,
    ) -> None:
        """What is compiled for an NPU is kept in the store, and found there, which `note` tells.

        `from_memory` keeps nothing, and reads the weights instead of mapping them: the directory may go then. Raises
        `EngineError` when there is no model, or OpenVINO refuses it.
        """
        self.device, self.device_name, self.lengths = place.shown, place.name, place.lengths
        if not (model_dir / OPENVINO_XML).is_file():
            raise EngineError(f"{model_dir} holds no OpenVINO model", expected=OPENVINO_XML)
        with engine_errors(f"{model_dir} cannot be loaded ({place.name})"):
            if from_memory:
                place.core.set_property({"ENABLE_MMAP": False})
            if place.device == "NPU":
                # Held as long as the request: it has the blob that the device may read from.
                self._static = StaticModel(place.core, model_dir, place.properties)
                self._selects_tokens = False
                compiled = self._static.compiled(keeps=not from_memory, progress=progress, note=note)
            else:
                model = place.core.read_model(model_dir / OPENVINO_XML)
                self._selects_tokens = _let_select_tokens(model)
                properties = {"PERFORMANCE_HINT": "LATENCY", **place.properties}
                compiled = place.core.compile_model(model, place.device, properties)
            self._request = compiled.create_infer_request()

    def reset(self) -> None:
        """Forget all tokens. Raises `EngineError`."""
        with engine_errors(f"{self.device} cannot begin anew"):
            self._request.reset_state()

    def logits(
        self, input_ids: Ints, attention_mask: Ints, position_ids: Ints, beams: Indices, *, kept: int
    ) -> Float32:
        """(batch, tokens, vocabulary) of the last `kept` tokens, 0 for all; an NPU gives the last one's alone.

        `input_ids` and `position_ids` (batch, new tokens); `attention_mask` (batch, all tokens), 0 at padding; `beams`
        (batch,) the rows of the KV cache that go on. Raises `EngineError`.
        """
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "beam_idx": beams,
        }
        if self._selects_tokens:
            inputs[_FIRST_KEPT] = np.array([-kept if kept else -input_ids.shape[1]], np.int64)
        with engine_errors(f"{self.device} failed while generating"):
            found: Float32 = self._request.infer(inputs)["logits"]
        return found[:, -kept:].copy()  # the next step writes into the same memory


def _let_select_tokens(model: Any) -> bool:
    """Let the head compute only the last tokens, which saves the logits of a whole prompt: 0.5 GB for 4,096 tokens of
    Phi-3-mini. False where the model's last operation is not the head, as it is in aipc's own.
    """
    openvino = import_openvino()
    head = model.output("logits").get_node().input_value(0).get_node()
    if head.get_type_name() != "MatMul":
        return False
    opset = openvino.opset13
    start = opset.parameter([1], np.int64, name=_FIRST_KEPT)
    start.output(0).set_names({_FIRST_KEPT})
    end, step, axis = (opset.constant(np.array([value], np.int64)) for value in (_TO_END, 1, 1))
    last = opset.slice(head.input_value(0), start, end, step, axis)  # (batch, kept tokens, hidden size)
    head.input(0).replace_source_output(last.output(0))
    model.add_parameters([start])
    model.validate_nodes_and_infer_types()
    return True
