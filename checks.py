"""Run every check of this repository, as developers and CI do: `python checks.py`, or some by name.

python checks.py                      # format, lint, types, tests
python checks.py format lint types

Needs the `check` and `test` extras: `pip install -e ".[check,test]"`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
CHECKS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    "tests": ["pytest"],
}


def failed(name: str) -> bool:
    """Run one check and report its time; its own output goes through."""
    print(f"== {name}", flush=True)
    start = time.perf_counter()
    exit_code = subprocess.run([sys.executable, "-m", *CHECKS[name]], cwd=ROOT, check=False).returncode
    print(f"== {name}: exit {exit_code}, {time.perf_counter() - start:.1f} s", flush=True)
    return exit_code != 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the checks of this repository.")
    parser.add_argument("checks", nargs="*", metavar="check", help=f"from {', '.join(CHECKS)} (default: all)")
    chosen = parser.parse_args().checks or list(CHECKS)
    if unknown := [name for name in chosen if name not in CHECKS]:
        parser.error(f"no such check: {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    failures = [name for name in chosen if failed(name)]
    print(f"failed: {', '.join(failures)}" if failures else "all checks passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
