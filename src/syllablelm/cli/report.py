"""``evaluate report``: results beside the paper's numbers, as a page and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syllablelm.cli.common import DEFAULT_MODEL, Device, Model, load_tokenizer, print_json
from syllablelm.core.errors import InputError
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.report.figures import Sample


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS", help="What evaluate printed, a file each; run.json of train lm; folders; PNG pictures."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Of the report; an earlier one is replaced.")],
    audio: Annotated[
        str | None, typer.Option("--audio", metavar="FILE", help="Draw this recording's self-similarity and cuts.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
) -> None:
    """Put results beside the paper's tables: index.html and report.md."""
    from syllablelm.report.build import make_report, write_report
    from syllablelm.report.figures import has_matplotlib

    sample = _sample(audio, model, device) if audio is not None and has_matplotlib() else None
    made = make_report(results, sample)
    for text in made.notes:
        note(text)
    folder = write_report(made, out)
    print_json(
        {
            "evaluation": "report",
            "model": model if audio is not None else None,
            "data": {"name": " ".join(map(str, results)), "items": made.num_results},
            "page": str(folder / "index.html"),
            "rows": {table.id: len(table.ours) for table in made.tables},
            "figures": [figure.name for figure in made.figures],
        }
    )


def _sample(audio: str, model: str, device: str) -> Sample:
    from syllablelm.data.audio import load_audio
    from syllablelm.report.figures import Sample

    waveform = load_audio(audio)
    tokenizer = load_tokenizer(model, device=device)
    segmentation, features = tokenizer.encode_with_features(waveform)
    if not len(segmentation):
        raise InputError(f"{audio}: no segments to draw")
    return Sample(Path(audio).name, model, features, segmentation)
