"""A weight by name: what an architecture asks a checkpoint for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Weight:
    """A weight by its name in the checkpoint, and the shape that the config says it must have."""

    name: str
    shape: tuple[int, ...]
