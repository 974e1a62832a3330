"""Which device of ONNX Runtime is meant, and whether the installed package runs on it.

ONNX Runtime itself takes the CPU for whatever it does not know or have, and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aipc.devices.cuda import cuda_devices
from aipc.devices.device import kind_of
from aipc.devices.directx import directx_adapters
from aipc.devices.known import NotAvailable
from aipc.devices.processor import find_processor
from aipc.errors import DeviceError
from aipc.graph.onnx.genai_names import PROVIDER_OF_DEVICE
from aipc.onnx_import import FOR_THE_CPU, INSTALL, refuse_elsewhere
from aipc.targets import ONNX_DEVICES


@dataclass(frozen=True)
class OnnxDevice:
    """`kind` is one of `ONNX_DEVICES`; `index` None is GenAI's choice."""

    kind: str
    index: int | None
    name: str

    @property
    def id(self) -> str:
        """Such as CPU or DIRECTML.1."""
        return self.kind.upper() if self.index is None else f"{self.kind.upper()}.{self.index}"

    @property
    def provider(self) -> str:
        return PROVIDER_OF_DEVICE[self.kind]

    @property
    def index_option(self) -> str:
        return {"directml": "device_index", "cuda": "device_id"}[self.kind]

    @property
    def prefill_chunk_tokens(self) -> int | None:
        """How many tokens of a prompt are computed at a time; None is all.

        DirectML's attention adds to a cache that is not empty one token alone. Between pieces other threads
        run; on two cores at Phi-3-mini's width pieces of 128 took 1 % longer than larger ones, and pieces of 64 6 %.
        """
        return {"cpu": 128, "cuda": 1024}.get(self.kind)


def onnx_kind_of(device: str) -> str:
    """The kind of `device`, such as "directml" of "DirectML.1". Raises `DeviceError` for an unknown one."""
    kind = kind_of(device)
    if kind not in ONNX_DEVICES:
        raise DeviceError(
            f"device {device!r} is none of ONNX Runtime's",
            expected=" or ".join(ONNX_DEVICES),
            try_next="--device cpu; an Intel GPU or NPU runs a model that was converted --to openvino",
        )
    return kind


def found_device(genai: Any, device: str) -> OnnxDevice:
    """`device` as it is here: "cpu", "directml", "directml.1", "cuda.0", or with a part of the adapter's name.

    Without an index it is the first, which DirectML counts from the fastest. Raises `DeviceError` when the installed
    package has no such provider, or the PC no such adapter: nothing is taken in its place.
    """
    kind = onnx_kind_of(device)
    _, dot, which = device.partition(".")
    if kind == "cpu":
        if dot:
            raise DeviceError(f"device {device!r} is not there", expected="cpu, which is one device")
        name = find_processor().name
        return OnnxDevice("cpu", None, "CPU" if isinstance(name, NotAvailable) else name)
    adapters = listed_adapters(kind)
    _check_provider(genai, kind)
    if isinstance(adapters, NotAvailable):
        return _unlisted(kind, which, adapters)
    index = _index(device, which, adapters) if dot else 0
    if index >= len(adapters):
        raise _no_adapter(device, adapters)
    return OnnxDevice(kind, index, adapters[index])


# What lists the adapters of each provider that has some.
ADAPTERS: dict[str, Callable[[], Sequence[str] | NotAvailable]] = {
    "directml": directx_adapters,
    "cuda": cuda_devices,
}


def listed_adapters(kind: str) -> Sequence[str] | NotAvailable:
    """Asked for before a package is, which would not help without one.

    Raises `DeviceError` where CUDA's driver lists no GPU; what DirectML cannot list may be there all the same.
    """
    adapters = ADAPTERS[kind]()
    if kind == "cuda" and isinstance(adapters, NotAvailable):
        raise DeviceError("no NVIDIA GPU is there", found=adapters.reason, try_next=FOR_THE_CPU)
    return adapters


def _check_provider(genai: Any, kind: str) -> None:
    has_provider = {"directml": "is_dml_available", "cuda": "is_cuda_available"}[kind]
    if getattr(genai, has_provider, lambda: False)():
        return
    refuse_elsewhere(kind)
    raise DeviceError(
        f"the installed {getattr(genai, '__id__', 'onnxruntime-genai')} does not run on {kind}",
        expected=f"a package that is built for {kind}",
        try_next=INSTALL[kind],
    )


def _unlisted(kind: str, which: str, reason: NotAvailable) -> OnnxDevice:
    """An adapter that only the provider itself can find; it fails where there is none."""
    if which and not _is_index(which):
        raise DeviceError(
            f"no adapter can be found by the name {which!r}", found=reason.reason, try_next="--device directml"
        )
    return OnnxDevice(kind, int(which) if which else None, "an adapter whose name is not known")


def _index(device: str, which: str, adapters: Sequence[str]) -> int:
    if _is_index(which):
        return int(which)
    named = [index for index, name in enumerate(adapters) if which and which.lower() in name.lower()]
    if len(named) != 1:
        raise _no_adapter(device, adapters)
    return named[0]


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


def _no_adapter(device: str, adapters: Sequence[str]) -> DeviceError:
    kind = kind_of(device)
    there = ", ".join(f"{kind}.{index} ({name})" for index, name in enumerate(adapters))
    return DeviceError(
        f"device {device!r} is not there",
        expected=f"one that is ({there or 'none'})",
        try_next=FOR_THE_CPU if not adapters else f"--device {kind}.0",
    )
