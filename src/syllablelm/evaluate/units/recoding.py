"""Recoding of unit files by a codec, and the unit and bit rates before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from syllablelm.core.artifact import check_tokenizer
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.results import Record
from syllablelm.evaluate.units.bitrate import RateCounts, rate_counts
from syllablelm.formats import FormatOptions, detect_format, open_writer, read_entries, unit_files, units_tokenizer
from syllablelm.quantize.codec import Codec

# Formats that hold all that is recoded.
FORMATS = ("jsonl", "parquet", "textgrid")


@dataclass(frozen=True)
class CodeRates(Record):
    """Rates of units as a language model sees them: equal codes that touch are not joined.

    Args:
        vocabulary: vocabulary size.
        units, distinct_units: number of units, and of different ones that occur.
        unit_rate: units per second.
        bits_per_second: unit rate times log2 of the vocabulary size.
        entropy_rate: unit rate times the entropy of a unit, in bits per second.
    """

    vocabulary: int
    units: int
    distinct_units: int
    unit_rate: float
    bits_per_second: float
    entropy_rate: float

    @classmethod
    def of(cls, counts: RateCounts, vocabulary: int) -> CodeRates:
        """Return the rates of counts of units."""
        return cls(
            vocabulary,
            counts.units,
            len(counts.histogram),
            counts.rate(deduplicated=False),
            counts.bits_per_second(vocabulary, deduplicated=False),
            counts.entropy_rate(deduplicated=False),
        )


@dataclass(frozen=True)
class RecodingResult(Record):
    """A file of units, recoded: folder and kind of the codec, the audio, rates before and after, and the output."""

    codec: str
    kind: str
    recordings: int
    seconds: float
    before: CodeRates
    after: CodeRates
    out: str


def recode_units(units: str | Path, codec: str | Path, out: str | Path, *, decode: bool = False) -> RecodingResult:
    """Encode the units of a file by a codec, or decode them.

    Args:
        units: jsonl, Parquet or TextGrid file, or a folder of them.
        codec, out: folder of a codec, and output file, in the format of the input.
        decode: decode codes to units.

    Raises:
        InputError: another format, or an output that is the input.
        FormatError: no recording, units of another tokenizer, or units that the codec does not know.
    """
    units, out, opened = Path(units), Path(out), Codec.load(codec)
    format = detect_format(units)
    if format not in FORMATS:
        raise InputError(f"{units}: a {format} file; 'convert' it to jsonl or Parquet first")
    check_tokenizer("codec", opened.digest if decode else opened.tokenizer, units_tokenizer(units))
    options = FormatOptions(hop=opened.hop, sample_rate=opened.sample_rate)
    before, after = [], []
    tokenizer = opened.tokenizer if decode else opened.digest
    with open_writer(out, format, options, tokenizer=tokenizer, inputs=unit_files(units, format)) as writer:
        for entry in read_entries(units, format, options):
            try:
                given = entry.segmentation if decode else opened.prepare(entry.segmentation)
                made = opened.decode(given) if decode else opened.encode(given)
            except InputError as error:
                raise FormatError(f"{entry.place}: {error}") from None
            writer.write(entry.id, entry.path, made)
            before.append(rate_counts(given))
            after.append(rate_counts(made))
        if not before:
            raise FormatError(f"{units}: holds no recording")
    sizes = (opened.num_codes, opened.num_units) if decode else (opened.num_units, opened.num_codes)
    total = RateCounts.merge(before)
    return RecodingResult(
        codec=str(codec),
        kind=opened.kind,
        recordings=len(before),
        seconds=total.seconds,
        before=CodeRates.of(total, sizes[0]),
        after=CodeRates.of(RateCounts.merge(after), sizes[1]),
        out=str(out),
    )
