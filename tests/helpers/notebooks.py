"""The notebooks of docs/: executed in a scratch folder, and stored without what differs between machines.

`python tests/helpers/notebooks.py` executes all of them again and stores their outputs.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read_notebook(path: Path) -> Any:
    """Return a notebook, its format checked."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def missing_programs(notebook: Any) -> list[str]:
    """Return the programs that a notebook names in its metadata and that are not installed."""
    wanted = notebook.metadata.get("syllablelm", {}).get("programs", [])
    return [program for program in wanted if shutil.which(program) is None]


def execute(notebook: Any, folder: Path) -> None:
    """Execute a notebook in a folder; an error in a cell is raised."""
    # Without ipywidgets, which nothing here needs, tqdm warns that its own bars lack them.
    settings = {"PYTHONWARNINGS": "ignore:IProgress not found", "IPYTHONDIR": str(folder / ".ipython")}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, **settings})


def store(notebook: Any, path: Path) -> None:
    """Write an executed notebook: no times, no metadata of cells, pictures in 64 colours."""
    own = {name: value for name, value in notebook.metadata.items() if name == "syllablelm"}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}, **own}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell{number}"
        cell.metadata.clear()
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _smaller(output.data["image/png"])
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _smaller(png: str) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(64).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    for wanted in [FOLDER / name for name in sys.argv[1:]] or NOTEBOOKS:
        opened = read_notebook(wanted)
        with tempfile.TemporaryDirectory() as scratch:
            execute(opened, Path(scratch))
        store(opened, wanted)
