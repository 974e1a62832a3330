"""Time two ONNX Runtime GenAI directories against each other: prefill and decode, in alternation, each in a process.

    python benchmarks/generate_onnx.py OURS THEIRS [--prompt-tokens 512] [--new-tokens 32] [--repeat 5]

Every repetition is a process of its own with a prompt of its own, as runtimes keep what they computed. Prints one JSON
document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from environment import machine, own_versions


def measure_one(model_dir: str, *, prompt_tokens: int, new_tokens: int, seed: int) -> dict[str, float]:
    """Load, prefill and decode once, with a short warm-up before. Times in seconds."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import numpy as np
    import onnxruntime_genai as og

    begun = time.perf_counter()
    model = og.Model(model_dir)
    loaded = time.perf_counter()
    random = np.random.default_rng(seed)
    for prompt, new in ((random.integers(10, 1000, 8), 2), (random.integers(10, 1000, prompt_tokens), new_tokens)):
        parameters = og.GeneratorParams(model)
        length = len(prompt) + new
        parameters.set_search_options(max_length=length, min_length=length)
        generator = og.Generator(model, parameters)
        start = time.perf_counter()
        generator.append_tokens(prompt.astype(np.int32))
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(new - 1):
            generator.generate_next_token()
        end = time.perf_counter()
    return {
        "load_s": loaded - begun,
        "first_token_s": first - start,
        "per_token_s": (end - first) / (new_tokens - 1),
    }


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time two ONNX Runtime GenAI directories against each other.")
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path, nargs="?")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--one", type=int, metavar="SEED", help="measure OURS once, in this process")
    arguments = parser.parse_args()
    sizes = {"prompt_tokens": arguments.prompt_tokens, "new_tokens": arguments.new_tokens}
    if arguments.one is not None:
        print(json.dumps(measure_one(str(arguments.ours), **sizes, seed=arguments.one)))
        return
    sides = {"ours": arguments.ours, "theirs": arguments.theirs}
    runs: dict[str, list[dict[str, float]]] = {side: [] for side, path in sides.items() if path}
    for seed in range(arguments.repeat):
        for side, rows in runs.items():
            options = [f"--{key.replace('_', '-')}={value}" for key, value in sizes.items()]
            command = [sys.executable, __file__, str(sides[side]), *options, f"--one={seed}"]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    medians = {
        side: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for side, rows in runs.items()
    }
    ratios = (
        {key: medians["theirs"][key] / medians["ours"][key] for key in medians["ours"]} if "theirs" in runs else None
    )
    document = {
        "benchmark": "generate_onnx",
        **sizes,
        "machine": machine(),
        "versions": own_versions(),
        "runs": runs,
        "medians": medians,
        "times_faster_than_theirs": ratios,
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
