"""``train recode`` and ``recode``: codecs of units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from syllablelm.cli.options import print_json
from syllablelm.core.errors import plural
from syllablelm.core.progress import note


def train_recode(
    units: Annotated[list[Path], typer.Argument(metavar="UNITS...", help="Files or folders of training units.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Output directory.")],
    kind: Annotated[
        Literal["bpe", "unigram", "runs"],
        typer.Option(
            "--kind",
            metavar="bpe|unigram|runs",
            help="Acoustic BPE, SentencePiece unigram, or deduplication only (runs).",
        ),
    ] = "bpe",
    vocab: Annotated[
        int,
        typer.Option(
            "--vocab", metavar="N", min=0, help="Vocabulary size, single units included (0: bpe 4096, unigram 5000)."
        ),
    ] = 0,
    tokenizer: Annotated[
        str,
        typer.Option("--tokenizer", metavar="NAME|PATH", help="Tokenizer, vocabulary or codec that made the units."),
    ] = "",
    num_units: Annotated[
        int,
        typer.Option(
            "--num-units", metavar="N", min=0, help="Vocabulary size of a foreign tokenizer, instead of --tokenizer."
        ),
    ] = 0,
    keep_repeats: Annotated[
        bool, typer.Option("--keep-repeats", help="Train on units that are not deduplicated.")
    ] = False,
) -> None:
    """Train a codec that encodes units as fewer, coarser units.

    Its folder serves as --model and as units.tokenizer of a recipe where its --tokenizer is a tokenizer.
    """
    from syllablelm.train.token_stage import train_codec

    codec = train_codec(
        units, out, kind, vocab_size=vocab, tokenizer=tokenizer, num_units=num_units, deduplicate=not keep_repeats
    )
    print_json(codec)
    size = codec.metrics["num_codes"]
    if size < vocab:
        note(f"the units only hold enough repetition for a vocabulary of {size:,}, not {vocab:,}")


def recode(
    units: Annotated[
        Path, typer.Argument(metavar="UNITS", help="A .jsonl, .parquet or .TextGrid file, or a folder of them.")
    ],
    codec: Annotated[Path, typer.Option("--codec", metavar="FOLDER", help="Codec that 'train recode' made.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Output file, in the format of UNITS.")],
    decode: Annotated[bool, typer.Option("--decode", help="Decode codes to units.")] = False,
) -> None:
    """Encode or decode units by a codec, and print unit and bit rates before and after."""
    from syllablelm.evaluate.units.recoding import recode_units

    result = recode_units(units, codec, out, decode=decode)
    print_json(result)
    note(f"{plural(result.recordings, 'recording')} {'decoded' if decode else 'recoded'}")
