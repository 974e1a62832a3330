"""The NVIDIA GPUs that the driver lists, in CUDA's order.

Source: https://docs.nvidia.com/cuda/cuda-driver-api/.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

from aipc.devices.known import NotAvailable

_LONGEST_NAME = 256


def cuda_devices(driver: Any = None) -> Sequence[str] | NotAvailable:
    """Their names; a device's place is its `device_id`. `driver` stands in for the driver's library."""
    if driver is None:
        try:
            driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        except OSError as error:
            return NotAvailable(f"there is no NVIDIA driver ({error})")
    status = driver.cuInit(0)
    count = ctypes.c_int()
    if not status:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return NotAvailable(f"the NVIDIA driver fails with CUDA error {status}")
    return [_name(driver, index) for index in range(count.value)]


def _name(driver: Any, index: int) -> str:
    name = ctypes.create_string_buffer(_LONGEST_NAME)
    device = ctypes.c_int()
    failed = driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetName(name, _LONGEST_NAME, device)
    return f"CUDA device {index}" if failed else name.value.decode("utf-8", "replace")
