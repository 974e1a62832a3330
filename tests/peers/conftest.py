"""Tests against PyTorch, transformers and optimum-intel, in an environment made from requirements.txt here.

Without PyTorch this folder is left out; `pytest -m peers` then runs no test and ends with exit code 5.
"""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
