"""Spoken continuations of recordings: their perplexity, diversity and repetition, beside real speech (A9)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from syllablelm.core.errors import InputError
from syllablelm.core.progress import note
from syllablelm.core.results import Record, Result, json_key
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.lists import Recordings, open_recordings
from syllablelm.evaluate.speech import Average
from syllablelm.evaluate.speech.error_rates import normalize_text
from syllablelm.evaluate.speech.recognizers import DEFAULT_RECOGNIZER, Transcriber
from syllablelm.evaluate.speech.repetition import RepetitionScores, score_repetition
from syllablelm.evaluate.speech.spoken_continuations import (
    Continuations,
    TranscribedContinuations,
    draw_recordings,
    first_units,
)
from syllablelm.evaluate.speech.sweep import ScoreAtOracle, TextStats, TextSummary, resample_weights, sweep_temperatures
from syllablelm.evaluate.speech.text_lm import CausalTextLM, TextLM, TextLMInfo, train_ngram
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.tokenizer.tokenizer import Tokenizer

TEMPERATURES = (0.3, 0.6, 0.9, 1.2, 1.5)

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


@dataclass(frozen=True)
class ContinuationData(Record):
    """Recordings, and the number and total seconds of the prompts that are drawn from them."""

    name: str
    recordings: int
    unusable: int
    prompts: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class OracleSummary(TextSummary):
    """Scores of the real texts; ``source`` says where these are from."""

    source: str


@dataclass(frozen=True, kw_only=True)
class TemperatureRow(Record):
    """Scores of the continuations at one temperature: of their transcripts, if there are any, and of their units."""

    temperature: float
    summary: TextSummary | None = json_key(flat=True, default=None)
    units: RepetitionScores


@dataclass(frozen=True, kw_only=True)
class ContinuationResult(Result):
    """Perplexity, diversity and repetition of spoken continuations; without texts where only units were measured.

    Args:
        protocol: definitions of the scores, in words.
        ppx_at_oracle_vert, vert_at_oracle_ppx: perplexity at the real texts' diversity, and the reverse.
        oracle: scores of the real texts.
        temperatures: scores at every measured temperature, ascending.
        real_units: repetition of the units of real speech; None where no recording is as long as a continuation.
    """

    evaluation: ClassVar[str] = "continuation"

    model: str
    data: ContinuationData
    prompt_seconds: float
    continuation_seconds: float
    seed: int
    resamples: int
    protocol: Mapping[str, str]
    ppx_at_oracle_vert: ScoreAtOracle | None = json_key(omit_none=True)
    vert_at_oracle_ppx: ScoreAtOracle | None = json_key(omit_none=True)
    oracle: OracleSummary | None = json_key(omit_none=True)
    temperatures: tuple[TemperatureRow, ...]
    recognizer: str | None = json_key(omit_none=True)
    text_lm: TextLMInfo | None = json_key(omit_none=True)
    real_units: RepetitionScores | None
    recognizer_settings: str | None = json_key(omit_none=True)


def evaluate_continuation(
    recordings: Recordings,
    out: str | Path,
    model: str | Path = "small",
    *,
    prompts: int = 1000,
    prompt_seconds: float = 3.0,
    seconds: float = 10.0,
    recognizer: str = DEFAULT_RECOGNIZER,
    text_lm: str | None = None,
    text: Sequence[str | Path] = (),
    temperatures: Sequence[float] = TEMPERATURES,
    steps: int = 4,
    average: Average = "mean",
    units_only: bool = False,
    workers: int = 1,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> ContinuationResult:
    """Score spoken continuations: perplexity at the real texts' diversity, diversity at their perplexity (GSLM).

    Args:
        recordings, model, recognizer, workers, resamples, seed, device: see `syllablelm.evaluate`.
        out: folder in which units and transcripts are kept, where a stopped run resumes.
        prompts: number of recordings drawn; the paper's is 1000.
        prompt_seconds, seconds: lengths of a prompt and of a continuation.
        text_lm: Hugging Face causal language model that scores the transcripts.
        text: text files to train a word 3-gram on instead.
        temperatures: temperatures to measure first.
        steps: number of halvings of the interval that has the oracle.
        average: average of the texts' perplexities in the search.
        units_only: measure the repetition of units only, without a recogniser.

    Raises:
        InputError: neither or both kinds of text model, lengths or temperatures out of range, or too few recordings.
        FormatError: models that are missing, damaged, or do not belong together.
    """
    if not units_only and (text_lm is None) == (not text):
        raise InputError(
            "give either --text-lm (a Hugging Face model) or --text (a file to learn from), or --units-only"
        )
    if not (0 < prompt_seconds < math.inf and 0 < seconds < math.inf):
        raise InputError("--prompt-seconds and --seconds must be above 0 and finite")
    if not temperatures or not all(0 <= at < math.inf for at in temperatures):
        raise InputError(f"--temperatures {', '.join(map(str, temperatures))}: must be 0 or above and finite")
    grid = sorted(set(temperatures))
    name, manifest, skipped = open_recordings(recordings)
    chosen = draw_recordings(manifest, prompts, prompt_seconds, seed)
    # Missing files and models are reported before any work.
    text_model = None if units_only else _open_text_lm(text_lm, text, manifest, device)
    transcriber = None if units_only else Transcriber(recognizer, device=device, workers=workers)
    lm, tokenizer = SpeechLM.load(model, device=device), Tokenizer.load(model, device=device)
    continuations = Continuations(
        tokenizer, lm, chosen, prompt_seconds=prompt_seconds, seconds=seconds, seed=seed, folder=Path(out)
    )
    scores: dict[str, Any] = {"protocol": _UNITS_PROTOCOL}
    summaries: dict[float, TextSummary | None] = dict.fromkeys(grid)
    if transcriber is not None and text_model is not None:
        with transcriber:
            transcribed = TranscribedContinuations(continuations, model, transcriber, device=device)
            texts, points = _score_texts(
                transcribed, text_model, grid, steps=steps, average=average, resamples=resamples, seed=seed
            )
        scores = texts | {
            "recognizer": recognizer,
            "recognizer_settings": transcriber.settings,
            "text_lm": text_model.info,
        }
        summaries = {**points}

    def repetition(rows: Sequence[Sequence[int]]) -> RepetitionScores:
        return score_repetition(rows, resamples=resamples, seed=seed)

    real_units = None
    if long := manifest.filter(lambda recording: recording.seconds >= seconds):
        some = draw_recordings(long, min(prompts, len(long)), seconds, seed)
        real_units = repetition(first_units(tokenizer, some, seconds))
    else:
        note(f"no recording lasts {seconds:g} s: repetition of real speech is not measured")
    return ContinuationResult(
        model=str(model),
        data=ContinuationData(name, len(manifest), len(skipped), prompts, prompts * prompt_seconds),
        prompt_seconds=prompt_seconds,
        continuation_seconds=seconds,
        seed=seed,
        resamples=resamples,
        temperatures=tuple(
            TemperatureRow(temperature=at, summary=summary, units=repetition(continuations.units_at(at)))
            for at, summary in summaries.items()
        ),
        real_units=real_units,
        **scores,
    )


def _score_texts(
    transcribed: TranscribedContinuations,
    text_model: TextLM,
    grid: Sequence[float],
    *,
    steps: int,
    average: Average,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Any], dict[float, TextSummary]]:
    """Return the fields of a result that need transcripts, and the scores at every measured temperature."""
    texts, source = transcribed.real_texts()
    oracle = TextStats.of(texts, text_model)
    weights = resample_weights(len(texts), resamples, seed)
    headline, points = sweep_temperatures(
        lambda at: TextStats.of(transcribed.texts_at(at), text_model),
        oracle,
        grid,
        weights,
        steps=steps,
        average=average,
    )
    fields = headline | {
        "protocol": {**_UNITS_PROTOCOL, **_TEXT_PROTOCOL, "ppx_average": average},
        "oracle": OracleSummary(source=source, **vars(oracle.summarize(weights))),
    }
    return fields, {at: stats.summarize(weights) for at, stats in sorted(points.items())}


def _open_text_lm(name: str | None, files: Sequence[str | Path], manifest: Manifest, device: str) -> TextLM:
    if name is not None:
        return CausalTextLM(name, device=device)
    # The oracle's texts must not be training texts.
    texts = {normalize_text(recording.text) for recording in manifest if recording.text}
    return train_ngram(
        [Path(file) for file in files], skip_ids={recording.id for recording in manifest}, skip_texts=texts
    )
