"""Make the guide: `python -m guide --out DIRECTORY` writes the text, trains, scores, and writes the model card.

DIRECTORY/checkpoint is then what aipc ships. Stopped at any moment, the same command goes on from the last save.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from guide.card import write_card
from guide.evaluate import evaluate
from guide.train import Plan, make_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m guide", description="Make the guide: train, score, write its card."
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for saves, figures and the checkpoint")
    parser.add_argument("--documents", type=int, default=Plan.documents)
    parser.add_argument("--epochs", type=float, default=Plan.epochs)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: as PyTorch chooses)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--no-compile", dest="compiled", action="store_false", help="half as fast, but needs no C++ compiler"
    )
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="stop training then, to go on later")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    checkpoint = make_checkpoint(
        arguments.out,
        Plan(documents=arguments.documents, epochs=arguments.epochs),
        device=torch.device(arguments.device),
        compiled=arguments.compiled,
        stop_after_s=arguments.stop_after,
    )
    if checkpoint is None:
        print("not finished: the same command goes on")
        return
    evaluate(checkpoint, recipes=True)
    write_card(arguments.out)
    print(checkpoint)


if __name__ == "__main__":
    main()
