"""Word and character error rates of a recogniser on original and resynthesised speech (Table 2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.files import refuse_inputs, write_json_lines
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Record, Result, json_key
from syllablelm.data.audio import SAMPLE_RATE, resample
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.lists import Recordings, open_recordings
from syllablelm.evaluate.speech.error_rates import (
    ErrorCounts,
    ErrorRates,
    TextNormalization,
    error_counts,
    normalize_text,
)
from syllablelm.evaluate.speech.recognizers import DEFAULT_RECOGNIZER, Transcriber
from syllablelm.evaluate.units.bitrate import RateCounts, rate_counts
from syllablelm.vocoder.speech_model import SpeechModel

Waveform = npt.NDArray[np.float32]
Render = Callable[[list[Waveform]], list[Waveform]]
Transcribe = Callable[[Iterable[Waveform]], Iterator[str]]

# Recordings rendered as one batch.
BATCH = 8


@dataclass(frozen=True)
class ResynthesisData(Record):
    """Scored recordings, and those left out: without a text, of another length, beyond the limit, or unreadable."""

    name: str
    recordings: int
    seconds: float
    left_out: int
    unusable: int


@dataclass(frozen=True, kw_only=True)
class ResynthesisResult(Result):
    """Error rates of a recogniser on recordings, on vocoded and on resynthesised speech.

    Args:
        units: rates of the units in between, see ``RateCounts.to_dict``.
        original: on the recordings.
        vocoder: on speech from the recordings' own acoustic units, the bound of resynthesis; None without such units.
        resynthesis: on speech from syllable-like units.
    """

    evaluation: ClassVar[str] = "resynthesis"

    model: str
    data: ResynthesisData
    recognizer: str
    recognizer_settings: str | None = json_key(omit_none=True)
    normalization: TextNormalization
    min_seconds: float
    max_seconds: float
    interval: str = "95 % bootstrap over recordings"
    units: Mapping[str, float]
    original: ErrorRates
    vocoder: ErrorRates | None = json_key(omit_none=True)
    resynthesis: ErrorRates


@dataclass(frozen=True)
class Comparison:
    """A recording rendered in several ways and recognised: normalised text, transcripts and errors by rendering."""

    id: str
    reference: str
    transcripts: Mapping[str, str]
    counts: Mapping[str, ErrorCounts]


def evaluate_resynthesis(
    recordings: Recordings,
    model: str | Path = "small",
    *,
    recognizer: str = DEFAULT_RECOGNIZER,
    min_seconds: float = 4.0,
    max_seconds: float = 10.0,
    limit: int | None = None,
    out: str | Path | None = None,
    workers: int = 1,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> ResynthesisResult:
    """Measure how well a recogniser understands recordings, vocoded and resynthesised speech (Table 2).

    Args:
        recordings, model, recognizer, limit, workers, resamples, seed, device: see `syllablelm.evaluate`.
        min_seconds, max_seconds: shortest and longest recording scored; only those with a text are.
        out: JSONL file for the transcripts.

    Raises:
        InputError: no recording with a text and of these lengths, or a text without a word.
    """
    name, manifest, skipped = open_recordings(recordings)
    if out is not None:
        refuse_inputs([out], (recording.path for recording in manifest))
    chosen = _with_words(manifest, min_seconds, max_seconds)[:limit]
    compared: list[Comparison] = []
    rates: list[RateCounts] = []
    with (
        Transcriber(recognizer, device=device, workers=workers) as transcriber,
        ProgressBar("resynthesis", len(chosen)) as bar,
    ):
        speech = SpeechModel.load(model, device=device)
        renderings = make_renderings(speech, seed, rates)
        items = ((recording.id, recording.load(), recording.text or "") for recording in chosen)
        for comparison in compare_speech(items, renderings, transcriber.transcribe_all):
            compared.append(comparison)
            bar.advance()
    if out is not None:
        write_json_lines(Path(out), ({"id": c.id, "reference": c.reference, **c.transcripts} for c in compared))
    scores: dict[str, Any] = {
        name: ErrorRates.of([comparison.counts[name] for comparison in compared], resamples=resamples, seed=seed)
        for name in renderings
    }
    left_out = len(manifest) - len(chosen)
    return ResynthesisResult(
        model=str(model),
        data=ResynthesisData(name, len(chosen), chosen.total_seconds, left_out, len(skipped)),
        recognizer=recognizer,
        recognizer_settings=transcriber.settings,
        normalization=TextNormalization(),
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        units=RateCounts.merge(rates).to_dict(speech.tokenizer.num_units),
        **scores,
    )


def compare_speech(
    items: Iterable[tuple[str, Waveform, str]], renderings: Mapping[str, Render], transcribe: Transcribe
) -> Iterator[Comparison]:
    """Render every recording in several ways and recognise each; the comparisons are in the order of the recordings.

    Args:
        items: (id, waveform at 16 kHz, reference text) of each recording.
        renderings: name -> function from recordings to what is recognised in their place, at 16 kHz.
        transcribe: function from waveforms to their transcripts, in their order; it may read ahead.
    """
    waiting: deque[tuple[str, str]] = deque()

    def rendered() -> Iterator[Waveform]:
        rest = iter(items)
        while group := list(islice(rest, BATCH)):
            waiting.extend((name, text) for name, _, text in group)
            waves = [wave for _, wave, _ in group]
            for versions in zip(*(render(waves) for render in renderings.values()), strict=True):
                yield from versions

    transcripts = map(normalize_text, transcribe(rendered()))
    while texts := list(islice(transcripts, len(renderings))):
        name, text = waiting.popleft()
        counts = [error_counts(text, transcript) for transcript in texts]
        yield Comparison(
            name,
            normalize_text(text),
            dict(zip(renderings, texts, strict=True)),
            dict(zip(renderings, counts, strict=True)),
        )


def make_renderings(speech: SpeechModel, seed: int, rates: list[RateCounts]) -> dict[str, Render]:
    """Return what a recogniser hears in place of recordings, at 16 kHz; ``rates`` gets the counts of the units."""
    voice = speech.resynthesizer

    def at_16k(waves: list[Waveform]) -> list[Waveform]:
        return [resample(wave, voice.sample_rate, SAMPLE_RATE) for wave in waves]

    def resynthesize(waves: list[Waveform]) -> list[Waveform]:
        units = speech.tokenizer.encode(waves)
        rates.extend(map(rate_counts, units))
        return at_16k(voice.decode_many(units, seeds=[seed] * len(units)))

    renderings: dict[str, Render] = {"original": lambda waves: waves}
    acoustic = voice.acoustic
    if acoustic is not None:
        renderings["vocoder"] = lambda waves: at_16k(
            [voice.vocoder.decode_finite(units, seed=seed) for units in acoustic.encode(waves)]
        )
    return renderings | {"resynthesis": resynthesize}


def _with_words(manifest: Manifest, min_seconds: float, max_seconds: float) -> Manifest:
    """Return the recordings of the wanted lengths that have a text; a text without a word is an error."""
    texted = manifest.filter(lambda r: bool(r.text))
    chosen = texted.filter(lambda r: min_seconds <= r.seconds <= max_seconds)
    if not chosen:
        raise InputError(
            f"{len(manifest)} recordings, {len(texted)} with a text, none of them of {min_seconds:g} to "
            f"{max_seconds:g} s; change --min-seconds and --max-seconds"
        )
    wordless = chosen.filter(lambda r: not normalize_text(r.text or ""))
    if wordless:
        raise InputError(
            f"{wordless[0].id}: its text has no word ({len(wordless)} of {len(chosen)} recordings; no result)"
        )
    return chosen
