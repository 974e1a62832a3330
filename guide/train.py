"""Train the guide: `python -m guide.train --out DIRECTORY` writes the text, the tokenizer, the weights and the card.

Stopped at any moment, the same command goes on from the last save. Runs on CUDA where there is one, else on the CPU.
The same seed, text and number of threads give the same weights on the same machine.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from guide.corpus import TRAINING_SEED, Corpus
from guide.curve import write_curve
from guide.documents import Document
from guide.export import write_checkpoint
from guide.network import Network
from guide.packing import Batch, Encoded, batches, encode
from guide.shape import Shape
from guide.tokenizer import read_tokenizer, write_tokenizer

SAVE_EVERY_S = 120.0
REPORT_EVERY_S = 10.0
WARM_UP_STEPS = 100
TOKENIZER_DOCUMENTS = 25_000


@dataclass(frozen=True)
class Plan:
    """`rounding_from` is the share of the steps after which every other step sees weights rounded to INT4."""

    documents: int = 90_000
    epochs: float = 1.0
    learning_rate: float = 2.5e-3
    last_learning_rate: float = 5e-5
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    rounding_from: float = 0.7
    seed: int = TRAINING_SEED


@dataclass
class Run:
    """A training run under way: what a save holds, and what it was started with."""

    plan: Plan
    out: Path
    network: Network
    encoded: list[Encoded]
    device: torch.device
    step: int = 0
    trained_s: float = 0.0
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        matrices = [p for p in self.network.parameters() if p.dim() > 1]
        vectors = [p for p in self.network.parameters() if p.dim() == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": self.plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=self.plan.learning_rate,
            betas=(0.9, 0.95),
        )
        self.steps_per_epoch = len(batches(self.encoded, seed=self.plan.seed))
        self.steps = max(1, round(self.plan.epochs * self.steps_per_epoch))

    @property
    def save_path(self) -> Path:
        return self.out / "training.pt"

    def batches_from_here(self) -> Any:
        """Each epoch has an order of its own, so a step's batch depends on the plan alone."""
        while self.step < self.steps:
            epoch, done = divmod(self.step, self.steps_per_epoch)
            yield from batches(self.encoded, seed=self.plan.seed + epoch)[done:]

    def save(self) -> None:
        """Written aside and renamed: a save is whole or the one before it."""
        state = {
            "plan": asdict(self.plan),
            "step": self.step,
            "trained_s": self.trained_s,
            "losses": self.losses,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        temporary = self.save_path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.save_path)

    def resume(self) -> None:
        """Go on from the last save, if there is one. Raises `SystemExit` when it is of another plan."""
        if not self.save_path.is_file():
            return
        state = torch.load(self.save_path, map_location=self.device, weights_only=True)
        if state["plan"] != asdict(self.plan):
            raise SystemExit(f"{self.save_path} is of another plan, {state['plan']}: delete it, or name another --out")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.trained_s, self.losses = state["step"], state["trained_s"], state["losses"]
        _note(f"going on from step {self.step}")


