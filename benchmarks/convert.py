"""Time `aipc convert` against the tool of each format: whole processes, the same checkpoint and recipe.

    python benchmarks/convert.py --layers 4 --weights int4 --group-size 128 --sym --ratio 1.0 \
        [--peer PATH_TO_optimum-cli] [--repeat 3] [--cold]
    python benchmarks/convert.py --to onnx --layers 8 [--peer PYTHON_WITH_onnxruntime_genai_AND_torch]

For OpenVINO the peer is `optimum-cli export openvino`, for ONNX `python -m onnxruntime_genai.models.builder`.

Prints one JSON document; progress goes to stderr. README.md beside this file says what the fields mean.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from environment import machine, own_versions, versions_of
from ir import constant_bytes
from process import Run, run

COPY_BLOCK_BYTES = 8 << 20
RECIPE = ("to", "layers", "dtype", "weights", "group_size", "sym", "ratio")


def aipc_command(recipe: argparse.Namespace, source: Path, out: Path) -> list[str]:
    command = [recipe.aipc, "convert", str(source), str(out), "--weights", recipe.weights, "--to", recipe.to]
    if recipe.weights == "int4":
        command += ["--group-size", str(recipe.group_size), "--ratio", str(recipe.ratio)]
    if recipe.weights != "fp16":
        command.append("--sym" if recipe.sym else "--asym")
    return command


def peer_command(recipe: argparse.Namespace, source: Path, out: Path) -> list[str]:
    """Asymmetric is optimum-cli's default and has no flag of its own there."""
    if recipe.to == "onnx":
        command = [recipe.peer, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(out)]
        command += ["-p", recipe.weights, "-e", "cpu", "-c", str(out / "cache"), "--extra_options"]
        return [*command, f"block_size={recipe.group_size}", f"int4_is_symmetric={str(recipe.sym).lower()}"]
    command = [recipe.peer, "export", "openvino", "--model", str(source)]
    command += ["--task", "text-generation-with-past", "--weight-format", recipe.weights]
    if recipe.weights == "int4":
        command += ["--group-size", str(recipe.group_size), "--ratio", str(recipe.ratio)]
    if recipe.sym and recipe.weights != "fp16":
        command.append("--sym")
    return [*command, str(out)]


def measure(recipe: argparse.Namespace) -> dict:
    """Run each side `recipe.repeat` times in alternation, and return the whole document."""
    source = _checkpoint(recipe)
    commands = {"aipc": aipc_command, "peer": peer_command}
    if recipe.peer is None:
        del commands["peer"]
    runs: dict[str, list[dict]] = {side: [] for side in [*commands, "copy"]}
    outputs = {}
    for repetition in range(recipe.repeat):
        for side, command in commands.items():
            out = recipe.cache / f"out-{side}"
            _remove(out)
            cold = recipe.cold and _forget(source)
            print(f"run {repetition + 1} of {recipe.repeat}: {side}", file=sys.stderr)
            result = run(command(recipe, source, out), log=recipe.cache / f"{side}.log")
            runs[side].append(_row(result, cold=cold))
            outputs[side] = _output(out) if result.exit_code == 0 else None
        written = next((each["total_bytes"] for each in outputs.values() if each), 0)
        runs["copy"].append(_copy(source, recipe.cache / "copy.bin", output_bytes=written, cold=recipe.cold))
    return _document(recipe, source=source, runs=runs, outputs=outputs)


def _checkpoint(recipe: argparse.Namespace) -> Path:
    source = recipe.cache / f"phi3-mini-shapes-{recipe.layers}-{recipe.dtype}"
    if not source.exists():
        print(f"making {source}", file=sys.stderr)
        script = Path(__file__).with_name("checkpoint.py")
        command = [sys.executable, script, source, "--layers", str(recipe.layers), "--dtype", recipe.dtype]
        subprocess.run(command, check=True)
    return source


def _document(recipe: argparse.Namespace, *, source: Path, runs: dict, outputs: dict) -> dict:
    medians = {side: _medians(rows) for side, rows in runs.items()}
    return {
        "benchmark": "convert",
        "recipe": {key: getattr(recipe, key) for key in RECIPE},
        "machine": machine(),
        "versions": {"aipc": own_versions(), "peer": versions_of(recipe.peer) if recipe.peer else None},
        "peer_missing": None if recipe.peer else "none given with --peer",
        "source_bytes": sum(path.stat().st_size for path in source.iterdir()),
        "runs": runs,
        "medians": medians,
        "outputs": outputs,
        "ratios": _ratios(medians),
    }


