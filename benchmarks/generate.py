"""Compare two OpenVINO IR directories on one device: speed in alternation, and the plugin's graphs.

    python benchmarks/generate.py DIR_A DIR_B [--attention PA|SDPA|both] [--repeat 7] [--property KEY=VALUE …]

A is ours, B the peer's. Prints one JSON document; progress goes to stderr. README.md beside this file says
what the fields mean.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from environment import machine, own_versions
from ir import constant_bytes, runtime_nodes

FIRST_TEXT_TOKEN = 259  # ids below are control and byte tokens in a Llama-like vocabulary
LAST_TEXT_TOKEN = 31_999


class Side:
    """One model on the device, through `openvino_genai.LLMPipeline`."""

    def __init__(self, folder: Path, *, attention: str, options: argparse.Namespace) -> None:
        import openvino_genai

        start = time.perf_counter()
        self.options = options
        # With no back end named, a model that paged attention refuses runs on the other one in silence.
        self.pipeline = openvino_genai.LLMPipeline(
            str(folder), options.device, ATTENTION_BACKEND=attention, **options.properties
        )
        self.config = openvino_genai.GenerationConfig(
            max_new_tokens=options.decode_tokens, ignore_eos=True, do_sample=False
        )
        self.load_s = time.perf_counter() - start

    def generate(self, prompt_ids: np.ndarray) -> tuple[dict, list[int]]:
        """Return the timing of one generation, in milliseconds, and its tokens."""
        import openvino

        streamer = _clock()
        start = time.perf_counter()
        self.pipeline.generate(openvino.Tensor(prompt_ids), self.config, streamer)
        times, tokens = streamer.times_s, streamer.tokens
        if len(tokens) != self.options.decode_tokens:
            raise RuntimeError(f"expected {self.options.decode_tokens} tokens, found {len(tokens)}")
        per_token = [1000 * (after - before) for before, after in pairwise(times)]
        timing = {"ttft_ms": 1000 * (times[0] - start), "tpot_ms": statistics.mean(per_token)}
        return timing | {"median_token_ms": statistics.median(per_token)}, tokens


def _clock():
    """Return a streamer that notes when each token arrived."""
    import openvino_genai

    class Clock(openvino_genai.StreamerBase):
        def __init__(self) -> None:
            super().__init__()
            self.times_s: list[float] = []
            self.tokens: list[int] = []

        def write(self, token):
            now = time.perf_counter()
            arrived = [token] if isinstance(token, int) else list(token)
            self.times_s += [now] * len(arrived)
            self.tokens += arrived
            return openvino_genai.StreamingStatus.RUNNING

        def end(self) -> None: ...

    return Clock()


def compare(options: argparse.Namespace, *, attention: str) -> dict:
    """Time A B, B A, A B, …, each pair on a fresh random prompt, after one uncounted generation each."""
    folders = {"a": options.dir_a, "b": options.dir_b}
    sides = {name: Side(folder, attention=attention, options=options) for name, folder in folders.items()}
    generator = np.random.default_rng(options.seed)
    first = {name: side.generate(_prompt(generator, options))[0] for name, side in sides.items()}
    runs: dict[str, list[dict]] = {name: [] for name in sides}
    equal_tokens = []
    for repetition in range(options.repeat):
        print(f"{attention}: pair {repetition + 1} of {options.repeat}", file=sys.stderr)
        prompt, tokens = _prompt(generator, options), {}
        for name in ("a", "b") if repetition % 2 == 0 else ("b", "a"):
            timing, tokens[name] = sides[name].generate(prompt)
            runs[name].append(timing)
        equal_tokens.append(_common_prefix(tokens["a"], tokens["b"]))
    return {
        "load_s": {name: round(side.load_s, 3) for name, side in sides.items()},
        "first_generation": first,
        "runs": runs,
        "summary": {name: _summary(rows) for name, rows in runs.items()},
        "speed_of_a_over_b": _ratios(runs),
        "equal_tokens_before_the_first_difference": equal_tokens,
    }


def _prompt(generator: np.random.Generator, options: argparse.Namespace) -> np.ndarray:
    """Return fresh random ids, (1, tokens): the pipeline keeps the keys and values of prompts it has seen."""
    return generator.integers(FIRST_TEXT_TOKEN, LAST_TEXT_TOKEN, size=(1, options.prefill_tokens), dtype=np.int64)


def _common_prefix(one: list[int], other: list[int]) -> int:
    return next((index for index, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]), len(one))


def _summary(rows: list[dict]) -> dict:
    return {key: _spread([row[key] for row in rows]) for key in rows[0]}


def _ratios(runs: dict[str, list[dict]]) -> dict:
    """Return B's time over A's, pair by pair: above 1, A is faster."""
    pairs = list(zip(runs["a"], runs["b"], strict=True))
    return {key: _spread([b[key] / a[key] for a, b in pairs]) for key in runs["a"][0]}


def _spread(values: list[float]) -> dict:
    spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {key: round(value, 3) for key, value in spread.items()}


def graphs(options: argparse.Namespace, *, attention: str) -> dict:
    """Return the plugin's node counts of both models, and where they differ as [A, B]."""
    a, b = (
        runtime_nodes(
            folder / "openvino_model.xml",
            attention=attention,
            device=options.device,
            properties=options.properties,
        )
        for folder in (options.dir_a, options.dir_b)
    )
    kinds = sorted(a.keys() | b.keys())
    return {
        "a": a,
        "b": b,
        "different": {k: [a.get(k, 0), b.get(k, 0)] for k in kinds if a.get(k) != b.get(k)},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare two OpenVINO IR directories on one device.")
    parser.add_argument("dir_a", type=Path)
    parser.add_argument("dir_b", type=Path)
    parser.add_argument("--attention", choices=("PA", "SDPA", "both"), default="both")
    parser.add_argument("--device", default="CPU")
    parser.add_argument("--prefill-tokens", type=int, default=512)
    parser.add_argument("--decode-tokens", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--graphs-only", action="store_true")
    parser.add_argument("--property", action="append", default=[], metavar="KEY=VALUE", help="for both models")
    options = parser.parse_args()
    options.properties = dict(each.split("=", 1) for each in options.property)
    return options


def main() -> None:
    options = _arguments()
    attentions = ("PA", "SDPA") if options.attention == "both" else (options.attention,)
    document = {
        "benchmark": "generate",
        "device": options.device,
        "properties": options.properties,
        "prefill_tokens": options.prefill_tokens,
        "decode_tokens": options.decode_tokens,
        "machine": machine(),
        "versions": own_versions(),
        "models": {
            name: {"folder": folder.name, "constant_bytes": constant_bytes(folder / "openvino_model.xml")}
            for name, folder in (("a", options.dir_a), ("b", options.dir_b))
        },
        "graphs": {attention: graphs(options, attention=attention) for attention in attentions},
    }
    if not options.graphs_only:
        document["speed"] = {attention: compare(options, attention=attention) for attention in attentions}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
