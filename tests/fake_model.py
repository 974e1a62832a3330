"""A directory that loads as a converted model and answers with known text, through `aipc.engines.fake`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tiny_tokenizer import write_tokenizer
from tokenizers import Tokenizer

import aipc
from aipc.engines import fake
from aipc.model import Model

CONTEXT_TOKENS = 256

Make = Callable[..., Model]


def write_fake_model(
    directory: Path,
    answer: str | Sequence[int] = "I am Guide.",
    *,
    ends: bool = True,
    context_tokens: int = CONTEXT_TOKENS,
    template: bool = True,
    **script: float | None,
) -> Path:
    """`answer` is text or token ids, and `ends` adds the token that ends a turn; `script` is for the engine."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in _tokenizer_files().items():
        if template or name != "tokenizer_config.json":
            (directory / name).write_bytes(content)
    config = {"model_type": "fake", "max_position_embeddings": context_tokens}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("openvino_model.xml", "openvino_model.bin"):  # what a converted model is known by
        (directory / name).touch()
    ids = encoded(directory, answer) if isinstance(answer, str) else list(answer)
    ids += [library(directory).token_to_id("<|end|>")] if ends else []
    (directory / "fake_engine.json").write_text(json.dumps({"token_ids": ids, **script}), encoding="utf-8")
    return directory


@cache
def _tokenizer_files() -> dict[str, bytes]:
    with TemporaryDirectory() as directory:
        write_tokenizer(Path(directory))
        return {file.name: file.read_bytes() for file in Path(directory).iterdir()}


@contextmanager
def fake_models(directory: Path) -> Iterator[Make]:
    """A function that makes and loads models of known answers; it takes what `write_fake_model` takes."""
    models: list[Model] = []

    def make(*answer: Any, **options: Any) -> Model:
        models.append(aipc.load(write_fake_model(directory / f"fake-{len(models)}", *answer, **options)))
        return models[-1]

    yield make
    for model in models:
        model.close()


def requests(model: Model) -> list[fake.Request]:
    """What a fake model was asked."""
    assert isinstance(model.session, fake.FakeSession)
    return model.session.requests


def encoded(directory: Path, text: str) -> list[int]:
    """The ids that the `tokenizers` library gives."""
    return list(library(directory).encode(text, add_special_tokens=False).ids)


def library(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))
