"""Quality of resynthesised speech beside its intelligibility: opinion scores, similarity of the voice, pitch errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.files import refuse_inputs, write_json_lines
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Estimate, Record, Result, json_key, plain_json
from syllablelm.data.audio import SAMPLE_RATE
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.bootstrap import bootstrap_estimate
from syllablelm.evaluate.counts import C, Counts
from syllablelm.evaluate.lists import PathLike, Recordings, Units, open_recordings
from syllablelm.evaluate.speech import Durations, Normalization, OpinionModel
from syllablelm.evaluate.speech.error_rates import (
    NORMALIZATIONS,
    ErrorCounts,
    ErrorRates,
    TextNormalization,
    check_rule,
    error_counts,
    text_normalizer,
)
from syllablelm.evaluate.speech.opinion import DNSMOS, OpinionScores
from syllablelm.evaluate.speech.pitch_error import HOP, METHOD, PitchCounts, contour, pitch_counts
from syllablelm.evaluate.speech.recognizers import Transcriber
from syllablelm.evaluate.speech.rendering import (
    Listen,
    PredictedDurations,
    RenderedData,
    Rendering,
    Waveform,
    choose_durations,
    choose_recordings,
    hear_renderings,
)
from syllablelm.evaluate.speech.speakers import DEFAULT_SPEAKER_ENCODER, SpeakerEncoder, load_speaker_encoder
from syllablelm.evaluate.units.bitrate import RateCounts

ORIGINAL = "original"
# Shortest recording in seconds of which the scorers make something.
SHORTEST = 1.0


@dataclass(frozen=True)
class Measure:
    """A column of results: heading with unit, digits after the point, and factor of what is shown (100 for %)."""

    heading: str
    digits: int
    factor: float = 1.0


MEASURES = {
    "mos": Measure("MOS, overall", 2),
    "mos_signal": Measure("MOS, signal", 2),
    "mos_background": Measure("MOS, background", 2),
    "similarity": Measure("speaker similarity", 3),
    "similarity_others": Measure("similarity to other speakers", 3),
    "pitch_error": Measure("pitch RMSE, semitones", 2),
    "pitch_offset": Measure("pitch offset, semitones", 2),
    "pitch_correlation": Measure("pitch correlation", 3),
    "gross_pitch_error": Measure("gross pitch error, %", 1, 100),
    "voicing_error": Measure("voicing error, %", 1, 100),
}
"""Measures by their field of `QualityRow`, in the order of the table."""
_OPINIONS: dict[str, Callable[[OpinionScores], float]] = {
    "mos": lambda scores: scores.overall,
    "mos_signal": lambda scores: scores.signal,
    "mos_background": lambda scores: scores.background,
}
_PITCH: dict[str, Callable[[PitchCounts], float]] = {
    "pitch_error": lambda counts: counts.rmse,
    "pitch_offset": lambda counts: counts.offset,
    "pitch_correlation": lambda counts: counts.correlation,
    "gross_pitch_error": lambda counts: counts.gross_error,
    "voicing_error": lambda counts: counts.voicing_error,
}


@dataclass(frozen=True)
class MeanCounts(Counts):
    """Counts behind a mean: values of recordings, and their sum."""

    items: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return self.total / self.items


@dataclass(frozen=True, kw_only=True)
class QualityRow(Record):
    """Scores of one rendering with 95 % bootstrap intervals over recordings; None where not measured.

    Args:
        speech: the rendering: "original", "vocoder", "resynthesis" or "predicted_durations".
        mos, mos_signal, mos_background: opinion scores from 1 to 5, see `OpinionScores`.
        similarity, similarity_others: cosine similarity of the speaker embedding with that of the recording, and the
            mean of those with the recordings of other speakers: what a voice of nobody in particular gets.
        pitch_error, pitch_offset, pitch_correlation, gross_pitch_error, voicing_error: see `PitchCounts`.
        voiced_frames: frames voiced in recording and rendering.
        errors: error rates by recogniser.
    """

    speech: str
    mos: Estimate | None = json_key(omit_none=True)
    mos_signal: Estimate | None = json_key(omit_none=True)
    mos_background: Estimate | None = json_key(omit_none=True)
    similarity: Estimate | None = json_key(omit_none=True)
    similarity_others: Estimate | None = json_key(omit_none=True)
    pitch_error: Estimate | None = json_key(omit_none=True)
    pitch_offset: Estimate | None = json_key(omit_none=True)
    pitch_correlation: Estimate | None = json_key(omit_none=True)
    gross_pitch_error: Estimate | None = json_key(omit_none=True)
    voicing_error: Estimate | None = json_key(omit_none=True)
    voiced_frames: int | None = json_key(omit_none=True)
    errors: Mapping[str, ErrorRates] | None = json_key(omit_none=True)


@dataclass(frozen=True, kw_only=True)
class QualityResult(Result):
    """Quality of recordings, of vocoded and of resynthesised speech.

    Args:
        rows: scores by rendering.
        methods: how each measure is computed, with its rules of rate, level and length.
        normalization: rule by which texts are compared; None without a recogniser.
        unit_file, units, durations: as in `ResynthesisResult`.
    """

    evaluation: ClassVar[str] = "quality"

    model: str
    data: RenderedData
    rows: tuple[QualityRow, ...]
    methods: Mapping[str, str]
    normalization: TextNormalization | None = json_key(omit_none=True)
    min_seconds: float
    max_seconds: float
    interval: str = "95 % bootstrap over recordings"
    unit_file: str | None = json_key(omit_none=True)
    units: Mapping[str, float]
    durations: PredictedDurations | None = json_key(omit_none=True)

    @property
    def recognizers(self) -> tuple[str, ...]:
        """Names of the recognisers, in the order in which they were given."""
        return tuple(self.rows[0].errors or ())

    def table(self) -> list[dict[str, str]]:
        """Rows of a table: one for each measure, with a column for each rendering; numbers with their intervals."""
        cells = {
            heading: [(measure, getattr(row, key)) for row in self.rows]
            for key, measure in MEASURES.items()
            for heading in [measure.heading]
        }
        for name in self.recognizers:
            for rate in ("wer", "cer"):
                measure = Measure(f"{rate.upper()} by {name}, %", 1, 100)
                cells[measure.heading] = [(measure, getattr((row.errors or {})[name], rate)) for row in self.rows]
        speech = [row.speech for row in self.rows]
        return [
            {"measure": heading} | {name: _show(*cell) for name, cell in zip(speech, line, strict=True)}
            for heading, line in cells.items()
            if any(number is not None for _, number in line)
        ]


def _show(measure: Measure, number: Estimate | None) -> str:
    if number is None:
        return "-"
    ends = [x for x in (number.low, number.high) if x is not None]
    value, *interval = (f"{x * measure.factor:.{measure.digits}f}" for x in (number.value, *ends))
    return f"{value} [{', '.join(interval)}]" if interval else value


def evaluate_quality(
    recordings: Recordings,
    model: str | Path = "small",
    *,
    mos: OpinionModel = "dnsmos",
    speaker: str = DEFAULT_SPEAKER_ENCODER,
    recognizer: str | Sequence[str] = (),
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
) -> QualityResult:
    """Measure how good recordings, vocoded and resynthesised speech sound, and how much of voice and pitch is kept.

    Args:
        recordings, model, limit, workers, resamples, seed, device: see `syllablelm.evaluate`.
        mos: network that predicts opinion scores, or "none".
        speaker: speaker encoder, see `load_speaker_encoder`, or "none".
        recognizer: none, one recogniser or several, see `syllablelm.evaluate`: their error rates join the table, and
            only recordings with a text are scored.
        units, durations, normalization: as for `evaluate_resynthesis`.
        min_seconds, max_seconds: shortest (1 s or more) and longest recording scored.
        out: JSONL file for the scores of every recording.

    Raises:
        InputError: no recording of these lengths, a text without a word, or recordings without units.
        FormatError: no such model, or parts of different units.
        MissingDependencyError: the packages of a scorer are not installed.
    """
    wanted = choose_durations(durations)
    if mos not in get_args(OpinionModel):
        raise InputError(f"mos {mos!r}: choose {' or '.join(get_args(OpinionModel))}")
    if min_seconds < SHORTEST:
        raise InputError(f"min_seconds {min_seconds:g}: must be at least {SHORTEST:g}, as scores of less mean nothing")
    names = [recognizer] if isinstance(recognizer, str) else list(dict.fromkeys(recognizer))
    check_rule(normalization, names)
    normalize = text_normalizer(normalization)
    name, manifest, skipped = open_recordings(recordings)
    if out is not None:
        refuse_inputs([out], (recording.path for recording in manifest))
    chosen = choose_recordings(manifest, min_seconds, max_seconds, normalize if names else None)[:limit]
    # Scorers first: what is missing is reported before a model is opened.
    opinion = None if mos == "none" else DNSMOS()
    encoder = None if speaker == "none" else load_speaker_encoder(speaker, device=device)
    with ExitStack() as stack:
        transcribers = [stack.enter_context(Transcriber(one, device=device, workers=workers)) for one in names]
        rendering = Rendering(model, units, chosen, seed=seed, predict="predicted" in wanted, device=device)
        versions = rendering.versions(wanted)
        scorer = _Scorer(chosen, [*versions], rendering, opinion, encoder)
        listeners: dict[str, Listen] = {"quality": scorer.listen}
        listeners |= {f"recogniser {one.name}": one.transcribe_all for one in transcribers}
        heard: list[dict[str, _Scores]] = []
        errors: dict[str, dict[str, list[ErrorCounts]]] = {one: {version: [] for version in versions} for one in names}
        items = ((recording.id, recording.load()) for recording in chosen)
        with ProgressBar("quality", len(chosen)) as bar:
            for recording, (_, made) in zip(chosen, hear_renderings(items, versions, listeners), strict=True):
                heard.append(made["quality"])
                for one in names:
                    reference = normalize(recording.text or "")
                    for version, text in made[f"recogniser {one}"].items():
                        errors[one][version].append(error_counts(reference, normalize(text)))
                bar.advance()
    if out is not None:
        write_json_lines(Path(out), _lines(chosen, heard, errors))
    others = None if encoder is None else _other_speakers(chosen, heard)
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    rows: list[dict[str, Any]] = [
        _row(version, [scores[version] for scores in heard], [scores[ORIGINAL] for scores in heard], others, options)
        | {"errors": {one: ErrorRates.of(errors[one][version], **options) for one in names} or None}
        for version in versions
    ]
    methods = {"mos": opinion, "similarity": encoder} | {f"recogniser {one.name}": one for one in transcribers}
    return QualityResult(
        model=str(model),
        data=RenderedData(name, len(chosen), chosen.total_seconds, len(manifest) - len(chosen), len(skipped)),
        rows=tuple(QualityRow(**row) for row in rows),
        methods={key: method.settings for key, method in methods.items() if method is not None} | {"pitch": METHOD},
        normalization=NORMALIZATIONS[normalization] if names else None,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        unit_file=rendering.unit_file,
        units=RateCounts.merge(rendering.rates).to_dict(rendering.num_units),
        durations=rendering.durations,
    )


@dataclass(frozen=True)
class _Scores:
    """Scores of one rendering of one recording; ``pitch`` is None of the recording itself."""

    opinion: OpinionScores | None
    embedding: Waveform | None
    pitch: PitchCounts | None


class _Scorer:
    """Scores renderings in the order in which they are heard."""

    def __init__(
        self,
        chosen: Manifest,
        versions: Sequence[str],
        rendering: Rendering,
        opinion: DNSMOS | None,
        encoder: SpeakerEncoder | None,
    ) -> None:
        self._ids = [recording.id for recording in chosen]
        self._versions, self._rendering, self._opinion, self._encoder = versions, rendering, opinion, encoder

    def listen(self, waves: Iterable[Waveform]) -> Iterator[_Scores]:
        """Yield the scores of each waveform; all renderings of a recording follow each other, the recording first."""
        rest = iter(waves)
        for id in self._ids:
            pitches: dict[str, npt.NDArray[np.float32]] = {}
            for version, wave in zip(self._versions, islice(rest, len(self._versions)), strict=True):
                pitches[version] = contour(wave)
                yield _Scores(
                    None if self._opinion is None else self._opinion.score(wave),
                    None if self._encoder is None else self._encoder.embed(wave),
                    None if version == ORIGINAL else self._compare(id, version, pitches),
                )

    def _compare(self, id: str, version: str, pitches: Mapping[str, npt.NDArray[np.float32]]) -> PitchCounts:
        original, other = pitches[ORIGINAL], pitches[version]
        seconds = np.arange(len(other), dtype=np.float64) * HOP / SAMPLE_RATE
        times = self._rendering.original_seconds(id, version, seconds)
        frames = np.rint(times * SAMPLE_RATE / HOP).astype(np.int64)
        known = frames < len(original)
        return pitch_counts(original[frames[known]], other[known])


def _other_speakers(chosen: Manifest, heard: Sequence[Mapping[str, _Scores]]) -> list[Waveform] | None:
    """Return for each recording the mean embedding of the recordings of other speakers; None without two speakers.

    Its product with an embedding is the mean of the similarities.
    """
    speakers = [recording.speaker for recording in chosen]
    if None in speakers or len(set(speakers)) < 2:
        return None
    embeddings_ND = np.stack([vector for scores in heard if (vector := scores[ORIGINAL].embedding) is not None])
    different_NN = np.array([[a != b for b in speakers] for a in speakers])
    return list(different_NN @ embeddings_ND / different_NN.sum(1, keepdims=True))


def _row(
    version: str,
    scores: Sequence[_Scores],
    originals: Sequence[_Scores],
    others: Sequence[Waveform] | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the fields of a row."""
    row: dict[str, Any] = {"speech": version}

    def estimate(items: Sequence[C], statistic: Callable[[C], float]) -> Estimate | None:
        found = bootstrap_estimate(items, statistic, **options)
        if not np.isfinite(found.value):
            return None
        # A resample may be without a voiced frame.
        ends = (found.low, found.high)
        return found if all(end is not None and np.isfinite(end) for end in ends) else Estimate(found.value)

    def add(key: str, values: Sequence[float]) -> None:
        row[key] = estimate([MeanCounts(1, value) for value in values], lambda counts: counts.mean)

    opinions = [one.opinion for one in scores if one.opinion is not None]
    for key, pick in _OPINIONS.items() if opinions else ():
        add(key, [pick(one) for one in opinions])
    embeddings = [one.embedding for one in scores if one.embedding is not None]
    known = [one.embedding for one in originals if one.embedding is not None]
    if embeddings and version != ORIGINAL:
        add("similarity", [float(a @ b) for a, b in zip(embeddings, known, strict=True)])
    if others is not None:
        add("similarity_others", [float(a @ b) for a, b in zip(embeddings, others, strict=True)])
    pitches = [one.pitch for one in scores if one.pitch is not None]
    if pitches:
        row["voiced_frames"] = PitchCounts.merge(pitches).voiced
        row |= {key: estimate(pitches, pick) for key, pick in _PITCH.items()}
    return row


def _lines(
    chosen: Manifest, heard: Sequence[Mapping[str, _Scores]], errors: Mapping[str, Mapping[str, list[ErrorCounts]]]
) -> Iterator[dict[str, Any]]:
    """Return the scores of every recording and rendering."""
    for number, (recording, versions) in enumerate(zip(chosen, heard, strict=True)):
        for version, scores in versions.items():
            row = _row(version, [scores], [versions[ORIGINAL]], None, {"resamples": 1})
            values = {key: value.value for key, value in row.items() if isinstance(value, Estimate)}
            rates = {name: {"wer": c[version][number].wer, "cer": c[version][number].cer} for name, c in errors.items()}
            yield plain_json({"id": recording.id, "speech": version, **values} | ({"errors": rates} if rates else {}))
