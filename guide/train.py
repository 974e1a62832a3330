"""Train the guide's network: `python -m guide` does it and all the rest, this module only the training.

Stopped at any moment, the same command goes on from the last save. Runs on CUDA where there is one, else on the CPU.
The same seed, text and number of threads give the same weights on the same machine.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from guide.copying import look_back
from guide.corpus import TRAINING_SEED, Corpus
from guide.curve import write_curve
from guide.documents import Document
from guide.export import write_checkpoint
from guide.network import Network
from guide.packing import ROW_TOKENS, TOKENS_PER_BATCH, Batch, Encoded, batches, encode, repeats, with_repeats
from guide.shape import Shape
from guide.tokenizer import read_tokenizer, write_tokenizer

SAVE_EVERY_S = 120.0
REPORT_EVERY_S = 10.0
WARM_UP_STEPS = 100
TOKENIZER_DOCUMENTS = 25_000


@dataclass(frozen=True)
class Plan:
    """The first `copying_steps` are of repeated random tokens, and a share of each later batch is: text alone would
    make the network forget to copy before it has a use for it. The share falls to nothing where `rounding_from` is
    reached, the share of the steps after which every other step sees weights rounded to INT4.
    """

    documents: int = 270_000
    epochs: float = 1.0
    copying_steps: int = 100
    copying_share: float = 0.25
    learning_rate: float = 1.2e-3
    last_learning_rate: float = 5e-5
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    rounding_from: float = 0.7
    seed: int = TRAINING_SEED


Loss = Callable[[Network, Tensor, Tensor, Tensor], Tensor]


def weighted_loss(network: Network, ids: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Nats for each token that counts; all (rows, tokens)."""
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=has_fast_bfloat16(ids.device)):
        logits = network(ids)
    loss_of_token = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return (loss_of_token * weights.flatten()).sum() / weights.sum()


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by the processor itself; where it is not, it is slower than float32."""
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())


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
    loss: Loss = weighted_loss

    def __post_init__(self) -> None:
        matrices = [p for p in self.network.parameters() if p.dim() > 1]
        vectors = [p for p in self.network.parameters() if p.dim() == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": self.plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=self.plan.learning_rate,
            betas=(0.9, 0.95),
        )
        self.steps_per_epoch = len(batches(self.encoded, seed=self.plan.seed))
        self.steps = self.plan.copying_steps + max(1, round(self.plan.epochs * self.steps_per_epoch))

    @property
    def save_path(self) -> Path:
        return self.out / "training.pt"

    def batches_from_here(self) -> Iterator[Batch]:
        """A step's batch depends on the plan alone. Each epoch has an order of its own."""
        plan = self.plan
        while self.step < plan.copying_steps:
            length = ROW_TOKENS[0]
            yield repeats(TOKENS_PER_BATCH // length, length, np.random.default_rng((plan.seed, self.step)))
        while self.step < self.steps:
            epoch, done = divmod(self.step - plan.copying_steps, self.steps_per_epoch)
            for batch in batches(self.encoded, seed=plan.seed + epoch)[done:]:
                share = plan.copying_share * max(0.0, 1 - self.step / (plan.rounding_from * self.steps))
                yield with_repeats(batch, share, seed=self.step) if share else batch

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
    loss = run.loss(run.network, ids, targets, weights)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), run.plan.gradient_norm)
    run.optimizer.step()
    return float(loss.detach())


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
    network = Network(Shape())
    look_back(network)
    network.to(device)
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


def make_checkpoint(
    out: Path, plan: Plan, *, device: torch.device, compiled: bool = True, stop_after_s: float | None = None
) -> Path | None:
    """Train, or go on training, in the directory `out`; the checkpoint's directory, or None when there is more to do.

    `compiled` doubles the speed and needs a C++ compiler.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = start(plan, out, device)
    if compiled:
        run.loss = torch.compile(weighted_loss, dynamic=False)
    run.resume()
    finished = train(run, stop_after_s=stop_after_s)
    write_curve(out / "loss.png", run.losses)
    checkpoint = write_checkpoint(run.network, out / "tokenizer", out / "checkpoint")
    figures = {"loss": sum(run.losses[-100:]) / len(run.losses[-100:]), "trained_s": run.trained_s}
    (out / "training.json").write_text(json.dumps(asdict(plan) | figures, indent=1), encoding="utf-8")
    return checkpoint if finished else None
