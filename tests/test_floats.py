from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipc.floats import FloatType, Rows


def all_finite_bits(float_type: FloatType) -> np.ndarray:
    bits = np.arange(65536, dtype=np.uint16)
    return bits[(bits & 0x7FFF) < float_type.infinity_bits]


def test_every_finite_float16_converts_exactly_as_numpy_does() -> None:
    bits = all_finite_bits(FloatType.F16).reshape(8, -1)
    expected = bits.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(Rows(bits, FloatType.F16).float32(), expected)


def test_every_finite_bfloat16_is_the_upper_half_of_a_float32() -> None:
    bits = all_finite_bits(FloatType.BF16).reshape(16, -1)
    expected = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(Rows(bits, FloatType.BF16).float32(), expected)


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
def test_extremes_are_the_group_minimum_and_maximum_with_zero(values: list[float]) -> None:
    array = np.array([values])
    for dtype in (np.float16, np.float32):
        lowest, highest = Rows.of(array.astype(dtype)).extremes(4)
        groups = array.reshape(1, 2, 4)
        np.testing.assert_array_equal(lowest, np.minimum(groups.min(-1), 0))
        np.testing.assert_array_equal(highest, np.maximum(groups.max(-1), 0))


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
def test_the_farthest_value_of_a_group_keeps_its_sign(values: list[float]) -> None:
    array = np.array([values])
    groups = array.reshape(1, 2, 4)
    for dtype in (np.float16, np.float32):
        farthest = Rows.of(array.astype(dtype)).farthest(4)
        np.testing.assert_array_equal(np.abs(farthest), np.abs(groups).max(-1))
        assert ((groups == farthest[..., None]).any(-1)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -np.nan])
@pytest.mark.parametrize("float_type", list(FloatType))
def test_a_value_that_is_not_finite_shows_in_the_extremes(bad: float, float_type: FloatType) -> None:
    values = np.zeros((1, 4), np.float32)
    values[0, 2] = bad
    bits = {
        FloatType.F32: values.view(np.uint32),
        FloatType.F16: values.astype(np.float16).view(np.uint16),
        FloatType.BF16: (values.view(np.uint32) >> 16).astype(np.uint16),
    }[float_type]
    lowest, highest = Rows(bits, float_type).extremes(4)
    assert not (np.isfinite(lowest).all() and np.isfinite(highest).all())
    assert not np.isfinite(Rows(bits, float_type).farthest(4)).all()
