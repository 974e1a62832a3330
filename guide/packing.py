"""Documents as token ids, packed into rows of one length, with how much each token counts in the loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guide.documents import Document
from guide.tokenizer import CONTEXT_TOKENS, FIRST_ADDED, IDS

# A document goes into rows of the first length that holds it: attention costs less in short rows.
ROW_TOKENS = (256, 512, CONTEXT_TOKENS)
TOKENS_PER_BATCH = 4096
# What the model is not to write is learned a little too: that teaches it the words people use.
USER_WEIGHT = 0.1
OPEN_ROWS = 32
ENCODED_AT_ONCE = 1000
FIRST_UNNAMED = 3  # <unk>, <s> and </s> come before
SHORTEST_PERIOD, LONGEST_PERIOD = 6, 100  # tokens that are said over and over


@dataclass(frozen=True)
class Encoded:
    """`weights[i]` is how much predicting `ids[i]` counts."""

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """(rows, tokens) each; the token at `targets[r, t]` follows the one at `ids[r, t]`."""

    ids: NDArray[np.int32]
    targets: NDArray[np.int32]
    weights: NDArray[np.float32]


def encode(documents: Sequence[Document], tokenizer: Any) -> list[Encoded]:
    """Documents longer than the context are left out."""
    encoded: list[Encoded] = []
    for begin in range(0, len(documents), ENCODED_AT_ONCE):  # the library keeps much for each token
        some = documents[begin : begin + ENCODED_AT_ONCE]
        encodings = tokenizer.encode_batch([document.rendered() for document in some], add_special_tokens=False)
        encoded += [
            _weighted(np.array(encoding.ids, np.int32), is_text=not document.messages)
            for document, encoding in zip(some, encodings, strict=True)
        ]
    return [one for one in encoded if len(one.ids) <= CONTEXT_TOKENS]


def _weighted(ids: NDArray[np.int32], *, is_text: bool) -> Encoded:
    """The answers and their ends count in full, a plain text too, the user's words a little, the marks not at all."""
    if is_text:
        return Encoded(ids, np.ones(len(ids), np.float32))
    weights = np.zeros(len(ids), np.float32)
    weight_of = {IDS["<|assistant|>"]: 1.0, IDS["<|user|>"]: USER_WEIGHT, IDS["<|system|>"]: 0.0}
    speaker = 0.0
    for position, token in enumerate(ids.tolist()):
        weights[position] = 0.0 if token in weight_of else speaker
        if token == IDS["<|end|>"]:
            speaker = 0.0
        speaker = weight_of.get(token, speaker)
    return Encoded(ids, weights)


def repeats(rows: int, length: int, random: np.random.Generator) -> Batch:
    """Rows of random tokens that are said over and over; all count but those of the first time. What comes next can
    only be told by looking back for what followed last time.
    """
    ids, weights = np.empty((rows, length + 1), np.int32), np.zeros((rows, length + 1), np.float32)
    for row in range(rows):
        period = int(random.integers(SHORTEST_PERIOD, LONGEST_PERIOD))
        ids[row] = np.resize(random.integers(FIRST_UNNAMED, FIRST_ADDED, period, np.int32), length + 1)
        weights[row, period:] = 1
    return Batch(ids[:, :-1], ids[:, 1:], weights[:, 1:])


def with_repeats(batch: Batch, share: float, *, seed: int) -> Batch:
    """The batch with about that share of its rows exchanged for repeats; which rows depends on `seed`."""
    random = np.random.default_rng(seed)
    chosen = np.flatnonzero(random.random(len(batch.ids)) < share)
    made = repeats(len(chosen), batch.ids.shape[1], random)
    parts = []
    for part, other in ((batch.ids, made.ids), (batch.targets, made.targets), (batch.weights, made.weights)):
        parts.append(part.copy())
        parts[-1][chosen] = other
    return Batch(*parts)


def batches(encoded: Iterable[Encoded], *, seed: int) -> list[Batch]:
    """All documents once, in an order that depends on `seed`. What room long rows have is filled with short ones, so
    that these stand at every place of the context too.
    """
    random = np.random.default_rng(seed)
    documents = list(encoded)
    order = [documents[i] for i in random.permutation(len(documents))]
    made: list[Batch] = []
    for length, shorter in zip(reversed(ROW_TOKENS), [*reversed(ROW_TOKENS[:-1]), 0], strict=True):
        rows = _rows([one for one in order if len(one.ids) > shorter], length)
        order = _filled(rows, [one for one in order if len(one.ids) <= shorter], length)
        made += _batches_of(rows, length)
    return [made[i] for i in random.permutation(len(made))]


def _rows(documents: Iterable[Encoded], length: int) -> list[list[Encoded]]:
    """Each document goes whole into the fullest open row that has room for it."""
    open_rows: list[tuple[int, list[Encoded]]] = []
    closed: list[list[Encoded]] = []
    for one in documents:
        fitting = [i for i, (room, _) in enumerate(open_rows) if room >= len(one.ids)]
        if fitting:
            room, row = open_rows.pop(min(fitting, key=lambda i: open_rows[i][0]))
        else:
            room, row = length, []
        row.append(one)
        open_rows.append((room - len(one.ids), row))
        if len(open_rows) > OPEN_ROWS:
            fullest = min(range(len(open_rows)), key=lambda i: open_rows[i][0])
            closed.append(open_rows.pop(fullest)[1])
    return closed + [row for _, row in open_rows]


def _filled(rows: list[list[Encoded]], documents: list[Encoded], length: int) -> list[Encoded]:
    """Put documents into the room that rows have left; gives those that are left over."""
    left = list(documents)
    for row in rows:
        room = length - sum(len(one.ids) for one in row)
        while left and len(left[-1].ids) <= room:
            room -= len(left[-1].ids)
            row.append(left.pop())
    return left


def _batches_of(rows: list[list[Encoded]], length: int) -> list[Batch]:
    """The last few rows that fill no batch are left out, unless they are all there is."""
    ids = np.full((len(rows), length + 1), IDS["<|endoftext|>"], np.int32)
    weights = np.zeros((len(rows), length + 1), np.float32)
    for index, row in enumerate(rows):
        joined = np.concatenate([one.ids for one in row])
        ids[index, : len(joined)] = joined
        weights[index, : len(joined)] = np.concatenate([one.weights for one in row])
    count = max(1, TOKENS_PER_BATCH // length)
    starts = range(0, len(rows) - len(rows) % count or len(rows), count)
    return [Batch(ids[i : i + count, :-1], ids[i : i + count, 1:], weights[i : i + count, 1:]) for i in starts]