def learning_rate(step: int, steps: int, plan: Plan) -> float:
    """A linear warm-up, then a cosine down to the last rate."""
    if step < WARM_UP_STEPS:
        return plan.learning_rate * (step + 1) / WARM_UP_STEPS
    done = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    height = plan.learning_rate - plan.last_learning_rate
    return plan.last_learning_rate + height * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def train_step(run: Run, batch: Batch) -> float:
    """One step of the optimizer; gives the loss in nats for each token that counts."""
    rounds = run.step >= run.plan.rounding_from * run.steps and run.step % 2 == 1
    run.network.round_weights(rounds)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.step, run.steps, run.plan)
    ids, targets = (torch.from_numpy(part).to(run.device).long() for part in (batch.ids, batch.targets))
    weights = torch.from_numpy(batch.weights).to(run.device)
    with torch.autocast(run.device.type, torch.bfloat16, enabled=has_fast_bfloat16(run.device)):
        logits = run.network(ids)
    loss_of_token = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    loss = (loss_of_token * weights.flatten()).sum() / weights.sum()
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), run.plan.gradient_norm)
    run.optimizer.step()
    return float(loss.detach())


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by the processor itself; where it is not, it is slower than float32."""
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())


def train(run: Run, *, stop_after_s: float | None = None) -> bool:
    """Train to the plan's end; False when `stop_after_s` came first. Saves every two minutes and at the end."""
    begun = saved = reported = time.perf_counter()
    before_s, tokens = run.trained_s, 0
    run.network.train()
    for batch in run.batches_from_here():
        if run.step >= run.steps or (stop_after_s is not None and time.perf_counter() - begun > stop_after_s):
            break
        run.losses.append(train_step(run, batch))
        run.step += 1
        tokens += batch.ids.size
        now = time.perf_counter()
        run.trained_s = before_s + now - begun
        if now - reported > REPORT_EVERY_S:
            reported = now
            _note(_progress(run, tokens / (now - begun), batch.ids.size))
        if now - saved > SAVE_EVERY_S:
            saved = now
            run.save()
    run.network.round_weights(False)
    run.save()
    return run.step >= run.steps


def _progress(run: Run, tokens_per_s: float, tokens_per_step: int) -> str:
    recent = run.losses[-50:]
    left_s = (run.steps - run.step) * tokens_per_step / tokens_per_s
    return (
        f"step {run.step}/{run.steps}  loss {sum(recent) / len(recent):.3f}  {tokens_per_s:.0f} tokens/s  "
        f"{run.trained_s / 60:.1f} min done, {left_s / 60:.1f} min left"
    )


def start(plan: Plan, out: Path, device: torch.device) -> Run:
    """Generate the text, train the tokenizer, and set up the network."""
    torch.manual_seed(plan.seed)
    documents = list(islice(Corpus(plan.seed), plan.documents))
    tokenizer_dir = out / "tokenizer"
    write_tokenizer(tokenizer_dir, _texts(documents[:TOKENIZER_DOCUMENTS]))
    encoded = encode(documents, read_tokenizer(tokenizer_dir))
    network = Network(Shape()).to(device)
    run = Run(plan, out, network, encoded, device)
    characters = sum(len(document.rendered()) for document in documents)
    tokens = sum(len(one.ids) for one in encoded)
    figures = {"documents": len(documents), "characters": characters, "tokens": tokens, "steps": run.steps}
    (out / "text.json").write_text(json.dumps(figures), encoding="utf-8")
    _note(f"{figures}, {network.shape.parameters:,} parameters, on {device}")
    return run


def _texts(documents: list[Document]) -> list[str]:
    return [text for document in documents for text in (document.text, *(m.content for m in document.messages)) if text]


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the guide.")
    parser.add_argument("--out", type=Path, required=True, help="directory for saves and the checkpoint")
    parser.add_argument("--documents", type=int, default=Plan.documents)
    parser.add_argument("--epochs", type=float, default=Plan.epochs)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: as PyTorch chooses)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="stop then, to go on later")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(documents=arguments.documents, epochs=arguments.epochs)
    run = start(plan, arguments.out, torch.device(arguments.device))
    run.resume()
    finished = train(run, stop_after_s=arguments.stop_after)
    write_curve(arguments.out / "loss.png", run.losses)
    checkpoint = write_checkpoint(run.network, arguments.out / "tokenizer", arguments.out / "checkpoint")
    figures = {
        "loss": sum(run.losses[-100:]) / len(run.losses[-100:]),
        "trained_s": run.trained_s,
        "finished": finished,
    }
    (arguments.out / "training.json").write_text(json.dumps(asdict(plan) | figures, indent=1), encoding="utf-8")
    print(checkpoint)


if __name__ == "__main__":
    main()
