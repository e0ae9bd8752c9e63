"""``evaluate identity``: whether words are nearer to themselves in another voice than to non-words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syllablelm.cli.common import (
    DEFAULT_MODEL,
    Device,
    Model,
    Rate,
    Resamples,
    Seed,
    TableFormat,
    load_tokenizer,
    print_json,
)


def identity(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Words and non-words in two or more voices (prepare wordlist).")
    ],
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Folder below FOLDER/lexical.")] = "dev",
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Share of words nearer to themselves in another voice than to a non-word.

    By dynamic time warping over segment vectors and by edit distance of units.
    """
    from syllablelm.core.progress import ProgressBar
    from syllablelm.evaluate.lm.zerospeech import find_split, open_set_name
    from syllablelm.evaluate.units.word_identity import read_words, word_identity, word_stems

    place = find_split(folder, "lexical", split)
    total = len(word_stems(read_words(place)))
    tokenizer = load_tokenizer(model, device=device, rate=rate)
    with ProgressBar("identity", total, closing_line=False) as bar:
        result = word_identity(folder, tokenizer, split=split, progress=bar.advance)
    scores = result.to_dict(resamples=resamples, seed=seed)
    data = {"name": str(folder), "set": open_set_name(place), "recordings": result.recordings}
    if output_format == "json":
        print_json({"evaluation": "identity", "model": model, "data": data, **scores})
        return
    from syllablelm.core.table import format_table

    print(f"{folder}: {result.words} words in {', '.join(result.voices)}\n")
    print(format_table(scores["rows"], style=output_format), flush=True)
