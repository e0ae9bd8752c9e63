"""Tables and documents as aligned text, Markdown, HTML or JSON rows: the only writer of any of them.

A page is thirty lines of escaped HTML. A template engine such as jinja2 would save none of them and would be a
dependency of every installation.
"""

from __future__ import annotations

import json
import math
import numbers
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from syllablelm.core.errors import InputError
from syllablelm.core.results import plain_json

STYLES = ("text", "markdown", "json")
_MISSING = "-"
# Readable on a phone: tables scroll by themselves under a fixed first column, pictures are no wider than the page.
_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --quiet: #5b6470; --line: #dfe3e8;
  --strong: #fff4ec; --section: #f3f5f7; --accent: #b34700; --warn: #fff8e1; --warn-line: #e0b000; }
@media (prefers-color-scheme: dark) { :root { --paper: #171b21; --ink: #e6e8eb; --quiet: #9aa3af; --line: #313842;
  --strong: #2b221c; --section: #20262e; --accent: #ff9d5c; --warn: #2b2715; --warn-line: #a88700; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 2.2rem 0 .4rem; }
h3 { font-size: 1rem; line-height: 1.3; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0; overflow-wrap: anywhere; }
nav { font-size: .9rem; } nav a { color: var(--accent); margin-right: .8rem; white-space: nowrap; }
.warning { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .6rem .8rem; margin: .8rem 0;
  font-weight: 600; }
figcaption, small { color: var(--quiet); font-size: .88rem; }
ul { padding-left: 1.2rem; margin: .4rem 0; }
.table { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; vertical-align: top; border-top: 1px solid var(--line); }
td { white-space: nowrap; }
thead th { border-top: 0; font-size: .82rem; font-weight: 600; vertical-align: bottom; min-width: 4.2rem; }
th:first-child { text-align: left; font-weight: 400; position: sticky; left: 0; background: var(--paper);
  min-width: 12rem; max-width: 22rem; overflow-wrap: anywhere; border-right: 1px solid var(--line); }
thead th:first-child { font-weight: 600; }
.prose { text-align: left; white-space: normal; min-width: 14rem; }
.section td { text-align: left; background: var(--section); color: var(--quiet); font-size: .82rem; }
.section span { position: sticky; left: .6rem; display: inline-block; max-width: min(80vw, 60rem);
  white-space: normal; }
.strong td, .strong th:first-child { background: var(--strong); }
.strong strong { color: var(--accent); }
td small, th small { display: block; font-size: .75rem; line-height: 1.35; }
figure { margin: 1rem 0 2rem; } figure img { max-width: 100%; height: auto; display: block; border-radius: 6px; }
@media (max-width: 30rem) { body { padding: .7rem; } th, td { padding: .3rem .45rem; font-size: .88rem; }
  th:first-child { min-width: 8rem; max-width: 10.5rem; } }
"""


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3; pages link to those of level 2 by their text before the first ". "."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text; ``warning`` makes it stand out."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, whether it is emphasised, and additions in small type such as an interval."""

    text: str
    strong: bool = False
    small: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A line between table rows that says what the rows below it share.

    Markdown has no such lines: there the sections are listed above the table, and a last column gives the ``mark``
    of each row's section.
    """

    title: str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table: column headings, and rows of cells or sections.

    Columns are aligned to the right except the first and those of ``prose``, which hold sentences.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...] | Section, ...]
    prose: tuple[str, ...] = ("status",)


@dataclass(frozen=True)
class Picture:
    """A figure: the path that Markdown links, the contents that a page embeds, and their type ("image/svg+xml").

    `dark` is the picture for dark pages; by default the same.
    """

    file: str
    caption: str
    image: bytes
    media_type: str
    title: str = ""
    dark: bytes | None = None


Block = Heading | Paragraph | Bullets | Table | Picture


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return a document as Markdown; pictures are linked by their file names."""
    return "\n\n".join([f"# {_escape(title)}", *(_block_markdown(block) for block in blocks)]) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return a document as one page that needs no other file and no network."""
    parts = [block.text.partition(". ")[0] for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = " ".join(f'<a href="#{_anchor(part)}">{escape(part)}</a>' for part in parts)
    body = "\n".join(_block_html(block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )


def format_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | Mapping[str, str] | None = None,
    style: str = "text",
    *,
    digits: int = 3,
) -> str:
    """Format rows of scores for people or programs, without a newline at the end; numbers are aligned to the right.

    Args:
        rows: one mapping of column to value per row; a missing value is shown as "-" and is null in JSON.
        columns: columns to show in order, or a mapping of column to heading; by default all, in order of appearance.
        style: "text" (aligned), "markdown" or "json" (a list of objects, numbers in full).
        digits: decimals of floats in text and Markdown.
    """
    if style not in STYLES:
        raise InputError(f"Table style must be one of {', '.join(STYLES)}, not {style!r}")
    known = dict.fromkeys(key for row in rows for key in row)
    wanted = known if columns is None else columns
    unknown = [column for column in wanted if column not in known]
    if rows and unknown:
        raise InputError(f"No row has the column {unknown[0]!r}; there are {', '.join(known)}")
    if style == "json":
        return json.dumps(
            [{column: plain_json(row.get(column)) for column in wanted} for row in rows], indent=2, default=str
        )
    headings = list(columns.values()) if isinstance(columns, Mapping) else list(wanted)
    lines = [headings, *([_number_text(row.get(column), digits) for column in wanted] for row in rows)]
    right = [any(_is_number(row.get(column)) for row in rows) for column in wanted]
    if style == "markdown":
        return _markdown_table([[_escape(cell) for cell in line] for line in lines], right, align=True)
    widths = _widths(lines)
    heading, *others = ["  ".join(_padded(line, right, widths)).rstrip() for line in lines]
    return "\n".join([heading, "  ".join("-" * width for width in widths), *others])


def data_url(media_type: str, data: bytes) -> str:
    """Return an address that holds a file's contents, for ``src`` and ``srcset``."""
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def _block_markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_escape(block.text)}"
    if isinstance(block, Paragraph):
        return f"> **{_escape(block.text)}**" if block.warning else _escape(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_escape(item)}" for item in block.items)
    if isinstance(block, Picture):
        return f"![{_escape(block.title or block.caption)}]({block.file})\n\n{_escape(block.caption)}"
    sections = [row for row in block.rows if isinstance(row, Section)]
    lines, mark = [[_escape(name) for name in block.head]], ""
    for row in block.rows:
        if isinstance(row, Section):
            mark = row.mark
        else:
            lines.append([*map(_cell_markdown, row), *([mark] if sections else [])])
    right = [_is_numeric(block, column) for column in range(len(block.head))]
    if not sections:
        return _markdown_table(lines, right)
    lines[0].append("Measured")
    key = [f"- **{one.mark}**: {_escape(one.title)}" if one.mark else f"- {_escape(one.title)}" for one in sections]
    return "\n".join(key) + "\n\n" + _markdown_table(lines, [*right, False])


def _cell_markdown(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _escape(cell)
    text = f"**{_escape(cell.text)}**" if cell.strong and cell.text else _escape(cell.text)
    small = " ".join(map(_escape, cell.small))
    return f"{text} <small>{small}</small>" if small else text


def _markdown_table(lines: Sequence[Sequence[str]], right: Sequence[bool], *, align: bool = False) -> str:
    widths = _widths(lines) if align else [0] * len(right)
    heading, *others = [f"| {' | '.join(_padded(line, right, widths))} |" for line in lines]
    rule = ["-" * max(width + 1, 2) + (":" if n else "-") for width, n in zip(widths, right, strict=True)]
    return "\n".join([heading, f"|{'|'.join(rule)}|", *others])


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _padded(line: Sequence[str], right: Sequence[bool], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if numeric else cell.ljust(width)
        for cell, numeric, width in zip(line, right, widths, strict=True)
    ]


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line; underscores and brackets only where they would be signs."""
    signs = r"[\\`*|]|\](?=[(\[:])|(?<!\w)_|_(?!\w)|^#"
    return re.sub(signs, r"\\\g<0>", escape(" ".join(text.split()), quote=False))


def _anchor(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower())


def _block_html(block: Block) -> str:
    if isinstance(block, Heading):
        anchor = f' id="{_anchor(block.text.partition(". ")[0])}"' if block.level == 2 else ""
        return f"<h{block.level}{anchor}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        kind = ' class="warning"' if block.warning else ""
        return f"<p{kind}>{escape(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Picture):
        dark = ""
        if block.dark is not None:
            source = data_url(block.media_type, block.dark)
            dark = f'<source media="(prefers-color-scheme: dark)" srcset="{source}">'
        image = f'<img src="{data_url(block.media_type, block.image)}" alt="{escape(block.title or block.caption)}">'
        title = f"<h3>{escape(block.title)}</h3>" if block.title else ""
        caption = f"<figcaption>{escape(block.caption)}</figcaption>"
        return f"<figure>{title}<picture>{dark}{image}</picture>{caption}</figure>"
    head = _row_html(map(escape, block.head), block, "col")
    rows = "\n".join(_section_or_row_html(row, block) for row in block.rows)
    return f'<div class="table"><table><thead>{head}</thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _section_or_row_html(row: tuple[str | Cell, ...] | Section, table: Table) -> str:
    if isinstance(row, Section):
        # The span stays in sight when the table is scrolled to the side.
        return f'<tr class="section"><td colspan="{len(table.head)}"><span>{escape(row.title)}</span></td></tr>'
    strong = isinstance(row[0], Cell) and row[0].strong
    return _row_html(map(_cell_html, row), table, "row", ' class="strong"' if strong else "")


def _row_html(cells: Iterable[str], table: Table, scope: str, style: str = "") -> str:
    parts = []
    for column, (name, cell) in enumerate(zip(table.head, cells, strict=True)):
        header = scope == "col" or column == 0
        kind = ' class="prose"' if name in table.prose else ""
        parts.append(f'<th scope="{scope}"{kind}>{cell}</th>' if header else f"<td{kind}>{cell}</td>")
    return f"<tr{style}>{''.join(parts)}</tr>"


def _cell_html(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    text = f"<strong>{escape(cell.text)}</strong>" if cell.strong and cell.text else escape(cell.text)
    return text + "".join(f"<small>{escape(small)}</small>" for small in cell.small)


def _is_numeric(table: Table, column: int) -> bool:
    return column > 0 and table.head[column] not in table.prose


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Real)


def _number_text(value: Any, digits: int) -> str:
    if value is None:
        return _MISSING
    if isinstance(value, numbers.Integral) or not _is_number(value):
        return " ".join(str(value).split())
    return f"{float(value):.{digits}f}" if math.isfinite(value) else _MISSING
