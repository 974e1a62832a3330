"""What a Linux says of itself: its kernel, its modules, its users, and whether it is WSL, a container or a VM."""

from __future__ import annotations

import re

from aipc.devices.known import NotAvailable
from aipc.devices.machine import Machine
from aipc.devices.verdict import Obstacle
from aipc.devices.versions import numbers

# Where loaders look, in Debian's, Fedora's, Arch's and a local installation's layout.
LIBRARY_DIRECTORIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/local/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",  # NixOS
)
NEWER_KERNEL = (
    "install a newer kernel (Ubuntu: sudo apt install linux-generic-hwe-$(lsb_release -rs)) and restart the PC"
)
_LOADER_FILES = "/etc/ld.so.conf.d"
_NAMELESS = "UNKNOWN"  # what stat calls a group without a name
FIRMWARE_DIRECTORIES = ("/lib/firmware/updates", "/lib/firmware", "/usr/lib/firmware")


def kernel_release(machine: Machine) -> str | NotAvailable:
    """Such as 6.8.0-57-generic."""
    release = machine.read("/proc/sys/kernel/osrelease")
    return release if isinstance(release, NotAvailable) else release.strip()


def is_wsl(machine: Machine) -> bool:
    """Whether this Linux runs inside Windows. https://github.com/microsoft/WSL/issues/4071"""
    return "microsoft" in str(kernel_release(machine)).lower()


def is_container(machine: Machine) -> bool:
    """Docker and Podman leave a file behind, systemd-nspawn, LXC and Kubernetes a variable."""
    marks = ("/.dockerenv", "/run/.containerenv")
    variables = {"container", "KUBERNETES_SERVICE_HOST"}
    return not variables.isdisjoint(machine.environment) or any(machine.readable(path) for path in marks)


def is_virtual(machine: Machine) -> bool:
    """Whether the CPU says that a hypervisor is below. https://docs.kernel.org/arch/x86/cpuinfo.html"""
    text = machine.read("/proc/cpuinfo")
    return not isinstance(text, NotAvailable) and bool(re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE))


def library(machine: Machine, name: str) -> str | None:
    """The path of a shared library under the name that has the newest version: `libze_loader.so.1.24.2`."""
    extra = machine.environment.get("LD_LIBRARY_PATH", "").split(":")
    for directory in (*filter(None, extra), *LIBRARY_DIRECTORIES, *_configured_directories(machine)):
        found = [file for file in machine.list(directory) if file == name or file.startswith(f"{name}.")]
        if found:
            return f"{directory}/{max(found, key=lambda file: numbers(file[len(name) + 1 :]))}"
    return None


def _configured_directories(machine: Machine) -> list[str]:
    """Those that an administrator or a package added. https://man7.org/linux/man-pages/man8/ldconfig.8.html"""
    files = [f"{_LOADER_FILES}/{name}" for name in machine.list(_LOADER_FILES) if name.endswith(".conf")]
    lines = [
        line.strip() for file in files if isinstance(text := machine.read(file), str) for line in text.splitlines()
    ]
    return [line for line in lines if line.startswith("/")]


def library_version(path: str | None) -> str | NotAvailable:
    """The version in a library's file name; one number alone is the ABI's, not the library's."""
    found = re.search(r"\.so\.(\d+(?:\.\d+)+)$", path or "")
    return found[1] if found else NotAvailable("the library's file name has no version")


def has_firmware(machine: Machine, directory: str, prefix: str) -> bool:
    """Whether a firmware file is there, compressed or not."""
    return any(file.startswith(prefix) for root in FIRMWARE_DIRECTORIES for file in machine.list(f"{root}/{directory}"))


def is_loaded(machine: Machine, module: str) -> bool:
    return bool(machine.list(f"/sys/module/{module}"))


def has_module(machine: Machine, directory: str, module: str) -> bool:
    """Whether the module is there: the kernel's own, in `directory` of its tree, or one that was built beside it."""
    root = f"/lib/modules/{kernel_release(machine)}"
    places = (f"kernel/{directory}", "updates", "updates/dkms", "extra")
    return any(file.startswith(f"{module}.ko") for place in places for file in machine.list(f"{root}/{place}"))


def groups(machine: Machine) -> set[str]:
    """The groups of this process, by name. https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    status, names = machine.read("/proc/self/status"), machine.read("/etc/group")
    if isinstance(status, NotAvailable) or isinstance(names, NotAvailable):
        return set()
    found = re.search(r"^Groups:[ \t]*([\d \t]*)$", status, re.MULTILINE)
    numbers = set(found[1].split()) if found else set()
    return {entry[0] for line in names.splitlines() if len(entry := line.split(":")) > 2 and entry[2] in numbers}


def _is_in_group_file(machine: Machine, group: str) -> bool:
    names, user = machine.read("/etc/group"), machine.environment.get("USER", "")
    if isinstance(names, NotAvailable) or not user:
        return False
    entries = (line.strip().split(":") for line in names.splitlines())
    return any(len(entry) > 3 and entry[0] == group and user in entry[3].split(",") for entry in entries)


def access_obstacle(machine: Machine, node: str) -> Obstacle | None:
    """Why this user may not open a device's node, such as /dev/accel/accel0.

    Who may is read by stat. The group is render where udev's rule is new enough, and root where it is not:
    https://github.com/intel/linux-npu-driver/blob/main/docs/overview.md, "Non-root access to the NPU device".
    """
    if machine.readable(node) and machine.writable(node):
        return None
    said = machine.run("stat", "-c", "%G %A %g", node)
    words = [] if isinstance(said, NotAvailable) else said.split()
    if len(words) < 2:
        return _no_node(machine, node)
    group, mode, number = (*words, "")[:3]
    reason = f"{node} may be opened by the group {group} ({mode}), and this user is not in it"
    if number.isdigit() and is_container(machine):  # whose own groups say nothing of the PC's
        return Obstacle(reason, f"start the container with --device {node} --group-add {number}")
    if group in ("root", _NAMELESS) or mode[4:6] != "rw":
        shared = f"sudo chown root:render {node} && sudo chmod g+rw {node}"
        fix = f"{shared} && sudo usermod -aG render $USER, then log out and log in again"
        return Obstacle(f"{node} may be opened by root alone ({group} {mode})", fix)
    if _is_in_group_file(machine, group) and group not in groups(machine):
        return Obstacle(f"{reason}: it was added after this session began", "log out and log in again")
    return Obstacle(reason, f"sudo usermod -aG {group} $USER, then log out and log in again")


def _no_node(machine: Machine, node: str) -> Obstacle:
    if is_container(machine):
        return Obstacle(f"{node} is not in this container", f"start the container with --device {node}")
    return Obstacle(f"{node} is not there", "sudo udevadm trigger, or restart the PC")


def locked_memory_bytes(machine: Machine) -> int | NotAvailable | None:
    """How much memory this process may lock; None is without limit. /proc/self/limits, the soft limit."""
    text = machine.read("/proc/self/limits")
    if isinstance(text, NotAvailable):
        return text
    found = re.search(r"^Max locked memory\s+(\d{1,18}|unlimited)", text, re.MULTILINE)
    if not found:
        return NotAvailable("/proc/self/limits has no locked memory")
    return None if found[1] == "unlimited" else int(found[1])
