"""The `tokenizers` library, with its failures in aipc's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aipc.errors import CheckpointError
from aipc.tokenizer.config import refuse_too_large, unreadable

_PANIC = "PanicException"  # of the library's Rust code; no Exception, and its class cannot be imported


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn what the library raises inside into `CheckpointError`: plain Exception mostly, and what Rust panics with.

    `what` could not be done, such as `cannot read tokenizer.json`. Only the library's own calls belong inside.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        found = str(error) or type(error).__name__
        raise CheckpointError(what, found=f"{found:.300}", try_next="download tokenizer.json again") from error


def read_library_tokenizer(model_dir: Path) -> Any:
    """The library's tokenizer of `model_dir`, without truncation and padding. Raises `CheckpointError`."""
    from tokenizers import Tokenizer as LibraryTokenizer

    path = model_dir / "tokenizer.json"
    if not path.is_file():
        raise missing_tokenizer(model_dir)
    try:
        refuse_too_large(path)
        path.open("rb").close()
    except OSError as error:
        raise unreadable(path, error) from error
    with library_errors(f"cannot read {path}"):
        library = LibraryTokenizer.from_file(str(path))
        library.no_truncation()
        library.no_padding()
    return library


def missing_tokenizer(model_dir: Path) -> CheckpointError:
    """What to say when there is no tokenizer.json."""
    path = model_dir / "tokenizer.json"
    if not (model_dir / "tokenizer.model").is_file():
        return CheckpointError(f"{path} is missing", try_next="download the whole checkpoint again")
    return CheckpointError(
        f"{model_dir} has a tokenizer.model only, the older SentencePiece format",
        expected="tokenizer.json",
        try_next="download the checkpoint's newer revision, or save it once with transformers: "
        "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
    )
