"""What all figures share: matplotlib on demand, and texts of users in them."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from typing import Any

from syllablelm.core.errors import MissingDependencyError, one_line

LONGEST_LABEL = 60
"""Characters of a name in a figure; longer ones would leave it no room."""


def import_matplotlib() -> tuple[Any, Any]:
    """Return matplotlib and its Figure, which needs no display; a MissingDependencyError without matplotlib."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib: pip install 'syllablelm[plot]'") from error
    return matplotlib, Figure


@lru_cache(maxsize=1)
def notebook_figure() -> type[Any]:
    """Return matplotlib's Figure with a picture of its own for notebooks, which show bare ones only under pyplot."""
    figure_class = import_matplotlib()[1]

    class NotebookFigure(figure_class):
        def _repr_png_(self) -> bytes:
            buffer = BytesIO()
            with drawing({}):
                self.savefig(buffer, format="png")
            return buffer.getvalue()

    return NotebookFigure


@contextmanager
def drawing(settings: Mapping[str, Any]) -> Generator[None, None, None]:
    """Draw a figure, texts and file, under settings of matplotlib; letters that the font lacks are boxes."""
    with import_matplotlib()[0].rc_context(dict(settings)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def plot_label(text: str) -> str:
    """Return a name as matplotlib shows it letter for letter: no mathematics between "$", no control characters."""
    text = one_line(text, LONGEST_LABEL).replace("$", "\\$")
    # A legend leaves out names that begin with "_".
    return f" {text}" if text.startswith("_") else text
