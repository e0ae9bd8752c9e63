"""``convert``: units and released models to and from the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.options import print_json
from syllablelm.core.errors import InputError, plural
from syllablelm.core.progress import note
from syllablelm.core.results import Record
from syllablelm.formats import FORMATS, FormatOptions

# Forms of a tokenizer, besides the formats of units.
TOKENIZERS = ("tokenizer", "released")
ALIGNMENTS, LM = "alignments", "lm"
if TYPE_CHECKING:
    Format = str
else:
    Format = Literal[(*FORMATS, *TOKENIZERS, ALIGNMENTS, LM)]
Tier = Literal["phone", "syllable", "word", "text"]


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="File or folder of units, tokenizer folder, SylBoost_*.pth, or language model (folder or weights).",
        ),
    ],
    to: Annotated[
        Format,
        typer.Option(
            "--to", metavar="FORMAT", help=f"Output format: {', '.join(FORMATS)}, or tokenizer, released, lm."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="PATH", help="Output file, folder (textgrid, sdhubert) or prefix (textless-lines)."
        ),
    ],
    source_format: Annotated[
        Format | None,
        typer.Option(
            "--from",
            metavar="FORMAT",
            help="Input format: one of those, tokenizer, released or alignments (default: by suffix and first record).",
        ),
    ] = None,
    hop: Annotated[
        int | None,
        typer.Option("--hop", metavar="SAMPLES", help="Samples per frame, where IN does not hold it (320: 50 Hz)."),
    ] = None,
    sample_rate: Annotated[
        int, typer.Option("--sample-rate", metavar="HZ", help="Sample rate, where IN does not hold it.")
    ] = 16_000,
    gap_unit: Annotated[
        int | None, typer.Option("--gap-unit", metavar="N", help="Unit that stands for a gap in formats without gaps.")
    ] = None,
    unit_frames: Annotated[
        int | None, typer.Option("--unit-frames", metavar="N", help="Frames per unit, where IN has no durations.")
    ] = None,
    deduplicate: Annotated[bool, typer.Option("--deduplicate", help="Join touching segments of equal units.")] = False,
    delta: Annotated[
        float | None, typer.Option("--delta", metavar="X", help="Threshold of a released tokenizer (default: by rate).")
    ] = None,
    tier: Annotated[
        Tier | None,
        typer.Option("--tier", help="Tier of alignments that becomes units; text: SentencePiece pieces of the words."),
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option("--vocabulary", metavar="FOLDER", help="Vocabulary of alignment labels.")
    ] = None,
    fit: Annotated[
        int | None,
        typer.Option("--fit", metavar="N", min=0, help="Create --vocabulary from the N most frequent labels (0: all)."),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Layout of a language model, such as bos=0; repeatable."),
    ] = None,
) -> None:
    """Convert units, a tokenizer or a language model to and from the formats of other programs.

    Nothing is lost silently: properties that a format does not hold are an error, or listed at the end. A tokenizer
    is converted by --to tokenizer or --to released, a released language model by --to lm, reference annotation by
    --from alignments.
    """
    options = FormatOptions(hop, sample_rate, gap_unit, unit_frames)
    if LM in (to, source_format):
        given = (source_format, tier, vocabulary, fit, delta, hop, gap_unit, unit_frames)
        if to != LM or deduplicate or any(value is not None for value in given):
            raise InputError("a language model is read by --to lm with --out and --set alone")
        from syllablelm.train.released_lm import convert_lm

        _print(convert_lm(source, out, layout or ()), out)
        return
    if layout:
        raise InputError("--set is for language models: --to lm")
    if ALIGNMENTS in (to, source_format):
        if deduplicate or unit_frames is not None or delta is not None:
            raise InputError("--deduplicate, --unit-frames and --delta are not for alignments")
        if to in (ALIGNMENTS, *TOKENIZERS):
            raise InputError(f"alignments cannot become {to}: --to is a format of units, such as jsonl")
        if tier is None or vocabulary is None:
            raise InputError("alignments need --tier phone|syllable|word|text and --vocabulary FOLDER")
        from syllablelm.tokenizer.reference_units import convert_alignments

        _print(convert_alignments(source, out, to=to, tier=tier, vocabulary=vocabulary, fit=fit, options=options), out)
        return
    if tier or vocabulary or fit is not None:
        raise InputError("--tier, --vocabulary and --fit are for --from alignments")
    if to in TOKENIZERS or source_format in TOKENIZERS:
        if deduplicate or {hop, gap_unit, unit_frames} != {None}:
            raise InputError("--hop, --gap-unit, --unit-frames and --deduplicate are for units, not for tokenizers")
        from syllablelm.tokenizer.convert_checkpoint import convert_tokenizer

        _print(convert_tokenizer(source, out, to=to, format=source_format, delta=delta), out)
        return
    if delta is not None:
        raise InputError("--delta is for released tokenizers, not for units")
    from syllablelm.formats.convert import convert_units

    _print(convert_units(source, out, to=to, format=source_format, options=options, deduplicate=deduplicate), out)


def _print(result: Record | dict[str, Any], out: Path) -> None:
    table = result.to_dict() if isinstance(result, Record) else result
    counts = [plural(table[f"{noun}s"], noun) for noun in ("recording", "segment", "unit") if f"{noun}s" in table]
    lost = f"; {table['to']} does not hold: {', '.join(table['loses'])}" if table["loses"] else ""
    print_json({**table, "out": str(out)})
    note(", ".join(counts) + lost)
