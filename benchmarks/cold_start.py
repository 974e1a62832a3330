"""Time `aipc run "…" --max-tokens 1` as a whole process: the very first run of a store, and those after it.

    python benchmarks/cold_start.py [--repeat 15] [--first-runs 5] [--aipc COMMAND]

Prints one JSON document; progress goes to stderr. README.md beside this file says what the fields mean.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from environment import machine, own_versions

PROMPT = "Can you introduce yourself?"
# What openvino-genai takes without aipc: the least that any program on top of it can reach.
BARE = """
import sys, openvino_genai
pipeline = openvino_genai.LLMPipeline(sys.argv[1], "CPU")
print(pipeline.generate(sys.argv[2], max_new_tokens=1), flush=True)
"""


def measure(options: argparse.Namespace, work: Path) -> dict:
    """Run everything, and return the whole document."""
    warm = work / "store"
    run(options, [], home=warm)  # uncounted: bytecode, page cache
    firsts = [first_run(options, work / f"first-{index}") for index in range(options.first_runs)]
    (model_dir,) = (path.parent for path in warm.glob("models/*/aipc.json"))
    sides = {"aipc": lambda: run(options, [], home=warm), "bare_genai": lambda: run_bare(model_dir)}
    colds: dict[str, list[dict]] = {side: [] for side in sides}
    stages = []
    for repetition in range(options.repeat):
        print(f"cold start {repetition + 1} of {options.repeat}", file=sys.stderr)
        for side, start in sides.items():
            colds[side].append(start())
        stages.append(stages_of(run(options, ["--json"], home=warm)))
    return {
        "benchmark": "cold_start",
        "prompt": PROMPT,
        "machine": machine(),
        "versions": own_versions(),
        "runs": {"first": firsts, **colds, "stages": stages},
        "medians": {
            "first": medians(firsts),
            **{side: medians(rows) for side, rows in colds.items()},
            "stages": medians(stages),
        },
    }


def first_run(options: argparse.Namespace, home: Path) -> dict:
    """A store that does not exist yet: converts the model, and measures the memory's bandwidth at the end."""
    print(f"first run in {home}", file=sys.stderr)
    return run(options, [], home=home)


def run(options: argparse.Namespace, flags: Sequence[str], *, home: Path) -> dict:
    command = [*shlex.split(options.aipc), "run", PROMPT, "--max-tokens", "1", *flags]
    return timed(command, {"AIPC_HOME": str(home)})


def run_bare(model_dir: Path) -> dict:
    return timed([sys.executable, "-c", BARE, str(model_dir), PROMPT], {})


def timed(command: Sequence[str], settings: dict[str, str]) -> dict:
    """One process from its start to its end, and the moment at which its first text came."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | settings
    start = time.perf_counter()
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, bufsize=0, **pipes) as child:
        begin = child.stdout.read(1)
        first_text_s = time.perf_counter() - start
        rest, errors = child.communicate()
        wall_s = time.perf_counter() - start
    if child.returncode != 0:
        raise RuntimeError(f"{command} ended with {child.returncode}: {errors.decode()}")
    return {
        "wall_s": round(wall_s, 4),
        "first_text_s": round(first_text_s, 4),
        "output": (begin + rest).decode().strip(),
    }


def stages_of(result: dict) -> dict:
    """Split one `--json` run by its own statistics; `else_s` is start, imports, look-up and check, and the end."""
    figures = json.loads(result["output"])["statistics"]
    told = {key: round(figures[key], 4) for key in ("load_s", "time_to_first_token_s")}
    rest_s = result["wall_s"] - sum(told.values())
    return {"wall_s": result["wall_s"], **told, "else_s": round(rest_s, 4)}


def medians(rows: Sequence[dict]) -> dict:
    keys = [key for key in rows[0] if key.endswith("_s")]
    return {key: round(statistics.median(row[key] for row in rows), 4) for key in keys}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the first token of the embedded model, processes whole.")
    parser.add_argument("--repeat", type=int, default=15, help="cold starts with the model in the store (15)")
    parser.add_argument("--first-runs", type=int, default=5, help="runs that convert first (5)")
    beside = shutil.which("aipc", path=str(Path(sys.executable).parent)) or "aipc"
    parser.add_argument("--aipc", default=shlex.quote(beside), help="the aipc command (default: this Python's)")
    return parser.parse_args()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="aipc-cold-start-") as work:
        print(json.dumps(measure(_arguments(), Path(work))))


if __name__ == "__main__":
    main()
