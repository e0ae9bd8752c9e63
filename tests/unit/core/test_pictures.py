"""Names of users in figures."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from syllablelm.core.pictures import LONGEST_LABEL, drawing, import_matplotlib, plot_label

ODD = (
    "$",
    "$x",
    "a$b$",
    "$\\frac{$",
    "a_b^c\\",
    "<b>&",
    "a\nb\x00c",
    "_hidden",
    "\u8bed\u97f3",
    "x" * 500,
    "\\$",
    "%",
    "{",
    "",
)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_any_name_is_drawn_in_silence(name: str, suffix: str, tmp_path: Path) -> None:
    label = plot_label(name)
    with warnings.catch_warnings(), drawing({"font.size": 9}):
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = import_matplotlib()[1](figsize=(6, 5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([1, 2], [1, 2], label=f"{label}: $L^2$")
        axes.set(title=label, ylabel=label)
        axes.text(1, 1, label)
        shown = [text.get_text() for text in axes.legend().get_texts()]
        figure.savefig(tmp_path / f"a.{suffix}")
    assert shown == [f"{label}: $L^2$"]


def test_labels_say_what_the_name_says() -> None:
    assert plot_label("$a_1$\n") == "\\$a_1\\$"
    assert plot_label("_a") == " _a"
    assert len(plot_label("x" * 500)) == LONGEST_LABEL
