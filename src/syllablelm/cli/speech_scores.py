"""Verbs of ``evaluate`` for speech: ``resynthesis``, ``quality``, ``continuation``."""

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
    TableFormat,
    print_json,
    read_numbers,
    split_names,
)
from syllablelm.core.document import format_table
from syllablelm.core.errors import plural
from syllablelm.evaluate.speech import Average, ContinuationProtocol, Normalization, OpinionModel
from syllablelm.evaluate.speech.recognizers import CHOICES, DEFAULT_RECOGNIZER
from syllablelm.evaluate.speech.speakers import CHOICES as SPEAKER_CHOICES
from syllablelm.evaluate.speech.speakers import DEFAULT_SPEAKER_ENCODER

MinSeconds = Annotated[float, typer.Option("--min-seconds", metavar="SECONDS", help="Shortest recording scored.")]
MaxSeconds = Annotated[float, typer.Option("--max-seconds", metavar="SECONDS", help="Longest recording scored.")]
Transcripts = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="JSONL file for the transcripts.")]
Recognizers = Annotated[
    list[str] | None,
    typer.Option(
        "--recognizer",
        metavar="NAME|PATH",
        help=f"Speech recogniser: {CHOICES}; base:es hears Spanish. Repeatable (default: {DEFAULT_RECOGNIZER}).",
    ),
]
RecognizersToo = Annotated[
    list[str] | None,
    typer.Option(
        "--recognizer",
        metavar="NAME|PATH",
        help=f"Speech recogniser whose error rates join the table: {CHOICES}; base:es hears Spanish. Repeatable "
        "(default: none).",
    ),
]
Opinion = Annotated[OpinionModel, typer.Option("--mos", help="Network that predicts mean opinion scores.")]
Speaker = Annotated[
    str, typer.Option("--speaker", metavar="NAME|PATH", help=f"Speaker encoder: {SPEAKER_CHOICES}; or none.")
]
Scores = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="JSONL file for the scores of every recording.")
]
UnitsFile = Annotated[
    Path | None,
    typer.Option("--units", metavar="FILE", help="Units of the recordings, instead of those of the model's tokenizer."),
]
UnitLengths = Annotated[
    str,
    typer.Option(
        "--durations",
        metavar="own,predicted",
        help="Lengths of the units: their own, or the language model's mean of each; both give two rows.",
    ),
]
NormalizationOf = Annotated[Normalization, typer.Option("--normalization", help="Rule by which texts are compared.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder of units and transcripts; a stopped run resumes there.")
]
Prompts = Annotated[int, typer.Option("--prompts", metavar="N", min=1, help="Number of prompts drawn (paper: 1000).")]
PromptSeconds = Annotated[float, typer.Option("--prompt-seconds", metavar="SECONDS", help="Length of a prompt.")]
Seconds = Annotated[
    float | None,
    typer.Option("--seconds", metavar="SECONDS", help="Length of a continuation (default: 10; slamkit: 150 units)."),
]
ScoreProtocol = Annotated[
    ContinuationProtocol,
    typer.Option("--protocol", help="GSLM's PPX and VERT over temperature, or slamkit's GenPPL and auto-BLEU-2."),
]
TextModel = Annotated[
    str | None, typer.Option("--text-lm", metavar="NAME|PATH", help="Hugging Face causal LM that scores transcripts.")
]
Text = Annotated[
    list[Path] | None,
    typer.Option("--text", metavar="FILE", help="Text to train a word 3-gram on, instead of --text-lm; repeatable."),
]
Temperatures = Annotated[
    str | None,
    typer.Option(
        "--temperatures",
        metavar="T,T,...",
        help="Initial sampling temperatures (default: 0.3,0.6,0.9,1.2,1.5; slamkit: 0.8).",
    ),
]
Steps = Annotated[int, typer.Option("--steps", metavar="N", min=0, help="Interval halvings of the search.")]
AverageOf = Annotated[Average, typer.Option("--average", help="Average of the perplexities in the search.")]
UnitsOnly = Annotated[bool, typer.Option("--units-only", help="Repetition of units only; needs no recogniser.")]
PromptResamples = Annotated[
    int, typer.Option("--resamples", metavar="N", min=2, help="Bootstrap resamples over prompts.")
]

_ERROR_COLUMNS = {
    "recognizer": "recogniser",
    "speech": "speech",
    "wer": "WER",
    "wer_low": "low",
    "wer_high": "high",
    "cer": "CER",
    "cer_low": "low ",
    "cer_high": "high ",
    "words": "words",
}


