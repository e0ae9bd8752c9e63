"""Rows of scores as aligned text, Markdown or JSON."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from syllablelm.core.errors import InputError

STYLES = ("text", "markdown", "json")
_MISSING = "-"


def format_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | Mapping[str, str] | None = None,
    style: str = "text",
    *,
    digits: int = 3,
) -> str:
    """Format rows of scores for people or programs.

    Args:
        rows: one mapping of column to value per row; a missing value is shown as "-" and is null in JSON.
        columns: columns to show in order, or a mapping of column to heading; by default all, in order of appearance.
        style: "text" (aligned), "markdown" or "json" (a list of objects, numbers in full).
        digits: decimals of floats in text and Markdown.

    Returns:
        The table, without a newline at the end. Numbers are aligned to the right.

    Raises:
        InputError: an unknown style or a column that no row has.
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
            [{column: _plain(row.get(column)) for column in wanted} for row in rows], indent=2, default=str
        )
    headings: list[str] = list(columns.values()) if isinstance(columns, Mapping) else list(wanted)
    cells = [[_cell(row.get(column), digits) for column in wanted] for row in rows]
    right = [any(_is_number(row.get(column)) for row in rows) for column in wanted]
    if style == "markdown":
        headings, *cells = [[cell.replace("|", "\\|") for cell in line] for line in (headings, *cells)]
    widths = [max(len(line[k]) for line in (headings, *cells)) for k in range(len(headings))]
    return _join(headings, cells, right, widths, markdown=style == "markdown")


def _join(headings: list[str], cells: list[list[str]], right: list[bool], widths: list[int], *, markdown: bool) -> str:
    def line(values: list[str]) -> str:
        padded = [
            value.rjust(width) if numeric else value.ljust(width)
            for value, numeric, width in zip(values, right, widths, strict=True)
        ]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    if markdown:
        rules = ["-" * (width + 1) + (":" if n else "-") for width, n in zip(widths, right, strict=True)]
        rule = f"|{'|'.join(rules)}|"
    else:
        rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(headings), rule, *map(line, cells)])


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return _MISSING
    if isinstance(value, numbers.Integral) or not _is_number(value):
        return " ".join(str(value).split())
    return f"{float(value):.{digits}f}" if math.isfinite(value) else _MISSING


def _plain(value: Any) -> Any:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if _is_number(value):
        # JSON has no NaN and no infinity.
        return float(value) if math.isfinite(value) else None
    return value
