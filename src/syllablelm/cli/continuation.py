"""``evaluate continuation``: how likely and how varied a model's spoken continuations are, beside real speech."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import (
    DEFAULT_MODEL,
    Audio,
    Device,
    Model,
    Recognizer,
    RecognizerWorkers,
    Seed,
    load_tokenizer,
    no_usable,
    print_json,
    read_numbers,
    read_recordings,
)
from syllablelm.core.errors import InputError
from syllablelm.core.progress import note

if TYPE_CHECKING:
    from syllablelm.data.manifest import Manifest
    from syllablelm.evaluate.speech.spoken_continuations import HeardContinuations
    from syllablelm.evaluate.speech.text_lm import TextLM
    from syllablelm.tokenizer.tokenizer import Tokenizer

TEMPERATURES = "0.3,0.6,0.9,1.2,1.5"

Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Units and transcripts are kept and resumed there.")]
Prompts = Annotated[int, typer.Option("--prompts", metavar="N", min=1, help="Recordings drawn; the paper's is 1000.")]
PromptSeconds = Annotated[float, typer.Option("--prompt-seconds", help="Length of a prompt.")]
Seconds = Annotated[float, typer.Option("--seconds", help="Length of a continuation.")]
TextModel = Annotated[
    str | None, typer.Option("--text-lm", metavar="NAME|PATH", help="A Hugging Face causal language model.")
]
Text = Annotated[
    list[Path] | None,
    typer.Option("--text", metavar="FILE", help="Instead of it: train a word 3-gram on this text; repeatable."),
]
Temperatures = Annotated[str, typer.Option("--temperatures", metavar="T,T,...", help="Where the search begins.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", min=0, help="Halvings of the interval that is found.")]
AverageOf = Annotated[Literal["mean", "median"], typer.Option("--average", help="Of the perplexities, in the search.")]
UnitsOnly = Annotated[bool, typer.Option("--units-only", help="Only repetition of units: needs no recogniser.")]
Resamples = Annotated[int, typer.Option("--resamples", metavar="N", min=2, help="Of the bootstrap over prompts.")]


def continuation(
    audio: Audio,
    out: Out,
    model: Model = DEFAULT_MODEL,
    prompts: Prompts = 1000,
    prompt_seconds: PromptSeconds = 3.0,
    seconds: Seconds = 10.0,
    recognizer: Recognizer = "pocketsphinx",
    text_lm: TextModel = None,
    text: Text = None,
    temperatures: Temperatures = TEMPERATURES,
    steps: Steps = 4,
    average: AverageOf = "mean",
    units_only: UnitsOnly = False,
    workers: RecognizerWorkers = 1,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score spoken continuations: perplexity at the real texts' variety, variety at their perplexity (GSLM)."""
    if not units_only and (text_lm is None) == (not text):
        raise InputError(
            "give either --text-lm (a Hugging Face model) or --text (a file to learn from), or --units-only"
        )
    if not (0 < prompt_seconds < float("inf") and 0 < seconds < float("inf")):
        raise InputError("--prompt-seconds and --seconds must be above 0 and finite")
    grid = _temperatures(temperatures)
    manifest, skipped = read_recordings(audio)
    if not manifest:
        raise no_usable(skipped)
    from syllablelm.evaluate.speech.repetition import repetition_row
    from syllablelm.evaluate.speech.spoken_continuations import Continuations, HeardContinuations, draw_recordings
    from syllablelm.evaluate.speech.transcripts import Listener
    from syllablelm.lm.speech_lm import SpeechLM

    chosen = draw_recordings(manifest, prompts, prompt_seconds, seed)
    # What may be missing is found out before any work.
    text_model = None if units_only else _open_text_lm(text_lm, text or [], manifest, device)
    listener = None if units_only else Listener(recognizer, device=device, workers=workers)
    lm, tokenizer = SpeechLM.load(model, device=device), load_tokenizer(model, device=device)
    drawn = Continuations(tokenizer, lm, chosen, prompt_seconds=prompt_seconds, seconds=seconds, seed=seed, folder=out)
    result: dict[str, Any] = {
        "evaluation": "continuation",
        "model": model,
        "data": {
            "name": " ".join(audio),
            "recordings": len(manifest),
            "unusable": len(skipped),
            "prompts": prompts,
            "seconds": prompts * prompt_seconds,
        },
        "prompt_seconds": prompt_seconds,
        "continuation_seconds": seconds,
        "seed": seed,
        "resamples": resamples,
        "protocol": _UNITS_PROTOCOL,
        "temperatures": [{"temperature": at} for at in grid],
    }
    if listener is not None and text_model is not None:
        with listener:
            heard = HeardContinuations(drawn, model, listener, device=device)
            search = {"grid": grid, "steps": steps, "average": average}
            result |= _scores(heard, text_model, resamples=resamples, seed=seed, **search)
        result |= {"recognizer": recognizer, "text_lm": text_model.describe()}
    for row in result["temperatures"]:
        row["units"] = repetition_row(drawn.units_at(row["temperature"]), resamples=resamples, seed=seed)
    real = _real_units(tokenizer, manifest, prompts, seconds, seed)
    result["real_units"] = repetition_row(real, resamples=resamples, seed=seed) if real else None
    print_json(result)


