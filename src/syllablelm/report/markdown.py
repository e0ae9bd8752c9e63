"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

from syllablelm.report.figures import Figure
from syllablelm.report.paper_tables import Row, Table

TITLE = "SyllableLM evaluation report"
INTRODUCTION = (
    "Published numbers of the SyllableLM paper (arXiv 2410.04029) beside ours. Ours are bold. "
    "An empty cell means that nothing was run."
)
WARNING = (
    "Rows on different sets, or by different protocols, cannot be compared: a difference between them says nothing "
    "about the methods. Rows of ours stand under what they were measured on, and how."
)


def caption(table: Table) -> str:
    """What a reader must know of a table: data and protocol of the published rows, and the intervals of ours."""
    told = f"Published rows: {table.data}; {table.protocol}." if table.published else f"Ours: {table.protocol}."
    if not table.ours:
        return f"{told} Ours: nothing was run."
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
        parts += [
            f"## Table {table.id}. {_escape(table.title)}",
            _escape(caption(table)),
            *_groups(table),
            _table(table),
        ]
        if table.notes:
            parts.append("\n".join(f"- {_escape(note)}" for note in table.notes))
    if figures:
        parts.append("## Figures")
        parts += [
            f"![{_escape(figure.title)}]({folder}/{figure.name}.png)\n\n{_escape(figure.caption)}" for figure in figures
        ]
    return "\n\n".join(parts) + "\n"


def _groups(table: Table) -> list[str]:
    """What rows of ours share, under the letter that they bear in the table."""
    told = [f"- **{mark}**: {_escape(text)}" for mark, (text, _) in zip(_marks(table), table.groups, strict=True)]
    shared = f" {_escape(table.shared)}" if table.shared else ""
    return ["\n".join([f"Ours:{shared}", "", *told])] if told else []


def _marks(table: Table) -> list[str]:
    """A letter for each group of ours: a to z, then a2 and so on."""
    return [ascii_lowercase[n % 26] + (str(n // 26 + 1) if n >= 26 else "") for n in range(len(table.groups))]


def _table(table: Table) -> str:
    headings = ["System", *(column.heading for column in table.columns), "Measured"]
    lines = [_line(headings), _line(["---", *["---:"] * len(table.columns), "---"])]
    lines += [_line(_cells(table, row, "as published")) for row in table.published]
    for mark, (_, rows) in zip(_marks(table), table.groups, strict=True):
        lines += [_line(_cells(table, row, mark)) for row in rows]
    return "\n".join(lines)


def _cells(table: Table, row: Row, measured: str) -> list[str]:
    cells = []
    for column in table.columns:
        value = row.values.get(column.key)
        shown, interval = column.show(value)
        bold = f"**{shown}**" if row.ours and shown else shown
        small = " ".join(text for text in (interval, _escape(value.on) if value and shown else "") if text)
        cells.append(f"{bold} <small>{small}</small>" if small else bold)
    name = f"**{_escape(row.name)}**" if row.ours else _escape(row.name)
    return [f"{name} <small>{_escape(row.detail)}</small>" if row.detail else name, *cells, measured]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# What Markdown or HTML would take for a sign of its own: names may hold any character.
_SIGNS = {**{ord(sign): f"\\{sign}" for sign in "\\`*_|[]#"}, **{ord(sign): f"&#{ord(sign)};" for sign in "<>&"}}


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return " ".join(text.translate(_SIGNS).split())
