"""``evaluate report``: results beside the paper's numbers, as a page and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syllablelm.cli.options import DEFAULT_MODEL, Device, Model, print_json


def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Output of evaluate verbs, one result per file; folders; PNG pictures."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Output directory; an earlier report is replaced.")
    ],
    audio: Annotated[
        str | None, typer.Option("--audio", metavar="FILE", help="Recording whose self-similarity is drawn.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
) -> None:
    """Write results beside the paper's tables: index.html and report.md."""
    from syllablelm.report.build import evaluate_report

    print_json(evaluate_report(results, out, audio=audio, model=model, device=device))
