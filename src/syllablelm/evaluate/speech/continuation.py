"""Spoken continuations of recordings: their perplexity, diversity and repetition, beside real speech (A9)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from syllablelm.core.errors import InputError
from syllablelm.core.progress import note
from syllablelm.core.results import Record, Result, json_key
from syllablelm.data.level import Level
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.lists import Recordings, open_recordings
from syllablelm.evaluate.speech import Average, ContinuationProtocol, Normalization
from syllablelm.evaluate.speech import genppl as slamkit
from syllablelm.evaluate.speech.error_rates import NORMALIZATIONS, NormalizeText, text_normalizer
from syllablelm.evaluate.speech.genppl import GenPPL, score_genppl
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

TEMPERATURES, SECONDS = (0.3, 0.6, 0.9, 1.2, 1.5), 10.0

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
    """Scores of the continuations at one temperature.

    Args:
        summary, genppl: scores of their transcripts, by GSLM's or slamkit's protocol.
        speech: level and clipping of their sound; None where only units were measured.
        units: repetition of their units.
    """

    temperature: float
    summary: TextSummary | None = json_key(flat=True, default=None)
    genppl: GenPPL | None = json_key(omit_none=True)
    speech: Level | None = json_key(omit_none=True)
    units: RepetitionScores


@dataclass(frozen=True, kw_only=True)
class ContinuationResult(Result):
    """Perplexity, diversity and repetition of spoken continuations; without texts where only units were measured.

    Args:
        continuation_seconds: length of a continuation; None where it is a number of units, see ``protocol``.
        protocol: definitions of the scores, in words.
        ppx_at_oracle_vert, vert_at_oracle_ppx: perplexity at the real texts' diversity, and the reverse.
        oracle: scores of the real texts.
        temperatures: scores at every measured temperature, ascending.
        real_units: repetition of the units of real speech; None where no recording is as long as a continuation.
        prompt_level: level and clipping of the prompts.
    """

    evaluation: ClassVar[str] = "continuation"

    model: str
    data: ContinuationData
    prompt_seconds: float
    continuation_seconds: float | None
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
    prompt_level: Level | None = json_key(omit_none=True)


def evaluate_continuation(
    recordings: Recordings,
    out: str | Path,
    model: str | Path = "small",
    *,
    prompts: int = 1000,
    prompt_seconds: float = 3.0,
    seconds: float | None = None,
    protocol: ContinuationProtocol = "gslm",
    recognizer: str = DEFAULT_RECOGNIZER,
    text_lm: str | None = None,
    text: Sequence[str | Path] = (),
    normalization: Normalization = "plain",
    temperatures: Sequence[float] | None = None,
    steps: int = 4,
    average: Average = "mean",
    units_only: bool = False,
    workers: int = 1,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> ContinuationResult:
    """Score spoken continuations: perplexity at the real texts' diversity, diversity at their perplexity (GSLM).

    Or, as slamkit, perplexity and auto-BLEU-2 at a temperature, see `evaluate.speech.genppl`.

    Args:
        recordings, model, recognizer, workers, resamples, seed, device: see `syllablelm.evaluate`.
        out: folder in which units and transcripts are kept, where a stopped run resumes.
        prompts: number of recordings drawn; the paper's is 1000.
        prompt_seconds, seconds: lengths of a prompt and of a continuation (default: 10 s; slamkit: 150 units).
        protocol: "gslm" or "slamkit".
        text_lm: Hugging Face causal language model that scores the transcripts.
        text: text files to train a word 3-gram on instead; not for slamkit.
        normalization: rule for all texts, those of ``text`` too; slamkit takes transcripts as they are.
        temperatures: temperatures to measure first (default: 0.3 to 1.5; slamkit: 0.8).
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
    genppl = protocol == "slamkit"
    if genppl and (text or normalization != "plain"):
        raise InputError("--protocol slamkit: leave out --text and --normalization; it scores transcripts as they are")
    units = slamkit.UNITS if genppl and seconds is None else None
    seconds = SECONDS if seconds is None else seconds
    if not (0 < prompt_seconds < math.inf and 0 < seconds < math.inf):
        raise InputError("--prompt-seconds and --seconds must be above 0 and finite")
    temperatures = temperatures if temperatures is not None else [slamkit.TEMPERATURE] if genppl else TEMPERATURES
    if not temperatures or not all(0 <= at < math.inf for at in temperatures):
        raise InputError(f"--temperatures {', '.join(map(str, temperatures))}: must be 0 or above and finite")
    grid, normalize = sorted(set(temperatures)), str.strip if genppl else text_normalizer(normalization)
    name, manifest, skipped = open_recordings(recordings)
    chosen = draw_recordings(manifest, prompts, prompt_seconds, seed)
    # Missing files and models are reported before any work.
    text_model = None if units_only else _open_text_lm(text_lm, text, manifest, normalize, genppl, device)
    transcriber = None if units_only else Transcriber(recognizer, device=device, workers=workers)
    lm, tokenizer = SpeechLM.load(model, device=device), Tokenizer.load(model, device=device)
    continuations = Continuations(
        tokenizer,
        lm,
        chosen,
        prompt_seconds=prompt_seconds,
        seconds=seconds,
        units=units,
        sampling=slamkit.SAMPLING if genppl else {},
        seed=seed,
        folder=Path(out),
    )
    scores: dict[str, Any] = {"protocol": _UNITS_PROTOCOL}
    rows: dict[float, dict[str, Any]] = {at: {} for at in grid}
    if transcriber is not None and text_model is not None:
        with transcriber:
            transcribed = TranscribedContinuations(
                continuations, model, transcriber, normalize=normalize, with_prompt=genppl, device=device
            )
            spread: dict[str, Any] = {"resamples": resamples, "seed": seed}
            if genppl:
                scored = _score_genppl(transcribed, text_model, grid, **spread)
                points = {at: {"genppl": score} for at, score in scored}
                scores = {"protocol": {**_UNITS_PROTOCOL, **slamkit.PROTOCOL}}
            else:
                scores, points = _score_texts(transcribed, text_model, grid, steps=steps, average=average, **spread)
                scores["protocol"] |= {"normalization": NORMALIZATIONS[normalization].rule}
        rows = {at: {**row, "speech": transcribed.levels[at]} for at, row in points.items()}
        scores |= {
            "recognizer": recognizer,
            "recognizer_settings": transcriber.settings,
            "text_lm": text_model.info,
        }

    def repetition(rows: Sequence[Sequence[int]]) -> RepetitionScores:
        return score_repetition(rows, resamples=resamples, seed=seed)

    real_units = None
    if units is not None:
        note("continuations of a number of units: repetition of real speech is not measured; give --seconds for it")
    elif long := manifest.filter(lambda recording: recording.seconds >= seconds):
        some = draw_recordings(long, min(prompts, len(long)), seconds, seed)
        real_units = repetition(first_units(tokenizer, some, seconds))
    else:
        note(f"no recording lasts {seconds:g} s: repetition of real speech is not measured")
    return ContinuationResult(
        model=str(model),
        data=ContinuationData(name, len(manifest), len(skipped), prompts, prompts * prompt_seconds),
        prompt_seconds=prompt_seconds,
        continuation_seconds=seconds if units is None else None,
        seed=seed,
        resamples=resamples,
        temperatures=tuple(
            TemperatureRow(temperature=at, units=repetition(continuations.units_at(at)), **row)
            for at, row in rows.items()
        ),
        real_units=real_units,
        prompt_level=sum(map(Level.of, continuations.waves), Level()),
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
) -> tuple[dict[str, Any], dict[float, dict[str, Any]]]:
    """Return the fields of a result that need transcripts, and those of the row of every measured temperature."""
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
    return fields, {at: {"summary": stats.summarize(weights)} for at, stats in sorted(points.items())}


def _score_genppl(
    transcribed: TranscribedContinuations, text_model: TextLM, grid: Sequence[float], *, resamples: int, seed: int
) -> Iterator[tuple[float, GenPPL]]:
    """Return slamkit's scores by temperature."""
    for at in grid:
        texts = transcribed.texts_at(at)
        yield at, score_genppl(texts, text_model.score(texts), resample_weights(len(texts), resamples, seed))


def _open_text_lm(
    name: str | None,
    files: Sequence[str | Path],
    manifest: Manifest,
    normalize: NormalizeText,
    own_start: bool,
    device: str,
) -> TextLM:
    if name is not None:
        return CausalTextLM(name, own_start=own_start, device=device)
    # The oracle's texts must not be training texts.
    skipped: dict[str, Any] = {
        "skip_ids": {one.id for one in manifest},
        "skip_texts": {normalize(one.text) for one in manifest if one.text},
    }
    return train_ngram([Path(file) for file in files], normalize=normalize, **skipped)
