"""The adapters of DirectX and CUDA, from drivers that this file plays."""

from __future__ import annotations

import ctypes
import sys
import uuid
from ctypes import CFUNCTYPE, c_char_p, c_int, c_int32, c_uint32, c_void_p
from typing import Any

import pytest

from aipc.devices import directx
from aipc.devices.cuda import cuda_devices
from aipc.devices.directx import directx_adapters
from aipc.devices.known import NotAvailable

NOT_FOUND = -2005270526  # DXGI_ERROR_NOT_FOUND as a signed number
Description = directx._Description


class ComObject:
    """An object in COM's layout: its first word points to a table of functions."""

    def __init__(self, methods: dict[int, Any]) -> None:
        self._methods = methods
        self._table = (c_void_p * 32)()
        for place, method in methods.items():
            self._table[place] = ctypes.cast(method, c_void_p)
        self._object = (c_void_p * 1)(ctypes.addressof(self._table))

    @property
    def address(self) -> int:
        return ctypes.addressof(self._object)


class Dxgi:
    """`CreateDXGIFactory1` of a PC with these adapters: name, vendor, device, flags."""

    def __init__(self, *adapters: tuple[str, int, int, int]) -> None:
        self.released = 0
        self._adapters = [ComObject(self._methods_of(*adapter)) for adapter in adapters]
        enumerate_ = CFUNCTYPE(c_int32, c_void_p, c_uint32, c_uint32, c_void_p, c_void_p)(self._enumerate)
        self._factory = ComObject({2: CFUNCTYPE(c_int32, c_void_p)(self._release), 29: enumerate_})

    def __call__(self, identifier: Any, factory: Any) -> int:
        assert uuid.UUID(bytes_le=identifier.raw) == uuid.UUID("c1b6694f-ff09-44a9-b03c-77900a0a1d17")
        factory._obj.value = self._factory.address
        return 0

    def _release(self, _: int) -> int:
        self.released += 1
        return 0

    def _enumerate(self, _: int, index: int, preference: int, __: int, adapter: int) -> int:
        assert preference == 2  # high performance
        if index >= len(self._adapters):
            return NOT_FOUND
        ctypes.cast(adapter, ctypes.POINTER(c_void_p))[0] = self._adapters[index].address
        return 0

    def _methods_of(self, name: str, vendor: int, device: int, flags: int) -> dict[int, Any]:
        def describe(_: int, address: int) -> int:
            description = Description.from_address(address)
            for index, unit in enumerate(memoryview(name.encode("utf-16-le")).cast("H")):
                description.name[index] = unit
            description.vendor, description.device, description.flags = vendor, device, flags
            return 0

        return {2: CFUNCTYPE(c_int32, c_void_p)(self._release), 10: CFUNCTYPE(c_int32, c_void_p, c_void_p)(describe)}


RADEON = ("AMD Radeon™ RX 7600", 0x1002, 0x7480, 0)
ARC = ("Intel(R) Arc(TM) Graphics", 0x8086, 0x7D55, 0)


def test_adapters_are_listed_in_directmls_order_up_to_the_first_in_software() -> None:
    dxgi = Dxgi(RADEON, ARC, ("Microsoft Basic Render Driver", 0x1414, 0x8C, 0), ("Remote", 0x1414, 1, 0))
    assert directx_adapters(dxgi) == [RADEON[0], ARC[0]]
    assert dxgi.released == 4  # three adapters and the factory
    assert directx_adapters(Dxgi(("WARP", 1, 1, 2))) == []
    assert directx_adapters(Dxgi()) == []


def test_without_directx_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert directx_adapters() == NotAvailable("DirectX is only on Windows")
    assert isinstance(directx_adapters(lambda *_: -1), NotAvailable)


def test_the_description_has_the_size_of_windows_own() -> None:
    assert ctypes.sizeof(Description) == (312 if ctypes.sizeof(c_void_p) == 8 else 292)


class Cuda:
    def __init__(self, *names: str, status: int = 0) -> None:
        self._names, self._status = names, status

    def cuInit(self, _: int) -> int:  # noqa: N802 - the driver's name
        return self._status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self._names)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, _: int, device: c_int) -> int:  # noqa: N802
        name.value = c_char_p(self._names[device.value].encode()).value
        return 0


def test_cuda_devices_are_those_of_the_driver() -> None:
    assert cuda_devices(Cuda("NVIDIA A", "NVIDIA B")) == ["NVIDIA A", "NVIDIA B"]
    assert cuda_devices(Cuda()) == []
    assert cuda_devices(Cuda(status=100)) == NotAvailable("the NVIDIA driver fails with CUDA error 100")