def _scores(
    heard: HeardContinuations,
    text_model: TextLM,
    *,
    grid: list[float],
    steps: int,
    average: Literal["mean", "median"],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Both searches, and what was measured at every temperature on the way."""
    from syllablelm.evaluate.speech.continuation import TemperatureSweep, TextStats, resample_weights

    texts, source = heard.real_texts()
    oracle = TextStats.of(texts, text_model)

    def measure(temperature: float) -> TextStats:
        return TextStats.of(heard.texts_at(temperature), text_model)

    sweep = TemperatureSweep(measure, oracle, grid, steps=steps, average=average)
    weights = resample_weights(len(texts), resamples, seed)
    return {
        **sweep.headline(weights),
        "oracle": {"source": source, **oracle.to_dict(weights)},
        "protocol": {**_UNITS_PROTOCOL, **_TEXT_PROTOCOL, "ppx_average": average},
        "temperatures": [{"temperature": at, **stats.to_dict(weights)} for at, stats in sorted(sweep.points.items())],
    }


def _real_units(tokenizer: Tokenizer, manifest: Manifest, prompts: int, seconds: float, seed: int) -> list[list[int]]:
    """Units of real speech as long as a continuation, of as many recordings as there are."""
    from syllablelm.evaluate.speech.spoken_continuations import draw_recordings, first_units

    long = manifest.filter(lambda recording: recording.seconds >= seconds)
    if not long:
        note(f"no recording lasts {seconds:g} s: repetition of real speech is not measured")
        return []
    chosen = draw_recordings(long, min(prompts, len(long)), seconds, seed)
    return first_units(tokenizer, chosen, seconds)


_UNITS_PROTOCOL = {
    "prompts": "beginning of recordings drawn by seed",
    "distinct_n": "within each sequence, summed over sequences; intervals are 95 % bootstrap over sequences",
}
_TEXT_PROTOCOL = {
    "vert": "100 x geometric mean of mean self-BLEU-2 and mean auto-BLEU-2 (weights .5 .5, no brevity penalty)",
    "ppx": "exp(mean negative log-likelihood per token) of each text; empty texts are left out and counted",
    "two_sigma": "twice the standard deviation over bootstrap resamples of prompts, with each prompt's BLEUs held; at "
    "the oracle, the whole search is repeated in each resample on the measured temperatures, the oracle's texts too",
    "between_temperatures": "linear; nothing is extrapolated",
}


def _temperatures(text: str) -> list[float]:
    grid = read_numbers(text, "--temperatures")
    if not all(0 <= place < float("inf") for place in grid):
        raise InputError(f"--temperatures {text!r}: must be 0 or above and finite")
    return sorted(set(grid))


def _open_text_lm(name: str | None, files: list[Path], manifest: Manifest, device: str) -> TextLM:
    from syllablelm.evaluate.speech.resynthesis import normalize_text
    from syllablelm.evaluate.speech.text_lm import CausalTextLM, train_ngram

    if name is not None:
        return CausalTextLM(name, device=device)
    # What the oracle says must not have been learned by heart.
    texts = {normalize_text(recording.text) for recording in manifest if recording.text}
    return train_ngram(files, skip_ids={recording.id for recording in manifest}, skip_texts=texts)
