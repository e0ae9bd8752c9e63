"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from syllablelm.evaluate.report.figures import Figure
from syllablelm.evaluate.report.tables import Row, Table

TITLE = "SyllableLM evaluation report"
INTRODUCTION = (
    "Published numbers of the SyllableLM paper (arXiv 2410.04029) beside ours. Ours are bold. "
    "An empty cell means that nothing was run."
)
WARNING = (
    "Rows on different sets, or by different protocols, cannot be compared: a difference between them says nothing "
    "about the methods. Every row names its set."
)


def caption(table: Table) -> str:
    """What a reader must know of a table: data and protocol of both kinds of rows, and the intervals."""
    told = f"Published rows: {table.data}; {table.protocol}."
    if not table.ours:
        return f"{told} Ours: nothing was run."
    told += " Ours: set and protocol are in each row."
    told += " In brackets: 95 % bootstrap intervals." if table.intervals else ""
    return told + (" ±: two standard deviations." if table.bars else "")


def render_markdown(
    tables: Sequence[Table], figures: Sequence[Figure], notes: Sequence[str], folder: str = "figures"
) -> str:
    """The whole report.

    Args:
        tables: published rows and ours.
        figures: their light pictures lie in ``folder`` under their names.
        notes: said at the top, as of figures that could not be drawn.
    """
    parts = [f"# {TITLE}", INTRODUCTION, f"> **{WARNING}**", *notes]
    for table in tables:
        parts += [f"## Table {table.id}. {_escape(table.title)}", _escape(caption(table)), _table(table)]
        if table.notes:
            parts.append("\n".join(f"- {_escape(note)}" for note in table.notes))
    if figures:
        parts.append("## Figures")
        parts += [
            f"![{_escape(figure.title)}]({folder}/{figure.name}.png)\n\n{_escape(figure.caption)}" for figure in figures
        ]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    headings = ["System", *(column.heading for column in table.columns), "Set", "Protocol"]
    lines = [_line(headings), _line(["---", *["---:"] * len(table.columns), "---", "---"])]
    return "\n".join([*lines, *(_line(_cells(table, row)) for row in table.rows)])


def _cells(table: Table, row: Row) -> list[str]:
    cells = []
    for column in table.columns:
        shown, interval = column.show(row.values.get(column.key))
        bold = f"**{shown}**" if row.ours and shown else shown
        cells.append(f"{bold} <small>{interval}</small>" if interval else bold)
    name = f"**{_escape(row.name)}**" if row.ours else _escape(row.name)
    return [name, *cells, _escape(row.data), _escape(row.protocol) if row.ours else "as published"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# What Markdown or HTML would take for a sign of its own: names may hold any character.
_SIGNS = {**{ord(sign): f"\\{sign}" for sign in "\\`*_|[]#"}, **{ord(sign): f"&#{ord(sign)};" for sign in "<>&"}}


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return " ".join(text.translate(_SIGNS).split())
