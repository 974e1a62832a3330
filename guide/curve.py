"""The loss curve as a PNG, drawn with numpy alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, MARGIN = 800, 400, 40
INK, LIGHT, LINE = (40, 40, 40), (225, 225, 225), (30, 90, 200)
# Digits in 3 x 5 points, a row a number of three bits.
DIGITS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71222",
    "8": "75757", "9": "75717", ".": "00002",
}  # fmt: skip
POINT = 2  # pixels

Picture = NDArray[np.uint8]


def write_curve(path: Path, losses: Sequence[float], *, smoothing: int = 25) -> None:
    """Loss in nats for each token, over steps: a mean over `smoothing` steps, with the axes' values."""
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    values = _smoothed(np.asarray(losses, np.float64), smoothing)
    top = float(np.ceil(values.max())) if len(values) else 1.0
    for value in np.linspace(0, top, 5):
        row = _row(value, top)
        picture[row, MARGIN : WIDTH - MARGIN // 2] = LIGHT
        _write(picture, f"{value:.1f}", row - 5, 4)
    for share in np.linspace(0, 1, 5):
        column = int(MARGIN + share * (WIDTH - 1.5 * MARGIN))
        _write(picture, str(round(share * len(losses))), HEIGHT - MARGIN + 8, column - 12)
    picture[MARGIN // 2 : HEIGHT - MARGIN, MARGIN] = INK
    picture[HEIGHT - MARGIN, MARGIN : WIDTH - MARGIN // 2] = INK
    _draw_line(picture, values, top)
    path.write_bytes(_png(picture))


def _smoothed(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Each value is the mean of itself and up to `count` − 1 before it."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - count)
    means: NDArray[np.float64] = (total[ends] - total[starts]) / (ends - starts)
    return means


def _row(value: float, top: float) -> int:
    return int(HEIGHT - MARGIN - value / top * (HEIGHT - 1.5 * MARGIN))


def _draw_line(picture: Picture, values: NDArray[np.float64], top: float) -> None:
    columns = np.arange(MARGIN + 1, WIDTH - MARGIN // 2)
    if len(values) < 2:
        return
    at = np.interp(columns, [columns[0], columns[-1]], [0, len(values) - 1])
    rows = [_row(value, top) for value in np.interp(at, np.arange(len(values)), values)]
    for column, row, before in zip(columns, rows, [rows[0], *rows], strict=False):
        picture[min(row, before) : max(row, before) + 2, column] = LINE


def _write(picture: Picture, text: str, row: int, column: int) -> None:
    for index, character in enumerate(text):
        for y, bits in enumerate(DIGITS[character]):
            for x in range(3):
                if int(bits) >> (2 - x) & 1:
                    top, left = row + y * POINT, column + (index * 4 + x) * POINT
                    picture[top : top + POINT, left : left + POINT] = INK


def _png(picture: Picture) -> bytes:
    """https://www.w3.org/TR/png-3/: signature, header, deflated rows with filter 0, end."""
    height, width, _ = picture.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
