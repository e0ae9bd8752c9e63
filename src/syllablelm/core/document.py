"""A small document: headings, paragraphs, lists, tables and figures, as Markdown or as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from syllablelm.core.webpage import data_url, html_page

# Readable on a phone: one column, tables that scroll by themselves, pictures no wider than the page.
STYLE = """
body { margin: 0 auto; padding: 1rem; max-width: 46rem; font: 16px/1.5 system-ui, sans-serif; color: #222; }
h1, h2, h3 { line-height: 1.25; margin: 1.8em 0 .5em; } h1 { margin-top: .5em; }
figure { margin: 1rem 0; } figure img { width: 100%; max-width: 34rem; height: auto; }
figcaption { color: #555; font-size: .9em; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85em; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; } th:first-child, td:first-child { text-align: left; }
th.text, td.text { text-align: left; white-space: normal; min-width: 14rem; }
ul { padding-left: 1.2rem; }
"""


@dataclass(frozen=True)
class Heading:
    """Of a section; level 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of texts below a head; the column "status" holds prose."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A picture: the file beside the document, its contents (SVG), and what it shows."""

    file: str
    svg: str
    caption: str


Block = Heading | Paragraph | Bullets | Table | Figure


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The document as Markdown; pictures are linked by their file names."""
    parts = [f"# {title}"]
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {block.text}")
        elif isinstance(block, Paragraph):
            parts.append(_escaped(block.text))
        elif isinstance(block, Bullets):
            parts.append("\n".join(f"- {_escaped(item)}" for item in block.items))
        elif isinstance(block, Figure):
            parts.append(f"![{block.caption}]({block.file})\n\n*{block.caption}*")
        else:
            lines = [block.head, tuple("---" for _ in block.head), *block.rows]
            parts.append("\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines))
    return "\n\n".join(parts) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one page that needs no other file and no network."""
    body = "\n".join(_html(block) for block in blocks)
    return html_page(title, STYLE, f"<h1>{escape(title)}</h1>\n{body}")


def _escaped(text: str) -> str:
    """R_D* and the like are no emphasis, and a bar in a cell is no border."""
    return text.replace("*", "\\*").replace("|", "\\|")


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Figure):
        source = data_url("image/svg+xml", block.svg.encode())
        caption = escape(block.caption)
        return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'
    head = "".join(f'<th class="{_kind(name)}">{escape(name)}</th>' for name in block.head)
    rows = "".join(
        "<tr>" + "".join(_cell(name, cell) for name, cell in zip(block.head, row, strict=True)) + "</tr>"
        for row in block.rows
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(name: str, cell: str) -> str:
    return f'<td class="{_kind(name)}">{escape(cell)}</td>'


def _kind(name: str) -> str:
    # Prose may break; numbers may not.
    return "text" if name == "status" else "number"
