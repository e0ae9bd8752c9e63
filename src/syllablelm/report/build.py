"""The report's folder: results in, a page and Markdown out."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from syllablelm.core.errors import InputError, plural
from syllablelm.core.files import atomic_path
from syllablelm.report.extract import EXTRACTORS, curves, extract
from syllablelm.report.figures import Figure, Sample, draw_figures, has_matplotlib
from syllablelm.report.html import render_html
from syllablelm.report.markdown import render_markdown
from syllablelm.report.paper_tables import Table, fill_tables
from syllablelm.report.result_files import read_results

PAGE, TEXT, FIGURES = "index.html", "report.md", "figures"
NO_FIGURES = "This report has no figures: they need matplotlib (pip install 'syllablelm[plot]')."


@dataclass(frozen=True)
class Report:
    """What a report holds, before it is written."""

    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    num_results: int


def make_report(paths: Sequence[str | Path], sample: Sample | None = None) -> Report:
    """Read results and put them beside the paper's.

    Args:
        paths: files that ``evaluate`` printed, records of ``train lm``, PNG pictures, or folders of such JSON.
        sample: a recording whose similarity matrix is drawn.

    Raises:
        FormatError: a file that is no result, or one without a key that its evaluation needs.
        InputError: an evaluation that has no place here, or two results that disagree about a cell.
    """
    found = read_results([Path(path) for path in paths], EXTRACTORS)
    results = found.results
    blocks = extract(results)
    tables = fill_tables(blocks)
    used = {block.source for block in blocks}
    notes = [f"{result.path.name} has no cell in these tables." for result in results if result.path not in used]
    if found.passed_over:
        first = found.passed_over[0]
        notes.append(
            f"Passed over: {plural(len(found.passed_over), 'file')} that no evaluation printed, such as {first}."
        )
    drawn: list[Figure] = []
    if has_matplotlib():
        drawn = draw_figures(tables, curves(results), sample)
    else:
        notes.append(NO_FIGURES)
    for number, picture in enumerate(found.pictures, start=1):
        data = picture.read_bytes()
        drawn.append(Figure(f"picture{number}", picture.stem, f"As given: {picture.name}.", data, data))
    return Report(tables, tuple(drawn), tuple(notes), len(results))


def write_report(report: Report, out: str | Path) -> Path:
    """Write index.html, report.md and figures/ into a folder that appears whole; an earlier report is replaced.

    Raises:
        InputError: ``out`` is a file, or a folder that holds anything else than a report.
    """
    out = Path(out)
    _check_place(out)
    with atomic_path(out) as folder:
        folder.mkdir()
        (folder / PAGE).write_text(render_html(report.tables, report.figures, report.notes), encoding="utf-8")
        text = render_markdown(report.tables, report.figures, report.notes, FIGURES)
        (folder / TEXT).write_text(text, encoding="utf-8")
        if report.figures:
            (folder / FIGURES).mkdir()
        for figure in report.figures:
            (folder / FIGURES / f"{figure.name}.png").write_bytes(figure.light)
        _clear(out)
    return out


def _check_place(out: Path) -> None:
    if out.is_dir():
        strange = {path.name for path in out.iterdir()} - {PAGE, TEXT, FIGURES}
        if strange:
            raise InputError(f"{out}: holds {min(strange)!r}, which is no part of a report; give another --out")
    elif out.exists():
        raise InputError(f"{out}: is a file; give a folder as --out")


def _clear(out: Path) -> None:
    """Take an earlier report away, once the new one is complete."""
    if out.is_dir():
        old = out.with_name(f".{out.name}.{uuid.uuid4().hex}.old")
        os.replace(out, old)
        shutil.rmtree(old)
