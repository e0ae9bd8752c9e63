"""``tokenize`` and ``plot``: recordings to units, and a picture of one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from syllablelm.cli.common import (
    DEFAULT_MODEL,
    Audio,
    Delta,
    Device,
    Model,
    Precision,
    Rate,
    Rule,
    encode_recordings,
    errors_file,
    load_tokenizer,
    no_usable,
    print_json,
    read_recordings,
)
from syllablelm.core.errors import InputError, plural
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.data.alignment import Interval
    from syllablelm.data.corpus import SkippedFile

# As in `syllablelm.formats`, which is not imported here because it loads numpy.
Format = Literal["jsonl", "parquet", "textgrid", "slamkit"]


def tokenize(
    audio: Audio,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    rule: Rule = None,
    delta: Delta = None,
    output_format: Annotated[Format, typer.Option("--format", help="What to write.")] = "jsonl",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File (textgrid: folder); default standard output.")
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            "--errors", metavar="FILE", help="List unusable files here; default OUT.errors.jsonl, or standard error."
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """Turn recordings into units.

    Unusable files are listed and counted, the rest is encoded. Recordings of any length need little memory.
    """
    if out is None and output_format in ("parquet", "textgrid"):
        raise InputError(f"--format {output_format} does not go to standard output; give --out PATH")
    from syllablelm.formats import open_writer

    manifest, skipped = read_recordings(audio)
    listing = errors if errors is not None or out is None else errors_file(out)
    done, units, seconds = 0, 0, 0.0
    started = time.monotonic()
    try:
        if not manifest:
            raise no_usable(skipped)
        tokenizer = load_tokenizer(model, device=device, rate=rate, rule=rule, delta=delta, precision=precision)
        started = time.monotonic()
        target = sys.stdout if out is None else out
        with open_writer(target, output_format, tokenizer=tokenizer.digest) as writer:
            for recording, segmentation in encode_recordings(tokenizer, manifest, skipped):
                if output_format == "textgrid" and segmentation.num_frames == 0:
                    skipped.append(_too_short(recording.path))
                    continue
                writer.write(recording.id, recording.path, segmentation)
                done, units, seconds = done + 1, units + len(segmentation), seconds + recording.seconds
            if not done:
                raise no_usable(skipped)
    finally:
        if listing is not None:
            _write_errors(skipped, listing)
    if listing is None:
        for item in skipped:
            note(f"skipped {item.path}: {item.reason}")
    speed = seconds / max(time.monotonic() - started, 1e-9)
    where = f" (see {listing})" if listing is not None and skipped else ""
    note(
        f"{plural(done, 'recording')}, {seconds / 3600:.2f} h, {plural(units, 'unit')}, "
        f"{speed:.1f} s of audio per second, {len(skipped)} skipped{where}"
    )


def _too_short(path: Path) -> SkippedFile:
    from syllablelm.data.corpus import SkippedFile

    return SkippedFile(path, "is shorter than one frame, which a TextGrid cannot hold")


def _write_errors(skipped: list[SkippedFile], path: Path) -> None:
    from syllablelm.data.corpus import write_errors

    write_errors(skipped, path)


def plot(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="One recording.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PICTURE", help="A .png, .svg or .pdf; default the recording's name + .png."),
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
    from syllablelm.data.audio import load_audio
    from syllablelm.report.segmentation_figure import plot_segmentation

    waveform = load_audio(audio)
    reference = None if alignment is None else _reference(alignment, Path(audio).stem)
    tokenizer = load_tokenizer(model, device=device, rate=rate, rule=rule, delta=delta)
    segmentation, features = tokenizer.encode_with_features(waveform)
    picture = out or Path(Path(audio).stem + ".png")
    plot_segmentation(
        waveform,
        segmentation,
        features,
        path=picture,
        reference=reference,
        title=Path(audio).name,
        start=start,
        seconds=seconds,
    )
    print_json({"picture": str(picture), "segments": len(segmentation), "seconds": segmentation.duration})


def _reference(path: Path, name: str) -> tuple[Interval, ...]:
    """Syllables of the recording of this name, or of the only one that the file holds."""
    from syllablelm.data.alignment import read_alignments

    found = read_alignments(path)
    if name in found:
        return found[name].syllables
    if len(found) == 1:
        return next(iter(found.values())).syllables
    raise InputError(f"{path}: none of its {plural(len(found), 'alignment')} has the id {name!r}")
