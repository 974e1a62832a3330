"""Error bounds of every scheme, held over random and hostile rows; layouts against OpenVINO's own types."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from aipc.errors import WeightError
from aipc.floats import FloatType, Rows
from aipc.quant import Scheme, Scratch
from aipc.quant.fp16 import Fp16
from aipc.quant.fp32 import Fp32
from aipc.quant.int4 import Int4, pack_nibbles, unpack_nibbles
from aipc.quant.int8 import Int8

INTEGER_SCHEMES: list[Int4 | Int8] = [
    Int8(symmetric=True),
    Int8(symmetric=False),
    Int8(symmetric=True, group_size=32),
    Int8(symmetric=False, group_size=32),
    *(Int4(size, symmetric) for size in (32, 64, 128, -1) for symmetric in (True, False)),
]
ROWS = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=3).map(lambda shape: (shape[0], 128)),
    elements=st.floats(-60000, 60000, width=32),
)


def round_trip(scheme: Scheme, values: np.ndarray) -> np.ndarray:
    return scheme.dequantize(scheme.quantize(Rows.of(values)))


@pytest.mark.parametrize("scheme", INTEGER_SCHEMES, ids=lambda scheme: scheme.label)
@settings(max_examples=60, deadline=None)
@given(values=ROWS)
def test_no_value_is_off_by_more_than_the_documented_bound(scheme: Int4 | Int8, values: np.ndarray) -> None:
    packed = scheme.quantize(Rows.of(values))
    error = np.abs(scheme.dequantize(packed) - values).reshape(*packed.scale.shape, -1)
    scale = np.abs(packed.scale.astype(np.float32))[..., None]
    # Symmetric codes have one step less on one side; FP16 rounds the scale by up to 2⁻¹¹, which the code multiplies,
    # and to a multiple of 2⁻²⁴ where it is subnormal.
    levels = 2**scheme.bits
    steps = (1.0 if scheme.symmetric else 0.5) + levels * 2**-11
    if not scheme.symmetric:
        steps += 0.5  # the zero point is rounded too, and clipped values sit at the range's ends
    assert (error <= steps * scale + levels * 2**-24).all()


@pytest.mark.parametrize("scheme", INTEGER_SCHEMES, ids=lambda scheme: scheme.label)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_subnormal_scale_clips_values_and_never_turns_their_sign(scheme: Int4 | Int8, sign: int) -> None:
    row = np.zeros((1, 128), np.float32)
    row[0, :3] = 1, -1 / 3, 0.5
    for size in np.geomspace(1e-8, 1e-3, 200, dtype=np.float32):
        values = row * size * sign
        assert (round_trip(scheme, values) * values >= 0).all(), size


@pytest.mark.parametrize("scheme", INTEGER_SCHEMES, ids=lambda scheme: scheme.label)
def test_gaussian_rows_keep_the_error_that_round_to_nearest_is_known_for(scheme: Int4 | Int8) -> None:
    values = np.random.default_rng(0).standard_normal((64, 1024), dtype=np.float32)
    relative = np.linalg.norm(round_trip(scheme, values) - values) / np.linalg.norm(values)
    known_of_int8 = {32: 0.0052, -1: 0.009}
    known_of_int4 = {32: 0.087, 64: 0.097, 128: 0.105, -1: 0.125}
    known = (known_of_int8 if scheme.bits == 8 else known_of_int4)[scheme.group_size]
    assert known * 0.8 < relative < known * 1.03


@pytest.mark.parametrize("scheme", INTEGER_SCHEMES, ids=lambda scheme: scheme.label)
def test_packing_in_blocks_equals_packing_at_once(scheme: Int4 | Int8) -> None:
    rows = Rows.of(np.random.default_rng(1).standard_normal((10, 128)).astype(np.float16))
    whole, scratch = scheme.quantize(rows), Scratch()
    parts = [scheme.quantize(Rows(rows.bits[i : i + 3], rows.float_type), scratch) for i in range(0, 10, 3)]
    np.testing.assert_array_equal(np.concatenate([part.data for part in parts]), whole.data)
    np.testing.assert_array_equal(np.concatenate([part.scale for part in parts]), whole.scale)


@pytest.mark.parametrize("scheme", [*INTEGER_SCHEMES, Fp16(), Fp32()], ids=lambda scheme: scheme.label)
def test_zeros_stay_zeros(scheme: Scheme) -> None:
    np.testing.assert_array_equal(round_trip(scheme, np.zeros((2, 128), np.float32)), 0)


@pytest.mark.parametrize("scheme", [*INTEGER_SCHEMES, Fp16(), Fp32()], ids=lambda scheme: scheme.label)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(scheme: Scheme, bad: float) -> None:
    values = np.ones((2, 128), np.float32)
    values[1, 77] = bad
    with pytest.raises(WeightError, match="finite"):
        scheme.quantize(Rows.of(values))


@pytest.mark.parametrize("scheme", INTEGER_SCHEMES, ids=lambda scheme: scheme.label)
@pytest.mark.filterwarnings("error")
def test_a_scale_that_half_precision_cannot_hold_is_refused(scheme: Int4 | Int8) -> None:
    with pytest.raises(WeightError, match="FP16"):
        scheme.quantize(Rows.of(np.full((1, 128), 3e8, np.float32)))


def test_fp16_passes_half_precision_unchanged_and_refuses_what_it_cannot_hold() -> None:
    values = np.random.default_rng(2).standard_normal((3, 128)).astype(np.float16)
    np.testing.assert_array_equal(Fp16().quantize(Rows.of(values)).data, values)
    with pytest.raises(WeightError, match="65504"):
        Fp16().quantize(Rows.of(np.full((1, 128), 1e5, np.float32)))


def test_every_bfloat16_that_half_precision_holds_rounds_as_numpy_rounds() -> None:
    bits = np.arange(65536, dtype=np.uint16)
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):
        kept = np.isfinite(values) & (np.abs(values) <= 65504)
    rows = Rows(bits[kept].reshape(1, -1), FloatType.BF16)
    ours = Fp16().quantize(rows).data
    np.testing.assert_array_equal(ours.view(np.uint16), values[kept].astype(np.float16).view(np.uint16)[None])


@given(npst.arrays(np.uint8, (3, 16), elements=st.integers(0, 15)))
def test_nibbles_unpack_to_what_was_packed(codes: np.ndarray) -> None:
    np.testing.assert_array_equal(unpack_nibbles(pack_nibbles(codes)), codes)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_layout_is_openvinos_own_four_bit_type(symmetric: bool) -> None:
    values = np.random.default_rng(3).standard_normal((4, 64), dtype=np.float32)
    scheme = Int4(32, symmetric)
    packed = scheme.quantize(Rows.of(values))
    element_type = ov.Type.i4 if symmetric else ov.Type.u4
    codes = ov.Tensor(packed.data, ov.Shape([4, 64]), element_type)
    widened = ov.opset13.convert(ov.opset13.constant(codes), "f32")
    infer = ov.Core().compile_model(ov.Model([widened], []), "CPU")
    theirs = infer([])[0].reshape(4, 2, 32)
    if not symmetric:
        theirs = theirs - packed.zero_point[..., None]
    np.testing.assert_array_equal(
        (theirs * packed.scale.astype(np.float32)[..., None]).reshape(4, 64), scheme.dequantize(packed)
    )
