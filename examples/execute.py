"""Run the notebooks of this folder from top to bottom, and save them with what they print.

python examples/execute.py                # all of them
python examples/execute.py npu openvino   # some

Needs the extras `notebooks`, `hf` and `onnx`, and optimum-intel: without it a cell would be saved as not run. Each runs
in a temporary directory, with a model store of its own, so that nothing of this PC but its devices and its speed is in
what they print.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
CELL_TIMEOUT_S = 240


def executed(notebook: Path, *, model: str | None = None) -> nbformat.NotebookNode:
    """The notebook with fresh outputs; the file stays as it is. `model` stands in for the one that it names.

    Raises `nbclient.exceptions.CellExecutionError` for a cell that fails.
    """
    document = nbformat.read(notebook, as_version=4)
    if model is not None:
        parameters = next(cell for cell in document.cells if "parameters" in cell.metadata.get("tags", []))
        parameters.source = f"MODEL = {model!r}"
    with TemporaryDirectory(prefix="aipc-", ignore_cleanup_errors=True) as directory:
        own = {"AIPC_HOME": str(Path(directory, "store")), "IPYTHONDIR": str(Path(directory, "ipython"))}
        client = NotebookClient(
            document,
            timeout=CELL_TIMEOUT_S,
            kernel_name="python3",
            coalesce_streams=True,
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],  # its warning that loopback is not encrypted is for shared PCs
            resources={"metadata": {"path": directory}},
        )
        client.execute(env=os.environ | own)
    document.metadata.language_info = {"name": "python"}  # the version would change with every Python
    return document


def main() -> None:
    for name in sys.argv[1:] or sorted(file.stem for file in FOLDER.glob("*.ipynb")):
        notebook = FOLDER / f"{name}.ipynb"
        document = executed(notebook)
        notebook.write_text(nbformat.writes(document) + "\n", encoding="utf-8", newline="\n")
        print(notebook.name)


if __name__ == "__main__":
    main()