def resynthesis(
    audio: Audio,
    model: Model = DEFAULT_MODEL,
    recognizer: Recognizers = None,
    units: UnitsFile = None,
    durations: UnitLengths = "own",
    normalization: NormalizationOf = "english",
    min_seconds: MinSeconds = 4.0,
    max_seconds: MaxSeconds = 10.0,
    limit: Limit = None,
    out: Transcripts = None,
    output_format: TableFormat = "json",
    workers: RecognizerWorkers = 1,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Measure error rates of recognisers on original, vocoded and resynthesised speech (Table 2).

    Recordings need a text; "vocoder" is speech from the recordings' own acoustic units, the bound of resynthesis.
    """
    from syllablelm.evaluate import evaluate_resynthesis

    speech: dict[str, Any] = {"units": units, "durations": split_names(durations), "normalization": normalization}
    options: dict[str, Any] = {"min_seconds": min_seconds, "max_seconds": max_seconds, "limit": limit, "out": out}
    compute: dict[str, Any] = {"workers": workers, "resamples": resamples, "seed": seed, "device": device}
    result = evaluate_resynthesis(
        audio, model, recognizer=recognizer or DEFAULT_RECOGNIZER, **speech, **options, **compute
    )
    if output_format == "json":
        print_json(result)
        return
    lengths = f"; predicted lengths {result.durations.ratio:.3f} of their own" if result.durations else ""
    print(f"{plural(result.data.recordings, 'recording')}; texts: {result.normalization.name}{lengths}\n")
    print(format_table(result.table(), _ERROR_COLUMNS, style=output_format), flush=True)


def quality(
    audio: Audio,
    model: Model = DEFAULT_MODEL,
    mos: Opinion = "dnsmos",
    speaker: Speaker = DEFAULT_SPEAKER_ENCODER,
    recognizer: RecognizersToo = None,
    units: UnitsFile = None,
    durations: UnitLengths = "own",
    normalization: NormalizationOf = "english",
    min_seconds: MinSeconds = 4.0,
    max_seconds: MaxSeconds = 10.0,
    limit: Limit = None,
    out: Scores = None,
    output_format: TableFormat = "json",
    workers: RecognizerWorkers = 1,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Measure opinion scores, speaker similarity and pitch errors of original, vocoded and resynthesised speech.

    With --recognizer only recordings with a text are scored, and error rates stand in the same table.
    """
    from syllablelm.evaluate import evaluate_quality

    scorers: dict[str, Any] = {"mos": mos, "speaker": speaker, "recognizer": recognizer or ()}
    speech: dict[str, Any] = {"units": units, "durations": split_names(durations), "normalization": normalization}
    options: dict[str, Any] = {"min_seconds": min_seconds, "max_seconds": max_seconds, "limit": limit, "out": out}
    compute: dict[str, Any] = {"workers": workers, "resamples": resamples, "seed": seed, "device": device}
    result = evaluate_quality(audio, model, **scorers, **speech, **options, **compute)
    if output_format == "json":
        print_json(result)
        return
    print(f"{plural(result.data.recordings, 'recording')}; {result.interval}\n")
    print(format_table(result.table(), style=output_format))
    print("", *(f"{name}: {method}" for name, method in result.methods.items()), sep="\n", flush=True)


def continuation(
    audio: Audio,
    out: Out,
    model: Model = DEFAULT_MODEL,
    prompts: Prompts = 1000,
    prompt_seconds: PromptSeconds = 3.0,
    seconds: Seconds = None,
    protocol: ScoreProtocol = "gslm",
    recognizer: Recognizer = DEFAULT_RECOGNIZER,
    text_lm: TextModel = None,
    text: Text = None,
    normalization: NormalizationOf = "plain",
    temperatures: Temperatures = None,
    steps: Steps = 4,
    average: AverageOf = "mean",
    units_only: UnitsOnly = False,
    workers: RecognizerWorkers = 1,
    resamples: PromptResamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score spoken continuations: perplexity at the real texts' diversity, diversity at their perplexity (GSLM).

    With --protocol slamkit: perplexity and repetition of prompt and continuation at one temperature.
    """
    grid = None if temperatures is None else read_numbers(temperatures, "--temperatures")
    from syllablelm.evaluate import evaluate_continuation

    lengths: dict[str, Any] = {"prompts": prompts, "prompt_seconds": prompt_seconds, "seconds": seconds}
    models: dict[str, Any] = {"recognizer": recognizer, "text_lm": text_lm, "text": text or ()}
    models |= {"protocol": protocol, "normalization": normalization}
    search: dict[str, Any] = {"temperatures": grid, "steps": steps, "average": average, "units_only": units_only}
    compute: dict[str, Any] = {"workers": workers, "resamples": resamples, "seed": seed, "device": device}
    print_json(evaluate_continuation(audio, out, model, **lengths, **models, **search, **compute))
