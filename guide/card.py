"""The model card: `python -m guide.card OUT` writes OUT/checkpoint/README.md from what training and scoring found."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

CARD = """---
license: mit
language: [en]
pipeline_tag: text-generation
tags: [phi3, aipc]
---
# Guide

The embedded model of aipc: Phi-3's architecture with {parameters:,} parameters ({megabytes:.1f} MB in FP16), trained
from nothing on text that aipc's own scripts write. It introduces itself and aipc, explains AI PCs, their processors
and quantisation, makes small talk, copies and quotes what it is given, and refuses politely what it does not know. It
knows nothing of the world and is often wrong, most of all in sums, lists, spelling and questions on a text: see the
scores below. Its use is that the first command answers without a download, and that tests run a real model.

| | |
|---|---|
| text | {documents:,} documents, {text_megabytes:.1f} MB, {tokens:,} tokens; seed {seed} |
| training | {steps:,} steps, {minutes:.0f} minutes, last loss {loss:.3f} nats for each token |
| held-out perplexity | {perplexity:.2f}, of documents that the same scripts write from another seed |
| held-out questions | {right} of {questions} right, worded unlike all that were trained on, answered greedily |
| exam | {exam} right, by somebody who had not read the text; {exam_otherwise} of those worded otherwise than in it |
| model.safetensors | sha256 {sha256} |

Right answers by topic: {by_topic}; in the exam: {exam_by_topic}.
{recipes}
Made by `python -m guide --out DIRECTORY`. ![loss](loss.png)
"""
RECIPES = """
| weights | KL divergence from FP16 (nats) | same likeliest token | in OpenVINO | same |
|---|---|---|---|---|
{rows}
"""


def card_of(out: Path) -> str:
    """Raises `FileNotFoundError` for what has not been run yet: training or evaluation."""
    text, training, evaluation = (
        json.loads((out / name).read_text(encoding="utf-8"))
        for name in ("text.json", "training.json", "evaluation.json")
    )
    weights = (out / "checkpoint" / "model.safetensors").read_bytes()
    return CARD.format(
        parameters=_parameter_count(weights),
        megabytes=len(weights) / 1e6,
        text_megabytes=text["characters"] / 1e6,
        documents=text["documents"],
        tokens=text["tokens"],
        steps=text["steps"],
        seed=training["seed"],
        minutes=training["trained_s"] / 60,
        loss=training["loss"],
        perplexity=evaluation["perplexity"],
        right=evaluation["right"],
        questions=evaluation["questions"],
        exam=_share(evaluation["exam"]),
        exam_otherwise=_share(evaluation["exam"]["worded_otherwise"]),
        sha256=hashlib.sha256(weights).hexdigest(),
        by_topic=_topics(evaluation),
        exam_by_topic=_topics(evaluation["exam"]),
        recipes=_recipe_table(evaluation.get("recipes", {})),
    )


def _share(scored: dict[str, Any]) -> str:
    return f"{scored['right']} of {scored['questions']}"


def _topics(scored: dict[str, Any]) -> str:
    return ", ".join(f"{topic} {share}" for topic, share in scored["by_topic"].items())


def _parameter_count(weights: bytes) -> int:
    """From the header of the safetensors file."""
    size = int.from_bytes(weights[:8], "little")
    header: dict[str, Any] = json.loads(weights[8 : 8 + size])
    ends: list[int] = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return max(ends) // 2


def _recipe_table(recipes: dict[str, dict[str, float]]) -> str:
    if not recipes:
        return ""
    rows = [f"| {label} | {_figures(found)} | {_figures(found, 'openvino_')} |" for label, found in recipes.items()]
    return RECIPES.format(rows="\n".join(rows))


def _figures(found: dict[str, float], engine: str = "") -> str:
    return f"{found[f'{engine}kl']:.5f} | {found[f'{engine}top1']:.2%}"


def write_card(out: Path) -> None:
    """Write the card and the picture of the loss into the checkpoint. Raises as `card_of`."""
    (out / "checkpoint" / "README.md").write_text(card_of(out), encoding="utf-8", newline="\n")
    shutil.copyfile(out / "loss.png", out / "checkpoint" / "loss.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the guide's card.")
    parser.add_argument("out", type=Path, help="the directory that training wrote")
    write_card(parser.parse_args().out)


if __name__ == "__main__":
    main()
