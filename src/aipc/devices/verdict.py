"""Can run, or cannot: with the exact reason and the exact fix."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Obstacle:
    """What is in the way, and what to do or type about it.

    `is_a_guess` marks what was concluded from files and versions, and is wrong when the runtime sees the device.
    """

    reason: str
    fix: str
    is_a_guess: bool = True


@dataclass(frozen=True)
class Verdict:
    """Whether `engine` runs on a device; `device` is what `--device` takes there, None where the engine has no word."""

    engine: str  # openvino or onnx
    device: str | None
    obstacles: tuple[Obstacle, ...]
    grounds: str  # what a positive verdict rests on; empty for a negative one

    @property
    def can_run(self) -> bool:
        return not self.obstacles


def judged(engine: str, device: str | None, obstacles: list[Obstacle], *, is_seen: bool | None) -> Verdict:
    """The verdict from what is in the way, and from whether the runtime sees the device (None: it was not asked).

    A runtime that sees the device refutes guesses. One that does not, where nothing else is in the way, is itself
    the obstacle.
    """
    if is_seen:
        obstacles = [obstacle for obstacle in obstacles if not obstacle.is_a_guess]
    elif is_seen is False and not obstacles:
        obstacles = [_unseen(engine)]
    # ONNX Runtime is not asked: its adapters are those that their driver lists.
    seen = "the runtime sees it" if engine == "openvino" else "its driver lists it; not tried"
    grounds = seen if is_seen else "nothing in the way was found; not tried"
    return Verdict(engine, device, tuple(obstacles), "" if obstacles else grounds)


def _unseen(engine: str) -> Obstacle:
    return Obstacle(
        "OpenVINO does not see the device, though its driver and libraries are there"
        if engine == "openvino"
        else "DirectML's or CUDA's own list of adapters does not have the device, though its driver is there",
        "update the device's driver, restart the PC, and run aipc devices again",
    )
