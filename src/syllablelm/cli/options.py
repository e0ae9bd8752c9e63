"""Options that several verbs share, and the printing of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from syllablelm.core.config import MAX_SEED
from syllablelm.core.errors import InputError
from syllablelm.core.results import Record
from syllablelm.data.manifest_formats import FOREIGN_MANIFESTS
from syllablelm.evaluate.speech.recognizers import CHOICES
from syllablelm.segment.registry import TOKENIZER_METHODS

DEFAULT_MODEL = "small"

# Inputs.
Audio = Annotated[
    list[str],
    typer.Argument(
        metavar="AUDIO", help=f"Files, folders, patterns, or one manifest (.csv, .jsonl, {FOREIGN_MANIFESTS})."
    ),
]
Units = Annotated[
    Path | None,
    typer.Option("--units", metavar="FILE", help="Units to score instead of recordings, as written by tokenize."),
]
ScoredAudio = Annotated[
    list[str] | None,
    typer.Argument(metavar="AUDIO|UNITS", help="Files, folders, patterns, or one manifest; or files of units."),
]
Alignments = Annotated[
    Path,
    typer.Option(
        "--alignments", metavar="FILE", help="Reference alignments by id: .jsonl, .TextGrid, .ctm or a folder of them."
    ),
]
References = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        metavar="syllable,phone,word",
        help="Reference intervals to compare with (default: syllable); repeatable.",
    ),
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Score only the recordings that a file of units and the alignments share.")
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Maximum number of recordings.")]

# The model and how it computes.
Model = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME|PATH", help="Bundled name, folder, hub id (ID or ID@REVISION) or checkpoint file."
    ),
]
Rate = Annotated[float | None, typer.Option("--rate", metavar="HZ", help="Units per second (default: the model's).")]
Rule = Annotated[
    str | None,
    typer.Option("--rule", metavar="METHOD", help=f"Segmentation method: {', '.join(TOKENIZER_METHODS)}."),
]
Delta = Annotated[
    float | None,
    typer.Option(
        "--delta", metavar="X", help="Threshold of --rule released, penalty of --rule penalty (default: the model's)."
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Device to compute on.")]
Precision = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option("--precision", help="Numeric precision of the encoder.")
]
BatchSeconds = Annotated[
    float, typer.Option("--batch-seconds", metavar="SECONDS", help="Audio encoded per batch; bounds memory.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=MAX_SEED, help="Random seed.")]

# Scores.
Resamples = Annotated[
    int, typer.Option("--resamples", metavar="N", min=1, help="Bootstrap resamples of the 95 % intervals.")
]
TableFormat = Annotated[Literal["json", "text", "markdown"], typer.Option("--format", help="Output format.")]
Recognizer = Annotated[str, typer.Option("--recognizer", metavar="NAME|PATH", help=f"Speech recogniser: {CHOICES}.")]
RecognizerWorkers = Annotated[
    int, typer.Option("--workers", metavar="N", min=1, help="Number of recogniser processes.")
]

# Training.
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Recipe setting, such as lm.loop.steps=100; repeatable."),
]


def print_json(value: Any) -> None:
    """Print a result, a record or plain values, as one JSON object on standard output."""
    print(json.dumps(value.to_dict() if isinstance(value, Record) else value, ensure_ascii=False), flush=True)


def split_names(*texts: str | None) -> list[str]:
    """Return the names of options such as ``--protocol paper,zerosyl``."""
    return [name.strip() for text in texts if text for name in text.split(",") if name.strip()]


def read_numbers(text: str, option: str) -> list[float]:
    """Return the numbers of an option such as ``--tokens 1e6,4e6``.

    Raises:
        InputError: something else; the message names the option.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text!r}: must be numbers with commas between them") from None
