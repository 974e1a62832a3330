"""A back end that only notes which weights an architecture uses, in which order and in which role."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from aipc.graph import Graph, Heads, Rope, Weight


class Role(str, Enum):
    """What a weight is used for; a recipe decides by it."""

    EMBEDDING = "embedding"
    LINEAR = "linear"
    NORM = "norm"
    HEAD = "head"


@dataclass(frozen=True)
class WeightUse:
    """A weight and all its roles: a tied embedding is both the embedding and the head."""

    weight: Weight
    roles: frozenset[Role]

    @property
    def name(self) -> str:
        return self.weight.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def is_linear(self) -> bool:
        return self.roles == {Role.LINEAR}

    @property
    def is_norm(self) -> bool:
        return self.roles == {Role.NORM}


def weights_used(describe: Callable[[Graph[None]], None]) -> list[WeightUse]:
    """The weights that `describe` uses, in the order of their first use."""
    inventory = _Inventory()
    describe(inventory)
    return [WeightUse(weight, frozenset(roles)) for weight, roles in inventory.roles.items()]


class _Inventory:
    def __init__(self) -> None:
        self.roles: dict[Weight, set[Role]] = {}

    def _note(self, weight: Weight, role: Role) -> None:
        self.roles.setdefault(weight, set()).add(role)

    def embedding(self, weight: Weight) -> None:
        self._note(weight, Role.EMBEDDING)

    def linear(self, x: None, weight: Weight) -> None:
        self._note(weight, Role.LINEAR)

    def rms_norm(self, x: None, weight: Weight, *, epsilon: float) -> None:
        self._note(weight, Role.NORM)

    def split(self, x: None, sizes: Sequence[int]) -> list[None]:
        return [None for _ in sizes]

    def heads(self, x: None, *, count: int, size: int) -> None: ...

    def rope(self, x: None, rope: Rope) -> None: ...

    def attention(
        self, query: None, key: None, value: None, *, layer: int, heads: Heads, window: int | None
    ) -> None: ...

    def silu_gate(self, gate: None, up: None) -> None: ...

    def add(self, a: None, b: None) -> None: ...

    def logits(self, x: None, weight: Weight) -> None:
        self._note(weight, Role.HEAD)
