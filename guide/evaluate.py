"""How good a trained guide is: `python -m guide.evaluate CHECKPOINT` writes evaluation.json beside it.

The held-out questions are answered greedily and each answer is compared with what a right one has; perplexity is that
of documents which the same scripts wrote from another seed. With `--recipes` every quantisation is compared with FP16
over such documents: KL divergence and top-1 agreement, by numpy on the dequantised weights and by OpenVINO on the
converted directory, computing in float32.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aipc.chat import Chat
from aipc.chat import Message as ChatMessage
from aipc.checkpoint import Checkpoint
from aipc.conversion import write_model
from aipc.graph.numpy import NumpyModel
from aipc.openvino_import import import_openvino
from aipc.plan import make_plan
from aipc.quant.recipe import Recipe
from aipc.store import Origin
from guide.corpus import HELD_OUT_SEED, Corpus
from guide.dialogues import Library
from guide.held_out import EXAM, Question, read_held_out
from guide.held_out.trained import trained_wordings
from guide.packing import Encoded, encode
from guide.tokenizer import read_tokenizer

LONGEST_ANSWER_TOKENS = 120
HELD_OUT_DOCUMENTS = 150
RECIPES = (
    Recipe("int8"),
    Recipe("int8", symmetric=True),
    Recipe("int4", 32),
    Recipe("int4", 64),
    Recipe("int4", 128),
    Recipe("int4", -1),
    Recipe("int4", 128, symmetric=False),
    Recipe("int4", 128, ratio=0.6),
    Recipe("int4", 128, all_layers=True),
)

FP16 = Recipe("fp16")
# Without these the CPU plugin may compute in bfloat16, keep the KV cache in INT8 and quantise activations.
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}

Logits = NDArray[np.float32]


class Runs(Protocol):
    """A model that runs one sequence at a time."""

    def reset(self) -> None:
        """Forget the sequence."""

    def logits(self, token_ids: Sequence[int]) -> Logits:
        """Append tokens; gives the logits after each of them, (new tokens, vocabulary)."""
        ...


@dataclass(frozen=True)
class Answered:
    """A held-out question and what the model said."""

    question: Question
    answer: str

    @property
    def right(self) -> bool:
        return self.question.is_answered_by(self.answer)


def numpy_model(checkpoint_dir: Path, recipe: Recipe) -> NumpyModel:
    """NumPy on the weights of a checkpoint, quantised and dequantised by `recipe`."""
    weights = {}
    with Checkpoint(checkpoint_dir) as checkpoint:
        plan = make_plan(checkpoint, recipe)
        for planned in plan.weights:
            weight, scheme = planned.use.weight, planned.scheme
            values = scheme.dequantize(scheme.quantize(checkpoint.rows(weight)))
            weights[weight.name] = values.reshape(weight.shape)
    return NumpyModel(plan.architecture, lambda weight: weights[weight.name])


class OpenVinoModel:
    """A converted directory on the CPU, in float32."""

    def __init__(self, model_dir: Path) -> None:
        core = import_openvino().Core()
        compiled = core.compile_model(core.read_model(model_dir / "openvino_model.xml"), "CPU", EXACT)
        self._request = compiled.create_infer_request()
        self._past = 0

    def reset(self) -> None:
        self._request.reset_state()
        self._past = 0

    def logits(self, token_ids: Sequence[int]) -> Logits:
        total = self._past + len(token_ids)
        inputs = {
            "input_ids": np.array([token_ids], np.int64),  # (1, tokens)
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(self._past, total)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        self._past = total
        return np.array(self._request.infer(inputs)["logits"][0])


def openvino_model(checkpoint_dir: Path, recipe: Recipe, work: Path) -> OpenVinoModel:
    """OpenVINO on what aipc converts a checkpoint to; it is written into the directory `work`."""
    origin = Origin(checkpoint_dir.name, str(checkpoint_dir))
    return OpenVinoModel(write_model(checkpoint_dir, origin, work / recipe.label, recipe).path)


def answers(checkpoint_dir: Path, questions: Sequence[Question], recipe: Recipe) -> list[Answered]:
    """Greedy answers."""
    model, chat = numpy_model(checkpoint_dir, recipe), Chat.load(checkpoint_dir)
    return [Answered(question, _answer(model, chat, question)) for question in questions]


def _answer(model: NumpyModel, chat: Chat, question: Question) -> str:
    turns = [*question.earlier, question.text]
    messages = [ChatMessage("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(turns)]
    model.reset()
    ids: list[int] = []
    following = chat.prompt_ids(messages)
    while len(ids) < LONGEST_ANSWER_TOKENS:
        token = int(model.logits(following)[-1].argmax())
        if token in chat.tokenizer.stop_token_ids:
            break
        ids.append(token)
        following = [token]
    return chat.tokenizer.decode(ids)


def score(answered: Sequence[Answered]) -> dict[str, Any]:
    """Shares of right answers, in all and by topic."""
    asked = Counter(one.question.topic for one in answered)
    right = Counter(one.question.topic for one in answered if one.right)
    by_topic = {topic: f"{right[topic]}/{count}" for topic, count in asked.items()}
    return {"questions": len(answered), "right": right.total(), "by_topic": by_topic}


def _worded_otherwise(answered: Sequence[Answered]) -> list[Answered]:
    """Those whose question is not in the training text by chance."""
    known = {text for text, _ in trained_wordings(Library.read(), [one.question.text for one in answered])}
    return [one for one in answered if one.question.text not in known]


def held_out_documents(checkpoint_dir: Path) -> list[Encoded]:
    """Documents that are not those of training, with the same weights of their tokens."""
    documents = list(islice(Corpus(HELD_OUT_SEED), HELD_OUT_DOCUMENTS))
    return encode(documents, read_tokenizer(checkpoint_dir))


def all_logits(model: Runs, documents: Sequence[Encoded]) -> list[Logits]:
    """The logits after each token but the last, of each document on its own."""
    found = []
    for document in documents:
        model.reset()
        found.append(model.logits(document.ids[:-1].tolist()))
    return found


def perplexity(logits: Sequence[Logits], documents: Sequence[Encoded]) -> float:
    """exp of the mean loss in nats over the tokens that the model is to write."""
    losses, counts = 0.0, 0
    for one, document in zip(logits, documents, strict=True):
        counted = document.weights[1:] == 1
        likelihood = log_softmax(one)[np.arange(len(one)), document.ids[1:]]
        losses -= float(likelihood[counted].sum())
        counts += int(counted.sum())
    return float(np.exp(losses / counts))


def compare(reference: Sequence[Logits], other: Sequence[Logits]) -> dict[str, float]:
    """Mean KL divergence of `other` from `reference` in nats, and the share of tokens with the same likeliest next."""
    divergences, same = [], []
    for one, two in zip(reference, other, strict=True):
        expected, found = log_softmax(one), log_softmax(two)
        divergences.append((np.exp(expected) * (expected - found)).sum(-1))
        same.append(one.argmax(-1) == two.argmax(-1))
    return {"kl": float(np.concatenate(divergences).mean()), "top1": float(np.concatenate(same).mean())}


def log_softmax(logits: Logits) -> Logits:
    """Natural-log probabilities, over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), np.float32)