def _row(result: Run, *, cold: bool) -> dict:
    row = asdict(result) | {"page_cache": "cold" if cold else "warm"}
    if result.exit_code == 0:
        del row["output_tail"]
    return row


def _medians(rows: list[dict]) -> dict | None:
    """Return the median of every measured number; None when a run failed."""
    if any(row.get("exit_code", 0) != 0 for row in rows):
        return None
    keys = [key for key in rows[0] if key.endswith("_s") or key.startswith("peak_")]
    medians = {key: statistics.median(row[key] for row in rows) for key in keys}
    return {key: int(value) if key.endswith("_bytes") else round(value, 3) for key, value in medians.items()}


def _ratios(medians: dict) -> dict:
    """Compare the medians; of two ways to count memory, each side gets the one that suits the peer."""
    ours, peer, copy = medians["aipc"], medians.get("peer"), medians["copy"]
    ratios = {}
    if ours and peer:
        ratios["times_faster_than_peer"] = peer["wall_s"] / ours["wall_s"]
        ratios["peer_peak_memory_over_ours"] = peer["peak_rss_bytes"] / ours["peak_tree_rss_bytes"]
        ratios["peer_private_memory_over_ours"] = peer["peak_private_bytes"] / ours["peak_private_bytes"]
    if ours:
        ratios["wall_over_copy"] = ours["wall_s"] / copy["wall_s"]
        ratios["wall_over_copy_with_fsync"] = ours["wall_s"] / (copy["wall_s"] + copy["fsync_s"])
    return {key: round(ratio, 2) for key, ratio in ratios.items()}


def _output(out: Path) -> dict:
    files = {path.relative_to(out).as_posix(): path.stat().st_size for path in sorted(out.rglob("*")) if path.is_file()}
    return {
        "files": files,
        "total_bytes": sum(files.values()),
        # An exporter has been seen to ignore its precision in silence: what is in the file, by element type.
        "constant_bytes": constant_bytes(out / "openvino_model.xml") if (out / "openvino_model.xml").exists() else None,
    }


def _copy(source: Path, target: Path, *, output_bytes: int, cold: bool) -> dict:
    """Read every byte of the source and write as many as the output has: what the disk alone would take."""
    cold = cold and _forget(source)
    start = time.perf_counter()
    with target.open("wb", buffering=0) as out:
        left = output_bytes
        for path in sorted(source.iterdir()):
            with path.open("rb", buffering=0) as file:
                while block := file.read(COPY_BLOCK_BYTES):
                    left -= out.write(block[:left]) or 0
        copied = time.perf_counter()
        os.fsync(out.fileno())
        synced = time.perf_counter()
    target.unlink()
    return {
        "wall_s": round(copied - start, 3),
        "fsync_s": round(synced - copied, 3),
        "output_bytes": output_bytes - left,
        "page_cache": "cold" if cold else "warm",
    }


def _forget(folder: Path) -> bool:
    """Drop a folder's files from the page cache; False where the system has no call for it."""
    if not hasattr(os, "posix_fadvise"):
        return False
    os.sync()
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _remove(out: Path) -> None:
    if out.exists():
        shutil.rmtree(out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time a conversion against optimum-cli's.")
    parser.add_argument("--to", choices=("openvino", "onnx"), default="openvino")
    parser.add_argument("--layers", type=int, default=4, help="of the made-up checkpoint (default: 4)")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--weights", choices=("fp16", "int8", "int4"), default="int4")
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--ratio", type=float, default=1.0)
    parser.add_argument("--sym", action="store_true", default=True, help="symmetric (default)")
    parser.add_argument("--asym", dest="sym", action="store_false")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="drop the source from the page cache before each run")
    parser.add_argument("--aipc", default=_beside_python("aipc"), help="the aipc command (default: this Python's)")
    parser.add_argument("--peer", help="the optimum-cli command (the one on PATH), or for onnx a Python")
    default_cache = Path(tempfile.gettempdir()) / "aipc-benchmarks"
    parser.add_argument("--cache", type=Path, default=default_cache, help=f"work folder (default: {default_cache})")
    recipe = parser.parse_args()
    if recipe.peer is None and recipe.to == "openvino":
        recipe.peer = shutil.which("optimum-cli")
    for command in filter(None, (recipe.aipc, recipe.peer)):
        if shutil.which(command) is None:
            parser.error(f"no such command: {command}")
    return recipe


def _beside_python(name: str) -> str:
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


def main() -> int:
    recipe = _arguments()
    recipe.cache.mkdir(parents=True, exist_ok=True)
    document = measure(recipe)
    print(json.dumps(document))
    return 1 if None in document["medians"].values() else 0


if __name__ == "__main__":
    sys.exit(main())
