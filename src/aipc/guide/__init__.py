"""The guide, aipc's embedded model: a Hugging Face checkpoint of six million parameters that ships in this package.

`checkpoint/README.md` is its card. The scripts that write its text and train it are in `guide/` at the repository's
root, and are not installed.
"""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"
# Unless another format is asked for. The card says what each costs; so small a model gains next to nothing by INT4.
WEIGHTS = "int8"
