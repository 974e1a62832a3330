"""The loss curve and the card."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from guide.card import card_of
from guide.curve import HEIGHT, WIDTH, write_curve
from guide.evaluate import compare, log_softmax


def test_the_curve_is_a_png_that_falls_as_the_loss_does(tmp_path: Path) -> None:
    write_curve(tmp_path / "loss.png", [8.0 - 7.0 * i / 500 for i in range(500)])
    data = (tmp_path / "loss.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    start = data.index(b"IDAT") + 4
    length = int.from_bytes(data[start - 8 : start - 4], "big")
    rows = np.frombuffer(zlib.decompress(data[start : start + length]), np.uint8).reshape(HEIGHT, 1 + WIDTH * 3)
    blue = (rows[:, 1:].reshape(HEIGHT, WIDTH, 3) == (30, 90, 200)).all(-1)
    heights = [int(np.flatnonzero(blue[:, column])[0]) for column in (60, 400, 760)]
    assert heights == sorted(heights)
    assert heights[0] < heights[2]


def test_a_curve_of_one_step_can_be_drawn(tmp_path: Path) -> None:
    write_curve(tmp_path / "loss.png", [8.0])
    assert (tmp_path / "loss.png").stat().st_size > 100


def test_the_card_states_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    save_file({"a": np.zeros((3, 4), np.float16)}, tmp_path / "checkpoint" / "model.safetensors")
    recipes = {"int8": {"kl": 0.0001, "top1": 0.999, "openvino_kl": 0.0002, "openvino_top1": 0.998}}
    figures = {
        "text.json": {"documents": 1234, "characters": 5_600_000, "tokens": 1_300_000, "steps": 77},
        "training.json": {"seed": 1, "trained_s": 600.0, "loss": 0.5},
        "evaluation.json": {"perplexity": 1.9, "right": 90, "questions": 200, "by_topic": {"aipc": "9/16"}},
    }
    exam = {"right": 70, "questions": 150, "by_topic": {"aipc": "5/14"}}
    exam["worded_otherwise"] = {"right": 40, "questions": 110, "by_topic": {}}
    figures["evaluation.json"] |= {"recipes": recipes, "exam": exam}
    for name, found in figures.items():
        (tmp_path / name).write_text(json.dumps(found), encoding="utf-8")
    card = card_of(tmp_path)
    digest = hashlib.sha256((tmp_path / "checkpoint" / "model.safetensors").read_bytes()).hexdigest()
    for stated in (
        "1,234 documents",
        "5.6 MB",
        "77 steps",
        "10 minutes",
        "90 of 200",
        "aipc 9/16",
        "70 of 150",
        "40 of 110",
        "aipc 5/14",
        "99.90%",
        "99.80%",
        digest,
    ):
        assert stated in card
    assert " 12 parameters" in card


def test_equal_logits_have_no_divergence_and_others_have_some() -> None:
    logits = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    assert compare([logits], [logits]) == pytest.approx({"kl": 0.0, "top1": 1.0})
    found = compare([logits], [-logits])
    assert found["kl"] > 0.1
    assert found["top1"] < 1
    assert np.exp(log_softmax(logits)).sum(-1) == pytest.approx(1)
