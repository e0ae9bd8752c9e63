"""``train recode`` and ``recode``: units to coarser units by a codec, and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import print_json
from syllablelm.core.errors import FormatError, InputError, plural
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.evaluate.units.bitrate import RateCounts

Units = Annotated[Path, typer.Argument(metavar="UNITS", help="A .jsonl, .parquet or .TextGrid file, or a folder.")]
# What can be read without being told anything.
FORMATS = ("jsonl", "parquet", "textgrid")


def train_recode(
    units: Annotated[list[Path], typer.Argument(metavar="UNITS...", help="Files or folders of units to learn from.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Of the codec.")],
    kind: Annotated[
        Literal["bpe", "unigram", "runs"],
        typer.Option("--kind", help="Byte pairs, SentencePiece unigram, or nothing but joined repeats."),
    ] = "bpe",
    vocab: Annotated[
        int,
        typer.Option("--vocab", metavar="N", min=0, help="Size with single units; default: bpe 4096, unigram 5000."),
    ] = 0,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="NAME|PATH", help="What made the units: tokenizer or vocabulary.")
    ] = "",
    num_units: Annotated[
        int, typer.Option("--num-units", metavar="N", min=0, help="Instead of --tokenizer: units of a foreign one.")
    ] = 0,
    keep_repeats: Annotated[
        bool, typer.Option("--keep-repeats", help="Do not join equal units that touch first.")
    ] = False,
) -> None:
    """A codec of coarser units: acoustic BPE, unigram pieces, or run lengths.

    Its folder serves as --model and as units.tokenizer of a recipe where its --tokenizer is a tokenizer.
    """
    if kind == "runs" and (vocab or keep_repeats):
        raise InputError("--kind runs joins repeats and has no size: leave --vocab and --keep-repeats out")
    from syllablelm.quantize.codec import Codec
    from syllablelm.train.codec_stage import RecodeConfig, train_codec

    config = RecodeConfig(kind, vocab, num_units, not keep_repeats)
    artifact = train_codec(units, config, out, tokenizer=tokenizer)
    codec = Codec.load(artifact.path)
    print_json({"kind": codec.kind, "path": str(out), "digest": codec.digest, "metrics": dict(artifact.metrics)})
    if vocab and codec.num_codes < vocab:
        note(f"the units hold pieces for a vocabulary of {codec.num_codes:,} only, not of {vocab:,}")


def recode(
    units: Units,
    codec: Annotated[Path, typer.Option("--codec", metavar="FOLDER", help="What 'train recode' made.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Recoded units, in the format of UNITS.")],
    decode: Annotated[bool, typer.Option("--decode", help="From codes back to units.")] = False,
) -> None:
    """Recode units by a codec; rates and bits per second before and after are printed."""
    from syllablelm.core.artifact import check_tokenizer
    from syllablelm.evaluate.units.bitrate import RateCounts, rate_counts
    from syllablelm.formats import Unsaid, detect_format, open_writer, read_entries, units_tokenizer
    from syllablelm.quantize.codec import Codec

    opened = Codec.load(codec)
    form = detect_format(units)
    if form not in FORMATS:
        raise InputError(f"{units}: a {form} file; 'convert' it to jsonl or Parquet first")
    if out.exists() and out.samefile(units):
        raise InputError(f"{out} is the input itself: choose another --out")
    unsaid = Unsaid(hop=opened.hop, sample_rate=opened.sample_rate)
    before: list[RateCounts] = []
    after: list[RateCounts] = []
    made_by = units_tokenizer(units)
    check_tokenizer("codec", opened.digest if decode else opened.tokenizer, made_by)
    with open_writer(out, form, unsaid, tokenizer=opened.tokenizer if decode else opened.digest) as writer:
        for entry in read_entries(units, form, unsaid):
            try:
                fine = entry.segmentation if decode else opened.prepare(entry.segmentation)
                made = opened.decode(fine) if decode else opened.encode(fine)
            except InputError as error:
                raise FormatError(f"{entry.place}: {error}") from None
            writer.write(entry.id, entry.path, made)
            before.append(rate_counts(fine))
            after.append(rate_counts(made))
        if not before:
            raise FormatError(f"{units}: holds no recording")
    sizes = (opened.num_codes, opened.num_units) if decode else (opened.num_units, opened.num_codes)
    print_json(
        {
            "codec": str(codec),
            "kind": opened.kind,
            "recordings": len(before),
            "seconds": RateCounts.merge(before).seconds,
            "before": _rates(before, sizes[0]),
            "after": _rates(after, sizes[1]),
            "out": str(out),
        }
    )
    note(f"{plural(len(before), 'recording')} {'decoded' if decode else 'recoded'}")


def _rates(counts: Iterable[RateCounts], size: int) -> dict[str, Any]:
    """Rates of units as the language model sees them: equal codes that touch are not joined."""
    from syllablelm.evaluate.units.bitrate import RateCounts

    total = RateCounts.merge(counts)
    return {
        "vocabulary": size,
        "units": total.units,
        "distinct_units": len(total.histogram),
        "unit_rate": total.rate(merged=False),
        "bits_per_second": total.bits_per_second(size, merged=False),
        "entropy_rate": total.entropy_rate(merged=False),
    }
