"""``tokenize`` and ``plot``: recordings to units, and a picture of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from syllablelm.cli.options import DEFAULT_MODEL, Audio, Delta, Device, Model, Precision, Rate, Rule, print_json
from syllablelm.core.errors import one_line, plural
from syllablelm.core.progress import note
from syllablelm.formats import TOKENIZE_FORMATS


def tokenize(
    audio: Audio,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    rule: Rule = None,
    delta: Delta = None,
    output_format: Annotated[
        str, typer.Option("--format", metavar="|".join(TOKENIZE_FORMATS), help="Output format.")
    ] = "jsonl",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="Output file (textgrid: folder); default: standard output."),
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            "--errors", metavar="FILE", help="List of unusable files; default: OUT.errors.jsonl, or standard error."
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """Turn recordings into units.

    Unusable files are listed and counted, the others are encoded. Recordings of any length need little memory. OUT
    appears at the end; a stopped run starts over ('encode' goes on).
    """
    from syllablelm.tokenizer.recordings import tokenize_files

    options: dict[str, Any] = {"rate": rate, "rule": rule, "delta": delta, "device": device, "precision": precision}
    done = tokenize_files(audio, model, out=out or sys.stdout, format=output_format, errors=errors, **options)
    if done.errors is None:
        for item in done.skipped:
            note(one_line(f"skipped {item.path}: {item.reason}"))
    where = f" (see {done.errors})" if done.errors is not None and done.skipped else ""
    note(
        f"{plural(done.recordings, 'recording')}, {done.seconds / 3600:.2f} h, {plural(done.units, 'unit')}, "
        f"{done.seconds / max(done.took_seconds, 1e-9):.1f} s of audio per second, {len(done.skipped)} skipped{where}"
    )


def plot(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="One recording.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Output .png, .svg or .pdf; default: the recording's name with .png."
        ),
    ] = None,
    alignment: Annotated[
        Path | None,
        typer.Option("--alignment", metavar="FILE", help="Reference: .jsonl, .TextGrid, .ctm or a folder of them."),
    ] = None,
    start: Annotated[float, typer.Option("--start", metavar="SECONDS", help="First second shown.")] = 0.0,
    seconds: Annotated[float, typer.Option("--seconds", metavar="SECONDS", help="Length of the stretch shown.")] = 6.0,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    rule: Rule = None,
    delta: Delta = None,
    device: Device = "auto",
) -> None:
    """Draw a recording and its units.

    Spectrogram, boundaries, units, self-similarity of the features, and a reference if given.
    """
    from syllablelm.report.recording_picture import plot_recording

    view: dict[str, Any] = {"out": out, "alignment": alignment, "start": start, "seconds": seconds}
    print_json(plot_recording(audio, model, **view, rate=rate, rule=rule, delta=delta, device=device))
