"""The report as a document: published rows and ours, table by table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from string import ascii_lowercase

from syllablelm.core import document
from syllablelm.core.document import Block, Bullets, Cell, Heading, Paragraph, Picture, Section
from syllablelm.report.paper_tables import Row, Table

TITLE = "SyllableLM evaluation report"
INTRODUCTION = (
    "Published numbers of the SyllableLM paper (arXiv 2410.04029) beside ours. Ours are bold. "
    "An empty cell means that nothing was run."
)
WARNING = (
    "Rows on different sets, or by different protocols, cannot be compared: a difference between them says nothing "
    "about the methods. Rows of ours stand under their set and protocol."
)


def make_page(tables: Sequence[Table], figures: Sequence[Picture], notes: Sequence[str]) -> list[Block]:
    """Return the blocks of the report.

    Args:
        tables: published rows and ours.
        figures: pictures, shown last.
        notes: remarks shown at the top, such as why there are no figures.
    """
    blocks: list[Block] = [Paragraph(INTRODUCTION), Paragraph(WARNING, warning=True), *map(Paragraph, notes)]
    for table in tables:
        head = ("System", *(column.heading for column in table.columns))
        blocks += [
            Heading(f"Table {table.id}. {table.title}"),
            Paragraph(_caption(table)),
            document.Table(head, tuple(_rows(table)), prose=()),
            *([Bullets(table.notes)] if table.notes else []),
        ]
    return [*blocks, *([Heading("Figures"), *figures] if figures else [])]


def _caption(table: Table) -> str:
    """Data and protocol of the published rows, and the intervals of ours."""
    parts = [f"Published rows: {table.data}; {table.protocol}." if table.published else f"Ours: {table.protocol}."]
    if not table.ours:
        parts.append("Ours: nothing was run.")
    values = [value for row in table.ours for value in row.values.values() if value.low is not None]
    if any(not value.bar for value in values):
        parts.append("In brackets: 95 % bootstrap intervals.")
    if any(value.bar for value in values):
        parts.append("±: two standard deviations.")
    return " ".join(parts)


def _rows(table: Table) -> Iterator[tuple[str | Cell, ...] | Section]:
    if table.published:
        yield Section(f"Published: {table.data}", "published")
        yield from (_cells(table, row) for row in table.published)
    if table.shared:
        yield Section(f"Ours: {table.shared}")
    # a to z, then a2 and so on.
    marks = (letter + number for number in chain([""], map(str, count(2))) for letter in ascii_lowercase)
    for shared, rows in table.groups:
        yield Section(shared if table.shared else f"Ours: {shared}", next(marks))
        yield from (_cells(table, row) for row in rows)


def _cells(table: Table, row: Row) -> tuple[Cell, ...]:
    cells = [Cell(row.name, row.ours, (row.detail,) if row.detail else ())]
    for column in table.columns:
        value = row.values.get(column.key)
        shown, interval = column.show(value)
        small = (interval, value.on if value and shown else "")
        cells.append(Cell(shown, row.ours, tuple(text for text in small if text)))
    return tuple(cells)
