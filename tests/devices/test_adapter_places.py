"""Which adapter of a driver's list is which GPU of the system's."""

from __future__ import annotations

import pytest

from aipc.devices.adapters import place_of


@pytest.mark.parametrize(
    ("gpus", "adapters", "places"),
    [
        (["A", "B"], ["B", "A"], [(1, True), (0, True)]),
        (["A", "A"], ["A", "A"], [(0, True), (1, True)]),
        (["A", "A"], ["A"], [(0, True), (None, False)]),
        (["A"], [], [(None, False)]),
        (["A", "B"], ["A", "B (16GB)"], [(0, True), (1, True)]),
        (["A", "B"], ["X", "Y"], [(None, None), (None, None)]),
        (["A", "B"], ["X", "A", "Y"], [(1, True), (None, None)]),
    ],
)
def test_a_gpu_is_found_by_its_name_or_as_the_only_one_left_over(
    gpus: list[str], adapters: list[str], places: list[tuple[int | None, bool | None]]
) -> None:
    assert [place_of(gpu, gpus, adapters) for gpu in range(len(gpus))] == places
