"""The notebooks of docs/notebooks: they run as they stand, and what is stored of them is small and of no machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("nbclient")

from helpers.notebooks import NOTEBOOKS, execute, missing_programs, read_notebook

LARGEST_BYTES = 500_000
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|tmp|opt|usr|var|mnt|work|workspace|Users)/|[A-Z]:\\")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs(path: Path) -> None:
    notebook = read_notebook(path)
    assert path.stat().st_size <= LARGEST_BYTES
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "execute it from the start"
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error"
        texts = [output.get("text", "")] + [
            text for kind, text in output.get("data", {}).items() if kind.startswith("text/")
        ]
        for text in texts:
            text = re.sub(r"base64,[\w+/=]+", "", text)
            assert not MACHINE_PATH.search(text), text
            assert "Warning" not in text, text


def test_there_are_notebooks() -> None:
    assert {"units", "language_model"} <= {path.stem for path in NOTEBOOKS}
    assert MACHINE_PATH.search("see /home/me/a.py") and not MACHINE_PATH.search("toy/tmp/a.py and 1/var/2")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    notebook = read_notebook(path)
    if missing := missing_programs(notebook):
        pytest.skip(f"needs {', '.join(missing)}")
    execute(notebook, tmp_path)
