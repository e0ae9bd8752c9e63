"""``convert``: units and released tokenizers to and from the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import print_json
from syllablelm.core.errors import InputError, plural
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.formats import Unsaid

# As in `syllablelm.formats`, which is not imported here because it loads numpy; the two forms of a
# tokenizer, and reference annotation.
Format = Literal[
    "jsonl",
    "parquet",
    "textgrid",
    "slamkit",
    "slamkit-tokens",
    "textless",
    "textless-lines",
    "gslm",
    "sdhubert",
    "tokenizer",
    "released",
    "alignments",
]
Tier = Literal["phone", "syllable", "word", "text"]
TOKENIZERS = ("tokenizer", "released")


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A file or folder of units, a tokenizer's folder, or SylBoost_*.pth.")
    ],
    to: Annotated[Format, typer.Option("--to", help="What to write.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="PATH", help="File, folder (textgrid, sdhubert) or prefix (textless-lines)."),
    ],
    source_format: Annotated[
        Format | None, typer.Option("--from", help="What IN is; default by its suffix and its first line.")
    ] = None,
    hop: Annotated[
        int | None,
        typer.Option("--hop", metavar="SAMPLES", help="Of a frame, where IN does not say (320 at 16 kHz: 50 Hz)."),
    ] = None,
    sample_rate: Annotated[
        int, typer.Option("--sample-rate", metavar="HZ", help="Of the samples, where IN does not say.")
    ] = 16_000,
    gap_unit: Annotated[
        int | None,
        typer.Option("--gap-unit", metavar="N", help="Unit that stands for a gap in formats without gaps."),
    ] = None,
    unit_frames: Annotated[
        int | None,
        typer.Option("--unit-frames", metavar="N", help="Frames of every unit, where IN has no durations."),
    ] = None,
    merge_repeats: Annotated[
        bool, typer.Option("--merge-repeats", help="Join segments that touch and carry the same unit.")
    ] = False,
    delta: Annotated[
        float | None,
        typer.Option("--delta", help="Threshold of a released tokenizer; default that of the rate in its name."),
    ] = None,
    tier: Annotated[
        Tier | None,
        typer.Option("--tier", help="Of alignments: what becomes units; text is SentencePiece pieces of the words."),
    ] = None,
    vocab: Annotated[
        Path | None, typer.Option("--vocab", metavar="FOLDER", help="Of alignments: labels and their units.")
    ] = None,
    fit: Annotated[
        int | None,
        typer.Option("--fit", metavar="N", min=0, help="Make --vocab of the N most frequent labels (0: of all)."),
    ] = None,
) -> None:
    """Convert units, or a tokenizer, to and from the formats of other programs.

    Nothing is lost in silence: what a format cannot hold is an error, or named when done.
    """
    from syllablelm.formats import Unsaid

    if "alignments" in (to, source_format):
        if merge_repeats or unit_frames is not None or delta is not None:
            raise InputError("--merge-repeats, --unit-frames and --delta are not for alignments")
        _convert_alignments(source, out, to, tier, vocab, fit, Unsaid(hop, sample_rate, gap_unit))
        return
    if tier or vocab or fit is not None:
        raise InputError("--tier, --vocab and --fit are for --from alignments")
    if to in TOKENIZERS or source_format in TOKENIZERS:
        if merge_repeats or {hop, gap_unit, unit_frames} != {None}:
            raise InputError("--hop, --gap-unit, --unit-frames and --merge-repeats are for units, not for tokenizers")
        from syllablelm.tokenizer.convert_checkpoint import convert_tokenizer

        result = convert_tokenizer(source, out, to=to, format=source_format, delta=delta)
        _report(result, out, plural(result["units"], "unit"))
        return
    if delta is not None:
        raise InputError("--delta is for released tokenizers, not for units")
    from syllablelm.formats.convert import convert_units

    unsaid = Unsaid(hop=hop, sample_rate=sample_rate, gap_unit=gap_unit, unit_frames=unit_frames)
    result = convert_units(source, out, to=to, format=source_format, unsaid=unsaid, merge_repeats=merge_repeats)
    _report(result, out, f"{plural(result['recordings'], 'recording')}, {plural(result['segments'], 'segment')}")


def _convert_alignments(
    source: Path, out: Path, to: str, tier: Tier | None, vocab: Path | None, fit: int | None, unsaid: Unsaid
) -> None:
    if to == "alignments" or to in TOKENIZERS:
        raise InputError(f"alignments cannot become {to}: --to is a format of units, such as jsonl")
    if tier is None or vocab is None:
        raise InputError("alignments need --tier phone|syllable|word|text and --vocab FOLDER")
    from syllablelm.tokenizer.alignment_units import convert_alignments

    result = convert_alignments(source, out, to=to, tier=tier, vocabulary=vocab, fit=fit, unsaid=unsaid)
    _report(result, out, f"{plural(result['recordings'], 'recording')}, {plural(result['segments'], 'segment')}")


def _report(result: dict[str, Any], out: Path, counts: str) -> None:
    print_json({**result, "out": str(out)})
    note(counts + (f"; {result['to']} does not hold: {', '.join(result['loses'])}" if result["loses"] else ""))
