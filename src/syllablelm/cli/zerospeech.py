"""Verbs of ``evaluate`` for language models on pairs: ``lexical``, ``syntactic``, ``cloze``, ``salmon``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.options import DEFAULT_MODEL, Device, Model, Resamples, Seed, TableFormat, Units, print_json
from syllablelm.evaluate.lm import TieRule

if TYPE_CHECKING:
    from syllablelm.evaluate.lm.pairs import PairsResult

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the benchmark.")]
_COLUMNS = {
    "group": "group",
    "name": "name",
    "accuracy": "mean",
    "low": "low",
    "high": "high",
    "summed": "sum",
    "localised": "localised",
    "normalised": "normalised",
    "pairs": "pairs",
    "comparisons": "comparisons",
    "ties": "ties",
}
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder; a stopped run resumes there.")]
LanguageModel = Annotated[
    str | None, typer.Option("--lm", metavar="NAME|PATH", help="Language model (default: that of --model).")
]
Split = Annotated[str, typer.Option("--split", metavar="dev|test", help="Part of the benchmark.")]
Trim = Annotated[
    str,
    typer.Option("--trim", metavar="none|energy|silero", help="Voice activity method that finds silence to leave out."),
]
Silence = Annotated[
    float | None,
    typer.Option(
        "--silence",
        metavar="SECONDS",
        help="Silence around a recording while it is encoded (default: 0.3 for single words, else none).",
    ),
]
Ties = Annotated[TieRule, typer.Option("--ties", help="Score of equal likelihoods: half a point, or none.")]


def _suite_verb(suite: Literal["lexical", "syntactic"], text: str) -> Callable[..., None]:
    """Return the verb of a suite of the ZeroSpeech benchmark, with its help text."""

    def verb(
        folder: Folder,
        out: Out,
        model: Model = DEFAULT_MODEL,
        lm: LanguageModel = None,
        split: Split = "dev",
        units: Units = None,
        trim: Trim = "none",
        silence: Silence = None,
        resamples: Resamples = 1000,
        seed: Seed = 0,
        device: Device = "auto",
        output_format: TableFormat = "json",
    ) -> None:
        from syllablelm.evaluate import evaluate_lexical, evaluate_syntactic

        run = evaluate_lexical if suite == "lexical" else evaluate_syntactic
        models: dict[str, Any] = {"model": model, "lm": lm, "units": units, "device": device}
        ends: dict[str, Any] = {"trim": trim, "silence": silence}
        print_pairs(run(folder, out, split=split, resamples=resamples, seed=seed, **models, **ends), output_format)

    verb.__name__, verb.__doc__ = suite, text
    return verb


lexical = _suite_verb(
    "lexical",
    """Measure how often a language model finds words likelier than non-words (sWUGGY).

    FOLDER: that of ZeroSpeech 2021, or of 'prepare wordlist'. DIR/lexical/SPLIT.txt is the submission file.
    """,
)
syntactic = _suite_verb(
    "syntactic",
    """Measure how often a language model finds grammatical sentences likelier (sBLIMP).

    FOLDER: that of ZeroSpeech 2021, or of 'prepare minimal-pairs'. DIR/syntactic/SPLIT.txt is the submission file.
    """,
)


def cloze(
    folder: Folder,
    out: Out,
    model: Model = DEFAULT_MODEL,
    lm: LanguageModel = None,
    ties: Ties = "half",
    units: Units = None,
    trim: Trim = "none",
    silence: Silence = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Measure how often a language model finds a story's own ending likelier (tStoryCloze).

    FOLDER holds ..._STORY_correct.wav and ..._STORY_incorrect.wav; DIR/cloze/FOLDER.txt holds the scores.
    """
    from syllablelm.evaluate import evaluate_cloze

    models: dict[str, Any] = {"model": model, "lm": lm, "units": units, "device": device}
    ends: dict[str, Any] = {"trim": trim, "silence": silence}
    print_pairs(evaluate_cloze(folder, out, ties=ties, resamples=resamples, seed=seed, **models, **ends), output_format)


def salmon(
    folder: Folder,
    out: Out,
    model: Model = DEFAULT_MODEL,
    lm: LanguageModel = None,
    units: Units = None,
    trim: Trim = "none",
    silence: Silence = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    output_format: TableFormat = "json",
) -> None:
    """Measure how often a language model finds acoustically consistent or matching speech likelier (SALMon).

    FOLDER holds PART/sample_NUMBER_0.wav (right) and PART/sample_NUMBER_1.wav, or is a part such as bg_alignment.
    """
    from syllablelm.evaluate import evaluate_salmon

    models: dict[str, Any] = {"model": model, "lm": lm, "units": units, "device": device}
    ends: dict[str, Any] = {"trim": trim, "silence": silence}
    print_pairs(evaluate_salmon(folder, out, resamples=resamples, seed=seed, **models, **ends), output_format)


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
    print(
        format_table(rows, {key: _COLUMNS[key] for key in rows[0] if key in _COLUMNS}, style=output_format), flush=True
    )
