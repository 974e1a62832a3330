"""The compiled quantiser gives the bytes that numpy gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipc.errors import WeightError
from aipc.floats import FloatType, Rows
from aipc.quant import Packed, compiled
from aipc.quant.int4 import Int4
from aipc.quant.int8 import Int8

pytestmark = pytest.mark.skipif(
    compiled.kernel is None, reason="there is no compiled quantiser: install aipc (again) where a C compiler is"
)

COLUMNS = 1152  # more than the compiled code takes at a time, and no whole number of times
SCHEMES: list[Int4 | Int8] = [
    *(Int4(size, symmetric) for size in (32, 64, 128, -1) for symmetric in (True, False)),
    *(Int8(symmetric, size) for size in (16, 128, -1) for symmetric in (True, False)),
]


def outcome(quantize: Callable[[], Packed]) -> list[bytes] | str:
    try:
        packed = quantize()
    except WeightError as error:
        return str(error)
    arrays = (packed.data, packed.scale, packed.zero_point)
    return [str((array.shape, array.dtype)).encode() + array.tobytes() for array in arrays if array is not None]


def both(scheme: Int4 | Int8, rows: Rows) -> tuple[list[bytes] | str, list[bytes] | str]:
    found = outcome(lambda: scheme.quantize(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "kernel", None)
        return found, outcome(lambda: scheme.quantize(rows))


def bits_of(values: np.ndarray, float_type: FloatType) -> Rows:
    if float_type is FloatType.F16:
        with np.errstate(over="ignore"):
            return Rows(values.astype(np.float16).view(np.uint16), float_type)
    words = values.astype(np.float32).view(np.uint32)
    return Rows(words if float_type is FloatType.F32 else (words >> 16).astype(np.uint16), float_type)


@pytest.mark.parametrize("float_type", list(FloatType))
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.label)
@pytest.mark.parametrize("spread", [1e-41, 1e-9, 6e-8, 0.02, 3.0, 8000.0])
def test_random_weights_of_any_size(scheme: Int4 | Int8, float_type: FloatType, spread: float) -> None:
    values = np.random.default_rng(7).standard_normal((5, COLUMNS)) * spread
    found, expected = both(scheme, bits_of(values, float_type))
    assert found == expected


@pytest.mark.parametrize("float_type", list(FloatType))
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.label)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), mask=st.sampled_from([0x0000FFFF, 0x7FFF0000, 0xBFFFFFFF, 0xFFFFFFFF]))
def test_any_bits_at_all(scheme: Int4 | Int8, float_type: FloatType, seed: int, mask: int) -> None:
    """Subnormal, infinite and NaN among them: the same bytes, or the same error."""
    words = np.random.default_rng(seed).integers(0, 2**32, (2, 128 * 3), np.uint32) & np.uint32(mask)
    bits = words if float_type is FloatType.F32 else (words >> 16).astype(np.uint16)
    found, expected = both(scheme, Rows(bits, float_type))
    assert found == expected


@pytest.mark.parametrize("float_type", list(FloatType))
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.label)
@pytest.mark.parametrize(
    "group",
    [[0.0], [-0.0], [1.0], [-1.0], [1.0, -1.0], [-8.0, 7.5], [0.5, 1.5, 2.5, -7.0], [60000.0, -60000.0], [2**-24]],
    ids=str,
)
def test_groups_at_the_edges(scheme: Int4 | Int8, float_type: FloatType, group: list[float]) -> None:
    values = np.resize(np.array(group, np.float32), (3, 128))
    found, expected = both(scheme, bits_of(values, float_type))
    assert found == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("float_type", list(FloatType))
def test_one_value_that_is_not_finite_is_found_wherever_it_is(bad: float, float_type: FloatType) -> None:
    for place in (0, 511, 512, COLUMNS - 1):
        values = np.full((2, COLUMNS), 0.5)
        values[1, place] = bad
        for scheme in (Int4(128), Int4(-1, symmetric=False), Int8()):
            with pytest.raises(WeightError, match="NaN or infinity"):
                scheme.quantize(bits_of(values, float_type))


def test_rows_that_do_not_lie_together_are_taken_too() -> None:
    values = np.random.default_rng(1).standard_normal((4, 256)).astype(np.float32)
    apart = Rows(values.view(np.uint32)[::2, ::-1], FloatType.F32)
    found, expected = both(Int4(32), apart)
    assert found == expected


def test_rows_at_an_odd_address_are_taken_too() -> None:
    values = np.random.default_rng(1).standard_normal((4, 256)).astype("<f4")
    odd = np.frombuffer(b"\0" + values.tobytes(), np.uint8)[1:].view("<u4").reshape(values.shape)
    assert not odd.flags.aligned
    found, expected = both(Int4(32), Rows(odd, FloatType.F32))
    assert found == expected


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (0, bytes(126)),
        (1, 3),
        (1, -1),
        (2, -1),
        (3, 31),
        (3, 0),
        (3, -64),
        (3, 2**62 + 32),  # modulo 2**64 every size fits
        (4, 3),
        (6, bytearray(31)),
        (7, bytearray(2)),
        (8, bytearray(1)),
    ],
)
def test_buffers_that_do_not_fit_each_other_are_refused(place: int, wrong: object) -> None:
    arguments = [bytes(128), 1, 2, 32, 4, True, bytearray(32), bytearray(4), bytearray(0)]
    assert compiled.kernel.quantize(*arguments) == 0
    arguments[place] = wrong
    with pytest.raises(ValueError, match="do not fit"):
        compiled.kernel.quantize(*arguments)


def test_buffers_that_begin_between_two_values_are_refused() -> None:
    """The compiler takes it that a value lies at a multiple of its size."""
    source, scales = memoryview(bytearray(129)), memoryview(bytearray(5))
    rest = (1, 2, 32, 4, True, bytearray(32))
    assert compiled.kernel.quantize(source[:-1], *rest, scales[:-1], bytearray(0)) == 0
    for arguments in ((source[1:], *rest, scales[:-1]), (source[:-1], *rest, scales[1:])):
        with pytest.raises(ValueError, match="do not fit"):
            compiled.kernel.quantize(*arguments, bytearray(0))


@pytest.mark.parametrize("flag", ["-ffast-math", "-mfpmath=387"])
def test_code_that_would_round_otherwise_than_numpy_is_not_compiled(flag: str) -> None:
    gcc = [shutil.which("gcc") or "gcc", "-fsyntax-only", f"-I{sysconfig.get_paths()['include']}"]
    command = [*gcc, str(Path(compiled.__file__).with_name("kernel.c"))]
    if shutil.which("gcc") is None or subprocess.run([*command, "-mfpmath=sse"], capture_output=True).returncode:
        pytest.skip("needs GCC for x86-64 and Python.h")
    refused = subprocess.run([*command, flag], capture_output=True, text=True)
    assert refused.returncode
    assert "would differ from numpy's" in refused.stderr


@pytest.mark.parametrize("stale", [{}, {"VERSION": 0}])
def test_what_another_kernel_c_was_compiled_to_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, stale: dict[str, int]
) -> None:
    assert compiled._found() is compiled.kernel
    monkeypatch.setitem(sys.modules, "aipc.quant._kernel", SimpleNamespace(**stale))
    assert compiled._found() is None
