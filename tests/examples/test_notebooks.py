"""The notebooks in examples/: they run from top to bottom, and what is saved in them is what they say today."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import write_checkpoint

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))
NEEDS = {"npu": "transformers", "onnx": "onnxruntime_genai", "openvino": "optimum"}
# An absolute path, of Linux or Windows; neither a URL nor a word such as GPU/NPU.
ABSOLUTE_PATH = re.compile(r"(?<![\w./<:|])/[\w.-]+/|(?<!\w)[A-Za-z]:\\")

all_notebooks = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
runnable_notebooks = pytest.mark.parametrize(
    "notebook",
    [pytest.param(path, id=path.stem, marks=[] if path.stem == "onnx" else [pytest.mark.peers]) for path in NOTEBOOKS],
)


def code_cells(document: Any) -> list[Any]:
    return [cell for cell in document["cells"] if cell["cell_type"] == "code"]


def said(cell: Any) -> str:
    """What a cell printed, and the text of what it returned."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell["outputs"]]
    return "".join("".join(part) for part in parts)  # a file has lists of lines, where nbformat has texts


def tagged_same(document: Any) -> dict[str, str]:
    """What those cells say whose outputs no PC changes, by their ids."""
    return {cell["id"]: said(cell) for cell in code_cells(document) if "same" in cell["metadata"].get("tags", [])}


def saved(notebook: Path) -> Any:
    return json.loads(notebook.read_text(encoding="utf-8"))


def executed(notebook: Path, model: str | None = None) -> Any:
    pytest.importorskip("nbclient", reason='notebooks run with pip install ".[notebooks]"')
    if find_spec(NEEDS[notebook.stem]) is None:
        pytest.skip(f"{notebook.name} needs {NEEDS[notebook.stem]}: see tests/peers/requirements.txt")
    from examples.execute import executed

    return executed(notebook, model=model)


def test_there_is_a_notebook_for_each_route() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == sorted(NEEDS)


@all_notebooks
def test_it_was_saved_after_a_run_from_top_to_bottom(notebook: Path) -> None:
    cells = code_cells(saved(notebook))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


@all_notebooks
def test_it_was_saved_with_outputs_and_without_errors_or_warnings(notebook: Path) -> None:
    outputs = [output for cell in code_cells(saved(notebook)) for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert not re.search(r"\r|\x1b|warning", "".join(map(said, code_cells(saved(notebook)))), re.IGNORECASE)


@all_notebooks
def test_it_names_no_path_of_the_pc_that_saved_it(notebook: Path) -> None:
    texts = [*map(said, code_cells(saved(notebook))), *("".join(cell["source"]) for cell in saved(notebook)["cells"])]
    assert not [found for text in texts for found in ABSOLUTE_PATH.findall(text)]


@runnable_notebooks
def test_it_says_what_it_said_when_it_was_saved(notebook: Path) -> None:
    expected = tagged_same(saved(notebook))
    assert any(expected.values())
    assert tagged_same(executed(notebook)) == expected


@runnable_notebooks
def test_it_runs_with_another_model(notebook: Path, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(
        tmp_path / "tiny", max_position_embeddings=2048, original_max_position_embeddings=2048
    )
    document = executed(notebook, model=checkpoint.as_posix())
    assert "models/tiny" in "".join(map(said, code_cells(document)))
    assert tagged_same(document) != tagged_same(saved(notebook))
