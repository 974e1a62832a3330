"""`python -m aipc` is the command `aipc`."""

from __future__ import annotations

from aipc.cli import program

if __name__ == "__main__":
    program()
