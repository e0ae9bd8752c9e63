"""The report as one HTML page that loads nothing: styles and pictures are inside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from syllablelm.core.webpage import data_url, html_page
from syllablelm.report.figures import Figure
from syllablelm.report.markdown import INTRODUCTION, TITLE, WARNING, caption
from syllablelm.report.paper_tables import Row, Table

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --quiet: #5b6470; --line: #dfe3e8;
  --ours: #fff4ec; --group: #f3f5f7; --accent: #b34700; --warn: #fff8e1; --warn-line: #e0b000; }
@media (prefers-color-scheme: dark) { :root { --paper: #171b21; --ink: #e6e8eb; --quiet: #9aa3af; --line: #313842;
  --ours: #2b221c; --group: #20262e; --accent: #ff9d5c; --warn: #2b2715; --warn-line: #a88700; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 2.2rem 0 .4rem; }
p { margin: .4rem 0; overflow-wrap: anywhere; }
nav { font-size: .9rem; } nav a { color: var(--accent); margin-right: .8rem; white-space: nowrap; }
.warning { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .6rem .8rem; margin: .8rem 0; }
.caption, figcaption, .notes { color: var(--quiet); font-size: .88rem; }
.notes { padding-left: 1.2rem; margin: .4rem 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; font-size: .82rem; font-weight: 600; vertical-align: bottom; min-width: 4.2rem; }
th:first-child { text-align: left; font-weight: 400; position: sticky; left: 0; background: var(--paper);
  min-width: 15rem; max-width: 22rem; overflow-wrap: anywhere; border-right: 1px solid var(--line); }
thead th:first-child { font-weight: 600; }
.group td { text-align: left; background: var(--group); color: var(--quiet); font-size: .82rem; }
.mine td { background: var(--ours); }
.group span { position: sticky; left: .6rem; display: inline-block; max-width: min(80vw, 60rem); }
.ours th, .ours td, .ours th:first-child { background: var(--ours); }
.ours strong { color: var(--accent); }
small { display: block; color: var(--quiet); font-size: .75rem; line-height: 1.35; font-weight: 400; }
td small { white-space: nowrap; } td small.set { white-space: normal; }
figure { margin: 1rem 0 2rem; } figure img { max-width: 100%; height: auto; display: block; border-radius: 6px; }
@media (min-width: 60rem) { .figures { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem; } }
@media (max-width: 30rem) { body { padding: .7rem; } th, td { padding: .3rem .45rem; font-size: .88rem; }
  th:first-child { min-width: 8rem; max-width: 10.5rem; } }
"""


def render_html(tables: Sequence[Table], figures: Sequence[Figure], notes: Sequence[str]) -> str:
    """The whole page.

    Args:
        tables: published rows and ours.
        figures: embedded in a light and a dark version; the reader's system chooses.
        notes: said at the top, as of figures that could not be drawn.
    """
    links = [f'<a href="#table{table.id}">Table {table.id}</a>' for table in tables]
    links += ['<a href="#figures">Figures</a>'] if figures else []
    body = [
        f"<h1>{escape(TITLE)}</h1>",
        f"<p>{escape(INTRODUCTION)}</p>",
        f'<p class="warning"><strong>{escape(WARNING)}</strong></p>',
        *(f"<p>{escape(note)}</p>" for note in notes),
        f"<nav>{' '.join(links)}</nav>",
        *(_section(table) for table in tables),
    ]
    if figures:
        body += ['<h2 id="figures">Figures</h2>', '<div class="figures">', *map(_picture, figures), "</div>"]
    return html_page(TITLE, _STYLE, "\n".join(body))


def _section(table: Table) -> str:
    headings = "".join(f'<th scope="col">{escape(column.heading)}</th>' for column in table.columns)
    rows = [_group(table, f"Published: {table.data}")] if table.published else []
    rows += [_row(table, row) for row in table.published]
    if table.shared:
        rows.append(_group(table, f"Ours: {table.shared}"))
    for told, ours in table.groups:
        rows += [_group(table, told if table.shared else f"Ours: {told}", ours=True)]
        rows += [_row(table, row) for row in ours]
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return "\n".join(
        [
            f'<section>\n<h2 id="table{table.id}">Table {table.id}. {escape(table.title)}</h2>',
            f'<p class="caption">{escape(caption(table))}</p>',
            '<div class="scroll"><table>',
            f'<thead><tr><th scope="col">System</th>{headings}</tr></thead>',
            "<tbody>",
            *rows,
            "</tbody></table></div>",
            f'<ul class="notes">{notes}</ul>\n</section>' if notes else "</section>",
        ]
    )


def _group(table: Table, text: str, *, ours: bool = False) -> str:
    """A line above rows that share set and protocol; it stays in sight when the table is scrolled to the side."""
    span = len(table.columns) + 1
    kind = "group mine" if ours else "group"
    return f'<tr class="{kind}"><td colspan="{span}"><span>{escape(text)}</span></td></tr>'


def _row(table: Table, row: Row) -> str:
    small = f"<small>{escape(row.detail)}</small>" if row.detail else ""
    name = f"<strong>{escape(row.name)}</strong>" if row.ours else escape(row.name)
    cells = []
    for column in table.columns:
        value = row.values.get(column.key)
        shown, interval = column.show(value)
        bold = f"<strong>{escape(shown)}</strong>" if row.ours and shown else escape(shown)
        below = f"<small>{escape(interval)}</small>" if interval else ""
        below += f'<small class="set">{escape(value.on)}</small>' if value and value.on and shown else ""
        cells.append(f"<td>{bold}{below}</td>")
    kind = ' class="ours"' if row.ours else ""
    return f'<tr{kind}><th scope="row">{name}{small}</th>{"".join(cells)}</tr>'


def _picture(figure: Figure) -> str:
    light, dark = (data_url("image/png", data) for data in (figure.light, figure.dark))
    title = escape(figure.title)
    return (
        f'<figure><h3>{title}</h3><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{title}"></picture><figcaption>{escape(figure.caption)}</figcaption></figure>'
    )
