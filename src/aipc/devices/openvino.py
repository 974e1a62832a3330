"""The devices that OpenVINO sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aipc.devices.known import NotAvailable
from aipc.errors import MissingPackageError
from aipc.openvino_import import first_useful_line, import_openvino

DRIVER_PROPERTIES = {"NPU": "NPU_DRIVER_VERSION", "GPU": "GPU_DRIVER_VERSION"}


@dataclass(frozen=True)
class RuntimeDevice:
    """A device in OpenVINO's words. `capabilities` are precisions such as FP16 and INT8, and features."""

    id: str
    name: str | NotAvailable
    capabilities: tuple[str, ...] | NotAvailable
    driver_version: str | NotAvailable


def seen_by_openvino(core: Any = None) -> Sequence[RuntimeDevice] | NotAvailable:
    """What `core`, a new `openvino.Core` by default, sees. Importing OpenVINO takes about a quarter of a second."""
    if core is None:
        try:
            core = import_openvino().Core()
        except MissingPackageError as error:
            return NotAvailable(f"{error.what}: {error.found}")
    return tuple(_device(core, str(device)) for device in core.available_devices)


def _device(core: Any, device: str) -> RuntimeDevice:
    name = _property(core, device, "FULL_DEVICE_NAME")
    capabilities = _property(core, device, "OPTIMIZATION_CAPABILITIES")
    return RuntimeDevice(
        id=device,
        name=name if isinstance(name, NotAvailable) else str(name),
        capabilities=capabilities if isinstance(capabilities, NotAvailable) else tuple(map(str, capabilities)),
        driver_version=driver_of(device, core),
    )


def driver_of(device: str, core: Any = None) -> str | NotAvailable:
    """The version of a GPU's or an NPU's driver, as `core` tells it, a new `openvino.Core` by default."""
    kind = device.partition(".")[0]
    if kind not in DRIVER_PROPERTIES:
        return NotAvailable(f"OpenVINO offers no driver version of a {kind}")
    version = _property(core or import_openvino().Core(), device, DRIVER_PROPERTIES[kind])
    return version if isinstance(version, NotAvailable) else str(version)


def _property(core: Any, device: str, name: str) -> Any:
    try:
        return core.get_property(device, name)
    except RuntimeError as error:
        return NotAvailable(first_useful_line(error))
