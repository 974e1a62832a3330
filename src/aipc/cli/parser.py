"""A parser that ends every error with what to type next."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from aipc.errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse with the text formatted as written, flags spelled out, and errors as `UsageError`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """Flags may stand between the positional words (`convert SOURCE --weights int8 OUT`), or `--` ends them."""
        # Not both at once: before Python 3.13 the intermixed kind takes what follows `--` for flags.
        return self.parse_args(words) if "--" in words else self.parse_intermixed_args(words)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, try_next=f"{self.prog} --help")
