"""The guide's scripts are a package at the repository's root; they are not installed."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from guide.corpus import Corpus
from guide.dialogues import Library
from guide.documents import Document
from guide.tokenizer import write_tokenizer


@pytest.fixture(scope="session")
def library() -> Library:
    return Library.read()


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """The first documents of the training text."""
    return list(islice(Corpus(1), 4000))


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory, documents: list[Document]) -> Path:
    """A tokenizer trained on those documents. Do not write into it."""
    directory = tmp_path_factory.mktemp("guide-tokenizer")
    write_tokenizer(directory, [message.content for document in documents for message in document.messages])
    return directory