def compare_recipes(
    checkpoint_dir: Path,
    documents: Sequence[Encoded],
    reference: Sequence[Logits],
    recipes: Iterable[Recipe] = (FP16, *RECIPES),
) -> dict[str, dict[str, float]]:
    """Every recipe's `kl` and `top1`, by numpy and by OpenVINO, against `reference`, which is FP16 by numpy."""
    found = {}
    with TemporaryDirectory() as work:
        for recipe in recipes:
            by_numpy = compare(reference, all_logits(numpy_model(checkpoint_dir, recipe), documents))
            by_openvino = compare(reference, all_logits(openvino_model(checkpoint_dir, recipe, Path(work)), documents))
            found[recipe.label] = by_numpy | {f"openvino_{key}": value for key, value in by_openvino.items()}
    return found


def evaluate(checkpoint_dir: Path, *, recipes: bool, weights: str = "fp16") -> None:
    """Print every held-out question and answer; write the figures into evaluation.json beside the checkpoint."""
    answered = answers(checkpoint_dir, read_held_out(), Recipe(weights))
    examined = answers(checkpoint_dir, read_held_out(EXAM), Recipe(weights))
    for one in answered + examined:
        verdict = "right" if one.right else "WRONG"
        print(f"{verdict}  [{one.question.topic}] {one.question.text!r}\n       {one.answer!r}")
    documents = held_out_documents(checkpoint_dir)
    reference = all_logits(numpy_model(checkpoint_dir, FP16), documents)
    figures = {"weights": weights, "perplexity": perplexity(reference, documents), **score(answered)}
    figures["exam"] = {**score(examined), "worded_otherwise": score(_worded_otherwise(examined))}
    if recipes:
        figures["recipes"] = compare_recipes(checkpoint_dir, documents, reference)
    path = checkpoint_dir.with_name("evaluation.json")
    path.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(json.dumps(figures, indent=1), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Score a trained guide.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--recipes", action="store_true", help="compare every quantisation with FP16")
    parser.add_argument("--weights", default="fp16", help="format in which the questions are answered (fp16)")
    arguments = parser.parse_args()
    evaluate(arguments.checkpoint, recipes=arguments.recipes, weights=arguments.weights)


if __name__ == "__main__":
    main()
