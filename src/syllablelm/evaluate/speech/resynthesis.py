"""Word and character error rates of recognisers on original and resynthesised speech (Table 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from syllablelm.core.errors import InputError
from syllablelm.core.files import refuse_inputs, write_json_lines
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Record, Result, json_key
from syllablelm.evaluate.lists import PathLike, Recordings, Units, open_recordings
from syllablelm.evaluate.speech import Durations, Normalization
from syllablelm.evaluate.speech.error_rates import (
    NORMALIZATIONS,
    ErrorCounts,
    ErrorRates,
    NormalizeText,
    TextNormalization,
    check_rule,
    error_counts,
    text_normalizer,
)
from syllablelm.evaluate.speech.recognizers import DEFAULT_RECOGNIZER, Transcriber
from syllablelm.evaluate.speech.rendering import (
    RESYNTHESES,
    Listen,
    PredictedDurations,
    Render,
    RenderedData,
    Rendering,
    Waveform,
    choose_durations,
    choose_recordings,
    hear_renderings,
)
from syllablelm.evaluate.units.bitrate import RateCounts


@dataclass(frozen=True, kw_only=True)
class RecognizerScores(Record):
    """Error rates of one recogniser.

    Args:
        recognizer, recognizer_settings: its name, and how it searches.
        original: on the recordings.
        vocoder: on speech from the recordings' own acoustic units, the bound of resynthesis; None without such units.
        resynthesis, predicted_durations: on speech from syllable-like units, with their own and with predicted lengths;
            None where not measured.
    """

    recognizer: str
    recognizer_settings: str | None = json_key(omit_none=True)
    original: ErrorRates
    vocoder: ErrorRates | None = json_key(omit_none=True)
    resynthesis: ErrorRates | None = json_key(omit_none=True)
    predicted_durations: ErrorRates | None = json_key(omit_none=True)

    @property
    def renderings(self) -> dict[str, ErrorRates]:
        """Error rates by what was heard, in the order of the fields."""
        found = {name: getattr(self, name) for name in ("original", "vocoder", *RESYNTHESES.values())}
        return {name: rates for name, rates in found.items() if rates is not None}


@dataclass(frozen=True, kw_only=True)
class ResynthesisResult(Result):
    """Error rates of recognisers on recordings, on vocoded and on resynthesised speech.

    Args:
        units: rates of the units in between, see ``RateCounts.to_dict``.
        scores, others: error rates by the first recogniser and by the others; in JSON the first ones' keys are among
            the result's own.
        unit_file: file of the units, where they were not made here.
        durations: length of the speech with predicted lengths.
    """

    evaluation: ClassVar[str] = "resynthesis"

    model: str
    data: RenderedData
    scores: RecognizerScores = json_key(flat=True)
    others: tuple[RecognizerScores, ...] | None = json_key(omit_none=True)
    normalization: TextNormalization
    min_seconds: float
    max_seconds: float
    interval: str = "95 % bootstrap over recordings"
    unit_file: str | None = json_key(omit_none=True)
    units: Mapping[str, float]
    durations: PredictedDurations | None = json_key(omit_none=True)

    @property
    def by_recognizer(self) -> tuple[RecognizerScores, ...]:
        """Error rates by recogniser, in the order in which they were given."""
        return (self.scores, *(self.others or ()))

    def table(self) -> list[dict[str, Any]]:
        """Rows of a table: one for each recogniser and rendering."""
        return [
            {"recognizer": scores.recognizer, "speech": name} | rates.to_dict()
            for scores in self.by_recognizer
            for name, rates in scores.renderings.items()
        ]


@dataclass(frozen=True)
class Comparison:
    """A recording rendered in several ways and recognised: transcripts and errors by recogniser, then by rendering.

    Reference and transcripts are normalised.
    """

    id: str
    reference: str
    transcripts: Mapping[str, Mapping[str, str]]
    counts: Mapping[str, Mapping[str, ErrorCounts]]


def evaluate_resynthesis(
    recordings: Recordings,
    model: str | Path = "small",
    *,
    recognizer: str | Sequence[str] = DEFAULT_RECOGNIZER,
    units: PathLike | Units | None = None,
    durations: Durations | Sequence[Durations] = "own",
    normalization: Normalization = "english",
    min_seconds: float = 4.0,
    max_seconds: float = 10.0,
    limit: int | None = None,
    out: str | Path | None = None,
    workers: int = 1,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> ResynthesisResult:
    """Measure how well recognisers understand recordings, vocoded and resynthesised speech (Table 2).

    Args:
        recordings, model, limit, workers, resamples, seed, device: see `syllablelm.evaluate`.
        recognizer: one recogniser or several, see `syllablelm.evaluate`; all hear the same speech, rendered once.
        units: units of the recordings by id, or a file of them, instead of those of the model's tokenizer; the model
            then needs a vocoder only.
        durations: "own" lengths of the units, or those "predicted" by the model's language model for continuations (the
            mean of each unit); or both, as two renderings.
        normalization: rule by which texts are compared, "english" or "plain".
        min_seconds, max_seconds: shortest and longest recording scored; only those with a text are.
        out: JSONL file for the transcripts.

    Raises:
        InputError: no recording with a text and of these lengths, a text without a word, or recordings without units.
        FormatError: no such model, or parts of different units.
    """
    wanted = choose_durations(durations)
    names = [recognizer] if isinstance(recognizer, str) else list(dict.fromkeys(recognizer))
    check_rule(normalization, names)
    if not names:
        raise InputError("no recogniser: give at least one name")
    normalize = text_normalizer(normalization)
    name, manifest, skipped = open_recordings(recordings)
    if out is not None:
        refuse_inputs([out], (recording.path for recording in manifest))
    chosen = choose_recordings(manifest, min_seconds, max_seconds, normalize)[:limit]
    with ExitStack() as stack:
        transcribers = {name: stack.enter_context(Transcriber(name, device=device, workers=workers)) for name in names}
        rendering = Rendering(model, units, chosen, seed=seed, predict="predicted" in wanted, device=device)
        versions = rendering.versions(wanted)
        items = ((recording.id, recording.load(), recording.text or "") for recording in chosen)
        ears = {name: transcriber.transcribe_all for name, transcriber in transcribers.items()}
        compared: list[Comparison] = []
        with ProgressBar("resynthesis", len(chosen)) as bar:
            for comparison in compare_speech(items, versions, ears, normalize):
                compared.append(comparison)
                bar.advance()
    if out is not None:
        lines = (
            {"id": one.id, "recognizer": name, "reference": one.reference, **one.transcripts[name]}
            for one in compared
            for name in names
        )
        write_json_lines(Path(out), lines)
    first, *others = (
        RecognizerScores(
            recognizer=name,
            recognizer_settings=transcriber.settings,
            **{
                version: ErrorRates.of([one.counts[name][version] for one in compared], resamples=resamples, seed=seed)
                for version in versions
            },
        )
        for name, transcriber in transcribers.items()
    )
    left_out = len(manifest) - len(chosen)
    return ResynthesisResult(
        model=str(model),
        data=RenderedData(name, len(chosen), chosen.total_seconds, left_out, len(skipped)),
        scores=first,
        others=tuple(others) or None,
        normalization=NORMALIZATIONS[normalization],
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        unit_file=rendering.unit_file,
        units=RateCounts.merge(rendering.rates).to_dict(rendering.num_units),
        durations=rendering.durations,
    )


def compare_speech(
    items: Iterable[tuple[str, Waveform, str]],
    renderings: Mapping[str, Render],
    recognizers: Mapping[str, Listen],
    normalize: NormalizeText,
) -> Iterator[Comparison]:
    """Render every recording in several ways and recognise each; the comparisons are in the order of the recordings.

    Args:
        items: (id, waveform at 16 kHz, reference text) of each recording.
        renderings: name -> function from ids and waveforms to what is recognised in their place, at 16 kHz.
        recognizers: name -> function from waveforms to their transcripts, in their order; it may read ahead.
        normalize: normalisation of references and transcripts.
    """
    texts: list[str] = []

    def without_texts() -> Iterator[tuple[str, Waveform]]:
        for name, wave, text in items:
            texts.append(text)
            yield name, wave

    for number, (name, heard) in enumerate(hear_renderings(without_texts(), renderings, recognizers)):
        reference = normalize(texts[number])
        transcripts = {
            recognizer: {version: normalize(text) for version, text in versions.items()}
            for recognizer, versions in heard.items()
        }
        counts = {
            recognizer: {version: error_counts(reference, one) for version, one in versions.items()}
            for recognizer, versions in transcripts.items()
        }
        yield Comparison(name, reference, transcripts, counts)
