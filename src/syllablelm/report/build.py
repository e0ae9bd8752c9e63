"""The report's folder: results in, a page and Markdown out."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from string import ascii_lowercase
from typing import ClassVar

from syllablelm.core import document
from syllablelm.core.document import Block, Bullets, Cell, Heading, Paragraph, Picture, Section, to_html, to_markdown
from syllablelm.core.errors import InputError, plural
from syllablelm.core.files import atomic_path
from syllablelm.core.progress import note
from syllablelm.core.results import Record, Result
from syllablelm.data.audio import load_audio
from syllablelm.report.extract import extract, extract_curves
from syllablelm.report.figures import FOLDER, Sample, draw_figures, has_matplotlib
from syllablelm.report.paper_tables import Row, Table, fill_tables
from syllablelm.report.result_files import read_inputs
from syllablelm.tokenizer.tokenizer import Tokenizer

PAGE, TEXT = "index.html", "report.md"
TITLE = "SyllableLM evaluation report"
INTRODUCTION = (
    "Published numbers of the SyllableLM paper (arXiv 2410.04029) beside ours. Ours are bold. "
    "An empty cell means that nothing was run."
)
WARNING = (
    "Rows on different sets, or by different protocols, cannot be compared: a difference between them says nothing "
    "about the methods. Rows of ours stand under their set and protocol."
)
NO_FIGURES = "This report has no figures: they need matplotlib (pip install 'syllablelm[plot]')."


@dataclass(frozen=True)
class Report:
    """A report before it is written: tables, figures, remarks and the number of results in it."""

    tables: tuple[Table, ...]
    figures: tuple[Picture, ...]
    notes: tuple[str, ...]
    num_results: int

    @property
    def html(self) -> str:
        """The report as one page."""
        return to_html(TITLE, make_page(self.tables, self.figures, self.notes))

    @property
    def markdown(self) -> str:
        """The report as Markdown, with links to its figures."""
        return to_markdown(TITLE, make_page(self.tables, self.figures, self.notes))


@dataclass(frozen=True)
class ReportData(Record):
    """Results of a report: the paths given, and the number of results in them."""

    name: str
    items: int


@dataclass(frozen=True)
class ReportResult(Result):
    """A report that was written.

    Args:
        model, data: tokenizer of the recording whose self-similarity is shown (None without one); the results.
        page, rows, figures: the page, number of rows of ours by table, and names of the figures.
    """

    evaluation: ClassVar[str] = "report"

    model: str | None
    data: ReportData
    page: str
    rows: Mapping[str, int]
    figures: tuple[str, ...]


def evaluate_report(
    results: Sequence[str | Path | Result],
    out: str | Path,
    *,
    audio: str | Path | None = None,
    model: str | Path = "small",
    device: str = "auto",
) -> ReportResult:
    """Write results beside the paper's tables: index.html, report.md and figures/.

    Args:
        results: as for `make_report`.
        out: output directory; an earlier report there is replaced.
        audio, model, device: recording whose self-similarity and segments are drawn, and its tokenizer.

    Raises:
        AudioError, FormatError, InputError: an unusable recording or ``out``, a file that is no result, or results that
            disagree about a cell.
    """
    for path in (audio, *results):
        if isinstance(path, str | Path) and Path(out).resolve() in Path(path).resolve().parents:
            raise InputError(f"{path}: lies in {out}, which the report replaces; choose another --out")
    sample = None
    if audio is not None and has_matplotlib():
        segmentation, features_TD = Tokenizer.load(model, device=device).encode_with_features(load_audio(audio))
        if not len(segmentation):
            raise InputError(f"{audio}: no segments to draw")
        sample = Sample(Path(audio).name, str(model), features_TD, segmentation)
    report = make_report(results, sample)
    for text in report.notes:
        note(text)
    folder = write_report(report, out)
    names = [one.evaluation if isinstance(one, Result) else str(one) for one in results]
    return ReportResult(
        model=None if audio is None else str(model),
        data=ReportData(" ".join(names), report.num_results),
        page=str(folder / PAGE),
        rows={table.id: len(table.ours) for table in report.tables},
        figures=tuple(Path(figure.file).stem for figure in report.figures),
    )


def make_report(results: Sequence[str | Path | Result], sample: Sample | None = None) -> Report:
    """Read results and put them beside the paper's.

    Args:
        results: results, their files, folders of such files, and PNG pictures.
        sample: recording whose self-similarity is drawn.

    Raises:
        FormatError, InputError: a file that is no result, or two results that disagree about a cell.
    """
    inputs = read_inputs(results)
    blocks = extract(inputs.results)
    tables = fill_tables(blocks)
    used = {block.source for block in blocks}
    notes = [f"{file.path.name} has no cell in these tables." for file in inputs.results if file.path not in used]
    if inputs.passed_over:
        files = plural(len(inputs.passed_over), "file")
        notes.append(f"Passed over: {files} that no evaluation printed, such as {inputs.passed_over[0]}.")
    figures: list[Picture] = []
    if has_matplotlib():
        figures = draw_figures(tables, extract_curves(inputs.results), sample)
    else:
        notes.append(NO_FIGURES)
    for number, path in enumerate(inputs.pictures, start=1):
        file = f"{FOLDER}/picture{number}.png"
        figures.append(Picture(file, f"As given: {path.name}.", path.read_bytes(), "image/png", path.stem))
    return Report(tables, tuple(figures), tuple(notes), len(inputs.results))


def write_report(report: Report, out: str | Path) -> Path:
    """Write a report into a folder that appears complete; replaces nothing but an earlier report (InputError)."""
    out = Path(out)
    if out.is_dir():
        foreign = {path.name for path in out.iterdir()} - {PAGE, TEXT, FOLDER}
        if foreign:
            raise InputError(f"{out}: holds {min(foreign)!r}, which is no part of a report; give another --out")
    elif out.exists():
        raise InputError(f"{out}: is a file; give a folder as --out")
    with atomic_path(out) as folder:
        folder.mkdir()
        (folder / PAGE).write_text(report.html, encoding="utf-8")
        (folder / TEXT).write_text(report.markdown, encoding="utf-8")
        for figure in report.figures:
            (folder / FOLDER).mkdir(exist_ok=True)
            (folder / figure.file).write_bytes(figure.image)
        # The new report is complete; only now is the earlier one removed.
        if out.is_dir():
            old = out.with_name(f".{out.name}.{uuid.uuid4().hex}.old")
            os.replace(out, old)
            shutil.rmtree(old)
    return out


def make_page(tables: Sequence[Table], figures: Sequence[Picture], notes: Sequence[str]) -> list[Block]:
    """Return the blocks of the report: notes, published rows and ours, and figures."""
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
