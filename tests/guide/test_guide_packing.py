"""Documents as rows of tokens, and rows of repeats."""

from __future__ import annotations

import numpy as np
import pytest

from guide.packing import ROW_TOKENS, TOKENS_PER_BATCH, Batch, Encoded, batches, repeats, with_repeats
from guide.tokenizer import FIRST_ADDED, IDS


def encoded(count: int, *, seed: int = 0) -> list[Encoded]:
    random = np.random.default_rng(seed)
    lengths = random.integers(5, 700, count)
    return [Encoded(random.integers(3, FIRST_ADDED, n).astype(np.int32), np.ones(n, np.float32)) for n in lengths]


def test_each_document_stands_whole_in_one_row() -> None:
    documents = encoded(1000)
    found = {
        bytes(part.tobytes())
        for batch in batches(documents, seed=1)
        for row in np.concatenate([batch.ids, batch.targets[:, -1:]], axis=1)
        for part in _without_end(row)
    }
    whole = sum(any(one.ids.tobytes() in row for row in found) for one in documents)
    assert whole >= 0.9 * len(documents)  # the last few rows that fill no batch are left out


def _without_end(row: np.ndarray) -> list[np.ndarray]:
    ends = np.flatnonzero(row == IDS["<|endoftext|>"])
    return [row[: ends[0]] if len(ends) else row]


def test_a_batch_has_as_many_tokens_whatever_its_rows_length() -> None:
    made = batches(encoded(300), seed=1)
    assert {batch.ids.shape[1] for batch in made} <= set(ROW_TOKENS)
    assert all(batch.ids.size == TOKENS_PER_BATCH for batch in made)
    assert all((batch.ids[:, 1:] == batch.targets[:, :-1]).all() for batch in made)


def test_repeats_can_be_told_by_looking_back_and_count_only_then() -> None:
    batch = repeats(20, 256, np.random.default_rng(3))
    for ids, targets, weights in zip(batch.ids, batch.targets, batch.weights, strict=True):
        period = int(np.flatnonzero(weights)[0]) + 1
        said = np.append(ids, targets[-1])
        assert (said[period:] == said[:-period]).all()
        assert not weights[: period - 1].any()
        assert weights[period - 1 :].all()
    assert batch.ids.min() >= 3
    assert batch.ids.max() < FIRST_ADDED


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_about_that_share_of_the_rows_becomes_repeats_and_the_others_stay(share: float) -> None:
    original = Batch(*(np.full((200, 256), 7, kind) for kind in (np.int32, np.int32, np.float32)))
    mixed = with_repeats(original, share, seed=5)
    kept = (mixed.ids == 7).all(axis=1) & (mixed.weights == 7).all(axis=1)
    assert abs((1 - kept.mean()) - share) < 0.1
    assert (original.ids == 7).all()
