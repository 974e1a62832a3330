"""The graphics adapters that DirectX 12 sees on Windows, in the order in which DirectML counts them.

ONNX Runtime GenAI asks DXGI for the adapters by performance, the fastest first, up to the first one in software.

Source: dxgi1_6.h, for the order of the methods; https://learn.microsoft.com/windows/win32/api/dxgi1_6/.
"""

from __future__ import annotations

import ctypes
import sys
import uuid
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_int32, c_size_t, c_uint16, c_uint32, c_void_p
from typing import Any

from aipc.devices.known import NotAvailable

_FACTORY6 = uuid.UUID("c1b6694f-ff09-44a9-b03c-77900a0a1d17")
_ADAPTER1 = uuid.UUID("29038f61-3839-4626-91fd-086879011a05")
# Places in the objects' tables of methods, those of the interfaces that they extend counted in.
_RELEASE, _GET_DESC1, _ENUM_ADAPTER_BY_GPU_PREFERENCE = 2, 10, 29
_HIGH_PERFORMANCE = 2
_IN_SOFTWARE = 2  # DXGI_ADAPTER_FLAG_SOFTWARE
_BASIC_RENDER_DRIVER = (0x1414, 0x8C)  # Microsoft's, which does not always carry the flag

CreateFactory = Callable[[Any, Any], int]


class _Description(ctypes.Structure):
    """DXGI_ADAPTER_DESC1."""

    _fields_ = (
        ("name", c_uint16 * 128),  # UTF-16, as Windows' wchar_t is everywhere
        ("vendor", c_uint32),
        ("device", c_uint32),
        ("subsystem", c_uint32),
        ("revision", c_uint32),
        ("dedicated_video_bytes", c_size_t),
        ("dedicated_system_bytes", c_size_t),
        ("shared_system_bytes", c_size_t),
        ("luid_low", c_uint32),
        ("luid_high", c_int32),
        ("flags", c_uint32),
    )


def directx_adapters(create_factory: CreateFactory | None = None) -> Sequence[str] | NotAvailable:
    """Their names; an adapter's place is its `device_index`. `create_factory` stands in for DXGI's own function."""
    create = create_factory or _system_function()
    if isinstance(create, NotAvailable):
        return create
    factory = c_void_p()
    failed = create(_bytes_of(_FACTORY6), ctypes.byref(factory))
    if failed or not factory.value:
        return NotAvailable("DXGI cannot list the adapters; that takes Windows 10 version 1803 or newer")
    try:
        return _names(factory)
    finally:
        _call(factory, _RELEASE)


def _system_function() -> CreateFactory | NotAvailable:
    if sys.platform != "win32":
        return NotAvailable("DirectX is only on Windows")
    return ctypes.CDLL("dxgi.dll").CreateDXGIFactory1


def _names(factory: c_void_p) -> list[str]:
    names: list[str] = []
    while True:
        adapter = c_void_p()
        failed = _call(
            factory,
            _ENUM_ADAPTER_BY_GPU_PREFERENCE,
            c_uint32(len(names)),
            c_uint32(_HIGH_PERFORMANCE),
            _bytes_of(_ADAPTER1),
            ctypes.byref(adapter),
        )
        if failed or not adapter.value:
            return names
        try:
            description = _Description()
            failed = _call(adapter, _GET_DESC1, ctypes.byref(description))
        finally:
            _call(adapter, _RELEASE)
        if failed or _is_software(description):
            return names
        names.append(_text(description.name))


def _is_software(description: _Description) -> bool:
    return bool(description.flags & _IN_SOFTWARE) or (description.vendor, description.device) == _BASIC_RENDER_DRIVER


def _text(units: Any) -> str:
    return bytes(units).decode("utf-16-le", "replace").partition("\0")[0].strip()


def _bytes_of(identifier: uuid.UUID) -> Any:
    return ctypes.create_string_buffer(identifier.bytes_le, 16)


def _call(thing: c_void_p, method: int, *arguments: Any) -> int:
    """Call a method of a COM object, whose first word points to its table of methods.

    On 64-bit Windows the convention of COM is the one that C has.
    """
    table = ctypes.cast(thing, POINTER(POINTER(c_void_p))).contents
    function = ctypes.CFUNCTYPE(c_int32, c_void_p, *(_kind(argument) for argument in arguments))(table[method] or 0)
    return int(function(thing, *arguments))


def _kind(argument: Any) -> Any:
    return c_uint32 if isinstance(argument, c_uint32) else c_void_p
