"""What tests of models compiled for the NPU share: a small shape, what its loads say, and where the blob is."""

from __future__ import annotations

from pathlib import Path

from aipc.store import store_root

# In the precision of the CPU's own, which no blob loses; in FP32 a CPU with BF16 of its own would have nothing kept.
KEPT = {"EXECUTION_MODE_HINT": "PERFORMANCE"}
SHAPE = {"MAX_PROMPT_LEN": "64", "MIN_RESPONSE_LEN": "64"}
STAGE = "compiling for the NPU rehearsal on the CPU (prompt 64 + answer 64 tokens)"
BEFORE = "compiled before for the NPU rehearsal on the CPU (prompt 64 + answer 64 tokens)"


def the_blob() -> Path:
    """The one that the store has."""
    (found,) = (store_root() / "blobs").glob("*/model.blob")
    return found
