"""Verbs of ``evaluate`` for speech as a recogniser transcribes it: ``resynthesis``, ``continuation``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from syllablelm.cli.options import (
    DEFAULT_MODEL,
    Audio,
    Device,
    Limit,
    Model,
    Recognizer,
    RecognizerWorkers,
    Resamples,
    Seed,
    print_json,
    read_numbers,
)
from syllablelm.evaluate.speech import Average
from syllablelm.evaluate.speech.recognizers import DEFAULT_RECOGNIZER

MinSeconds = Annotated[float, typer.Option("--min-seconds", metavar="SECONDS", help="Shortest recording scored.")]
MaxSeconds = Annotated[float, typer.Option("--max-seconds", metavar="SECONDS", help="Longest recording scored.")]
Transcripts = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="JSONL file for the transcripts.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder of units and transcripts; a stopped run resumes there.")
]
Prompts = Annotated[int, typer.Option("--prompts", metavar="N", min=1, help="Number of prompts drawn (paper: 1000).")]
PromptSeconds = Annotated[float, typer.Option("--prompt-seconds", metavar="SECONDS", help="Length of a prompt.")]
Seconds = Annotated[float, typer.Option("--seconds", metavar="SECONDS", help="Length of a continuation.")]
TextModel = Annotated[
    str | None, typer.Option("--text-lm", metavar="NAME|PATH", help="Hugging Face causal LM that scores transcripts.")
]
Text = Annotated[
    list[Path] | None,
    typer.Option("--text", metavar="FILE", help="Text to train a word 3-gram on, instead of --text-lm; repeatable."),
]
Temperatures = Annotated[str, typer.Option("--temperatures", metavar="T,T,...", help="Initial sampling temperatures.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", min=0, help="Interval halvings of the search.")]
AverageOf = Annotated[Average, typer.Option("--average", help="Average of the perplexities in the search.")]
UnitsOnly = Annotated[bool, typer.Option("--units-only", help="Repetition of units only; needs no recogniser.")]
PromptResamples = Annotated[
    int, typer.Option("--resamples", metavar="N", min=2, help="Bootstrap resamples over prompts.")
]


def resynthesis(
    audio: Audio,
    model: Model = DEFAULT_MODEL,
    recognizer: Recognizer = DEFAULT_RECOGNIZER,
    min_seconds: MinSeconds = 4.0,
    max_seconds: MaxSeconds = 10.0,
    limit: Limit = None,
    out: Transcripts = None,
    workers: RecognizerWorkers = 1,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Measure error rates of a recogniser on original, vocoded and resynthesised speech (Table 2).

    Recordings need a text; "vocoder" is speech from the recordings' own acoustic units, the bound of resynthesis.
    """
    from syllablelm.evaluate import evaluate_resynthesis

    options: dict[str, Any] = {"min_seconds": min_seconds, "max_seconds": max_seconds, "limit": limit, "out": out}
    compute: dict[str, Any] = {"workers": workers, "resamples": resamples, "seed": seed, "device": device}
    print_json(evaluate_resynthesis(audio, model, recognizer=recognizer, **options, **compute))


def continuation(
    audio: Audio,
    out: Out,
    model: Model = DEFAULT_MODEL,
    prompts: Prompts = 1000,
    prompt_seconds: PromptSeconds = 3.0,
    seconds: Seconds = 10.0,
    recognizer: Recognizer = DEFAULT_RECOGNIZER,
    text_lm: TextModel = None,
    text: Text = None,
    temperatures: Temperatures = "0.3,0.6,0.9,1.2,1.5",
    steps: Steps = 4,
    average: AverageOf = "mean",
    units_only: UnitsOnly = False,
    workers: RecognizerWorkers = 1,
    resamples: PromptResamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score spoken continuations: perplexity at the real texts' diversity, diversity at their perplexity (GSLM)."""
    grid = read_numbers(temperatures, "--temperatures")
    from syllablelm.evaluate import evaluate_continuation

    lengths: dict[str, Any] = {"prompts": prompts, "prompt_seconds": prompt_seconds, "seconds": seconds}
    models: dict[str, Any] = {"recognizer": recognizer, "text_lm": text_lm, "text": text or ()}
    search: dict[str, Any] = {"temperatures": grid, "steps": steps, "average": average, "units_only": units_only}
    compute: dict[str, Any] = {"workers": workers, "resamples": resamples, "seed": seed, "device": device}
    print_json(evaluate_continuation(audio, out, model, **lengths, **models, **search, **compute))
