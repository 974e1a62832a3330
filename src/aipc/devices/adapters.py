"""Which of a driver's list of adapters a GPU is: the system and the driver name it, and its index is the driver's."""

from __future__ import annotations

from collections.abc import Sequence


def place_of(gpu: int, gpus: Sequence[str], adapters: Sequence[str]) -> tuple[int | None, bool | None]:
    """The place of the GPU number `gpu` of `gpus` in `adapters`, and whether it is in there: None for "perhaps".

    Of several with one name the first is the first. A GPU and an adapter that are each left over alone are the same,
    as a driver may name a GPU in other words than the system does.
    """
    places = _by_name(gpus, adapters)
    left_over = [place for place in range(len(adapters)) if place not in places]
    if places[gpu] is not None:
        return places[gpu], True
    if not left_over:
        return None, False
    return (left_over[0], True) if len(left_over) == places.count(None) == 1 else (None, None)


def _by_name(gpus: Sequence[str], adapters: Sequence[str]) -> list[int | None]:
    free = dict(enumerate(adapters))
    places: list[int | None] = []
    for gpu in gpus:
        place = next((place for place, name in free.items() if name == gpu), None)
        if place is not None:
            del free[place]
        places.append(place)
    return places
