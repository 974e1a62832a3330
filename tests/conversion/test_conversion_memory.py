"""How much memory a conversion takes, measured in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from large_checkpoint import write_large_checkpoint

LIMIT_BYTES = 200_000_000
SCRIPT = """
import json, sys
from aipc.quant import compiled
if sys.argv[3] == "numpy":
    compiled.kernel = None
from aipc.conversion import convert
from aipc.monitor.memory import peak_resident_bytes
plan = convert(sys.argv[1], sys.argv[2], group_size=32, symmetric=False, all_layers=True).plan
print(json.dumps([peak_resident_bytes(), plan.peak_memory_bytes]))
"""


@pytest.mark.parametrize("quantiser", ["compiled", "numpy"])
def test_the_peak_keeps_within_the_plan_and_does_not_grow_with_the_model(quantiser: str, tmp_path: Path) -> None:
    peaks = []
    for layers in (2, 8):  # 150 and 450 MB
        checkpoint = write_large_checkpoint(
            tmp_path / f"{layers}-layers",
            tokenizer_tokens=32_000,
            hidden_size=1024,
            intermediate_size=4096,
            vocab_size=32_000,
            num_hidden_layers=layers,
            tie_word_embeddings=True,
        )
        command = [sys.executable, "-c", SCRIPT, str(checkpoint), str(tmp_path / "out"), quantiser]
        peak, planned = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        assert peak <= planned <= LIMIT_BYTES
        peaks.append(peak)
        for directory in (checkpoint, tmp_path / "out"):
            shutil.rmtree(directory)
    assert peaks[1] < 1.15 * peaks[0]
