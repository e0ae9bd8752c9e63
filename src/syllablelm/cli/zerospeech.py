"""Verbs of ``evaluate`` for language models on pairs of recordings: ``lexical``, ``syntactic``, ``cloze``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syllablelm.cli.options import DEFAULT_MODEL, Device, Model, Resamples, Seed, TableFormat, Units, print_json
from syllablelm.evaluate.lm import TieRule

if TYPE_CHECKING:
    from syllablelm.evaluate.lm.pairs import PairsResult

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the benchmark.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder; a stopped run resumes there.")]
LanguageModel = Annotated[
    str | None, typer.Option("--lm", metavar="NAME|PATH", help="Language model (default: that of --model).")
]
Split = Annotated[str, typer.Option("--split", metavar="dev|test", help="Part of the benchmark.")]
Ties = Annotated[TieRule, typer.Option("--ties", help="Score of equal likelihoods: half a point, or none.")]


def lexical(
    folder: Folder,
    out: Out,
    model: Model = DEFAULT_MODEL,
    lm: LanguageModel = None,
    split: Split = "dev",
    units: Units = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Measure how often a language model finds words likelier than non-words (sWUGGY).

    FOLDER: that of ZeroSpeech 2021, or of 'prepare wordlist'. DIR/lexical/SPLIT.txt is the submission file.
    """
    from syllablelm.evaluate.lm.suites import evaluate_lexical

    result = evaluate_lexical(
        folder, out, model=model, lm=lm, units=units, split=split, resamples=resamples, seed=seed, device=device
    )
    print_pairs(result, output_format)


def syntactic(
    folder: Folder,
    out: Out,
    model: Model = DEFAULT_MODEL,
    lm: LanguageModel = None,
    split: Split = "dev",
    units: Units = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Measure how often a language model finds grammatical sentences likelier (sBLIMP).

    FOLDER: that of ZeroSpeech 2021, or of 'prepare minimal-pairs'. DIR/syntactic/SPLIT.txt is the submission file.
    """
    from syllablelm.evaluate.lm.suites import evaluate_syntactic

    result = evaluate_syntactic(
        folder, out, model=model, lm=lm, units=units, split=split, resamples=resamples, seed=seed, device=device
    )
    print_pairs(result, output_format)


def cloze(
    folder: Folder,
    out: Out,
    model: Model = DEFAULT_MODEL,
    lm: LanguageModel = None,
    ties: Ties = "half",
    units: Units = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Measure how often a language model finds a story's own ending likelier (tStoryCloze).

    FOLDER holds ..._STORY_correct.wav and ..._STORY_incorrect.wav; DIR/cloze/FOLDER.txt holds the scores.
    """
    from syllablelm.evaluate.lm.cloze import evaluate_cloze

    result = evaluate_cloze(
        folder, out, model=model, lm=lm, units=units, ties=ties, resamples=resamples, seed=seed, device=device
    )
    print_pairs(result, output_format)


def print_pairs(result: PairsResult, output_format: str) -> None:
    """Print a result as JSON, or as a line of facts and a table of accuracies."""
    if output_format == "json" or result.rows is None:
        print_json(result)
        return
    from syllablelm.core.document import format_table

    table = result.to_dict()
    sizes = {name: value for name, value in table.pop("lm_info").items() if value is not None}
    rows = table.pop("rows")
    table |= table.pop("data") | table.pop("protocol")
    table["lm_info"] = ", ".join(f"{value:,} {name}" for name, value in sizes.items())
    print("; ".join(f"{key} {value}" for key, value in table.items() if value is not None) + "\n")
    print(format_table(rows, style=output_format), flush=True)
