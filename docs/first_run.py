"""Draw docs/first-run.svg: what a terminal shows of the README's first question, by running it.

python docs/first_run.py            # aipc on PATH; a store of its own, so that it is a first run
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COMMANDS = (["run", "Can you introduce yourself?"], ["run", "What is an NPU?"])
COLUMNS = 100


def transcript() -> list[tuple[str, str, str]]:
    """What was typed, what came on stdout, and what on stderr, of each command in turn."""
    typed = []
    with tempfile.TemporaryDirectory() as store:
        for words in COMMANDS:
            done = subprocess.run(
                [sys.executable, "-m", "aipc", *words],
                env=os.environ | {"AIPC_HOME": store},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                encoding="utf-8",
            )
            verb, prompt = words
            typed.append((f'aipc {verb} "{prompt}"', done.stdout, done.stderr))
    return typed


def picture(typed: list[tuple[str, str, str]]) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command, answer, notes in typed:
        preparing, _, statistics = notes.rpartition("\n\n") if "\n\n" in notes else ("", "", notes)
        console.print(Text("$ ", "bold green") + Text(command, "bold"))
        if preparing.strip():
            console.print(Text(preparing.strip(), "dim"))
        console.print(Text(answer.strip() + "\n"))
        console.print(Text(statistics.strip() + "\n", "dim"))
    svg = console.export_svg(title="aipc", theme=MONOKAI, unique_id="first-run")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # fonts from elsewhere are not fetched


def main() -> None:
    path = Path(__file__).with_name("first-run.svg")
    path.write_text(picture(transcript()), encoding="utf-8", newline="\n")
    print(path)


if __name__ == "__main__":
    main()
