"""Word and character error rates of recognisers on original and resynthesised speech (Table 2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Any, ClassVar, cast, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import check_tokenizer
from syllablelm.core.errors import InputError
from syllablelm.core.files import refuse_inputs, write_json_lines
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Record, Result, json_key
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE, resample
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.lists import PathLike, Recordings, Units, open_recordings, read_units, refuse_recordings
from syllablelm.evaluate.speech import Durations, Normalization
from syllablelm.evaluate.speech.error_rates import (
    NORMALIZATIONS,
    ErrorCounts,
    ErrorRates,
    NormalizeText,
    TextNormalization,
    error_counts,
    text_normalizer,
)
from syllablelm.evaluate.speech.recognizers import DEFAULT_RECOGNIZER, Transcriber
from syllablelm.evaluate.units.bitrate import RateCounts, rate_counts
from syllablelm.formats import units_tokenizer
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.resynthesizer import Resynthesizer
from syllablelm.vocoder.speech_model import predict_durations

Waveform = npt.NDArray[np.float32]
# Returns what is recognised in place of recordings, at 16 kHz, given their ids and waveforms.
Render = Callable[[list[str], list[Waveform]], list[Waveform]]
Transcribe = Callable[[Iterable[Waveform]], Iterator[str]]
Encode = Callable[[list[str], list[Waveform]], list[Segmentation]]

# Recordings rendered as one batch.
BATCH = 8
# Renderings by the units' lengths.
RESYNTHESES: dict[Durations, str] = {"own": "resynthesis", "predicted": "predicted_durations"}
# Seconds by which units may be shorter or longer than their recording.
_LENGTH_TOLERANCE = 0.5


@dataclass(frozen=True)
class ResynthesisData(Record):
    """Scored recordings, and those left out: without a text, of another length, beyond the limit, or unreadable."""

    name: str
    recordings: int
    seconds: float
    left_out: int
    unusable: int


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


@dataclass(frozen=True)
class PredictedDurations(Record):
    """Total seconds of all units with their own and with predicted lengths; ``ratio`` is predicted to own."""

    derived: ClassVar[tuple[str, ...]] = ("ratio",)

    own_seconds: float
    predicted_seconds: float
    rule: str = "mean length of each unit in the training of the language model, in whole frames"

    @property
    def ratio(self) -> float:
        """Predicted length per own length."""
        return self.predicted_seconds / self.own_seconds if self.own_seconds else 0.0


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
    data: ResynthesisData
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
    chosen_durations = [durations] if isinstance(durations, str) else dict.fromkeys(durations)
    wanted = cast("list[Durations]", list(chosen_durations))
    if not wanted or not set(wanted) <= set(RESYNTHESES):
        raise InputError(f"durations {', '.join(wanted) or 'none'}: choose {', '.join(get_args(Durations))}, or both")
    names = [recognizer] if isinstance(recognizer, str) else list(dict.fromkeys(recognizer))
    if not names:
        raise InputError("no recogniser: give at least one name")
    normalize = text_normalizer(normalization)
    name, manifest, skipped = open_recordings(recordings)
    if out is not None:
        refuse_inputs([out], (recording.path for recording in manifest))
    chosen = _with_words(manifest, min_seconds, max_seconds, normalize)[:limit]
    with ExitStack() as stack:
        transcribers = {name: stack.enter_context(Transcriber(name, device=device, workers=workers)) for name in names}
        rendering = _Rendering(model, units, chosen, seed=seed, predict="predicted" in wanted, device=device)
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
        data=ResynthesisData(name, len(chosen), chosen.total_seconds, left_out, len(skipped)),
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
    recognizers: Mapping[str, Transcribe],
    normalize: NormalizeText,
) -> Iterator[Comparison]:
    """Render every recording in several ways and recognise each; the comparisons are in the order of the recordings.

    Args:
        items: (id, waveform at 16 kHz, reference text) of each recording.
        renderings: name -> function from ids and waveforms to what is recognised in their place, at 16 kHz.
        recognizers: name -> function from waveforms to their transcripts, in their order; it may read ahead.
        normalize: normalisation of references and transcripts.
    """
    waiting: deque[tuple[str, str]] = deque()

    def rendered() -> Iterator[Waveform]:
        rest = iter(items)
        while group := list(islice(rest, BATCH)):
            waiting.extend((name, text) for name, _, text in group)
            ids, waves = [name for name, _, _ in group], [wave for _, wave, _ in group]
            for versions in zip(*(render(ids, waves) for render in renderings.values()), strict=True):
                yield from versions

    # Rendered once: what one recogniser has heard waits for the others.
    streams = tee(rendered(), len(recognizers))
    heard = zip(*(hear(stream) for hear, stream in zip(recognizers.values(), streams, strict=True)), strict=True)
    while texts := list(islice(heard, len(renderings))):
        name, text = waiting.popleft()
        reference = normalize(text)
        transcripts = {
            recognizer: dict(zip(renderings, map(normalize, column), strict=True))
            for recognizer, column in zip(recognizers, zip(*texts, strict=True), strict=True)
        }
        counts = {
            recognizer: {version: error_counts(reference, one) for version, one in versions.items()}
            for recognizer, versions in transcripts.items()
        }
        yield Comparison(name, reference, transcripts, counts)


class _Rendering:
    """Speech in place of recordings, by a model's vocoder from units that are made here or given.

    Attributes:
        unit_file, num_units: file of given units, and size of the codebook.
        rates: counts of the units of every recording that was rendered.
        durations: lengths of the units of all of them; None unless lengths are predicted.
    """

    def __init__(
        self,
        model: str | Path,
        units: PathLike | Units | None,
        chosen: Manifest,
        *,
        seed: int,
        predict: bool,
        device: str,
    ) -> None:
        self._voice = voice = Resynthesizer.load(model, device=device)
        self._seed = seed
        self._latest: tuple[list[str], list[Segmentation]] = [], []
        self.unit_file: str | None = None
        self.rates: list[RateCounts] = []
        self.durations: PredictedDurations | None = None
        if units is None:
            tokenizer = Tokenizer.load(model, device=device)
            digest, self.num_units = tokenizer.digest, tokenizer.num_units
            self._encode: Encode = lambda ids, waves: tokenizer.encode(waves)
        else:
            lm = voice.vocoder_lm
            self.num_units = voice.vocoder.num_units if lm is None else lm.stream.syllables
            given = units if isinstance(units, Mapping) else read_units(Path(units))
            self.unit_file = "units" if isinstance(units, Mapping) else str(units)
            digest = "" if isinstance(units, Mapping) else units_tokenizer(Path(units))
            _check_units(given, chosen, self.unit_file)
            self._encode = lambda ids, waves: [given[id] for id in ids]
        check_tokenizer("vocoder", voice.tokenizer, digest)
        self._lm: SpeechLM | None = None
        if predict:
            self._lm = SpeechLM.load(model, device=device)
            check_tokenizer("language model", self._lm.info.tokenizer, digest or voice.tokenizer)
            self.durations = PredictedDurations(0.0, 0.0)

    def versions(self, durations: Iterable[Durations]) -> dict[str, Render]:
        """Return what is heard by name: recordings, vocoded acoustic units if there are any, and resyntheses."""
        voice = self._voice
        renderings: dict[str, Render] = {"original": lambda ids, waves: waves}
        acoustic = voice.acoustic
        if acoustic is not None:
            renderings["vocoder"] = lambda ids, waves: self._at_16k(
                [voice.vocoder.decode_finite(units, seed=self._seed) for units in acoustic.encode(waves)]
            )
        makers: dict[Durations, Render] = {"own": self._own, "predicted": self._predicted}
        return renderings | {RESYNTHESES[which]: makers[which] for which in durations}

    def _units(self, ids: list[str], waves: list[Waveform]) -> list[Segmentation]:
        """Return the units of a batch, encoded and counted once for all renderings."""
        if self._latest[0] != ids:
            self._latest = ids, self._encode(ids, waves)
            self.rates.extend(map(rate_counts, self._latest[1]))
        return self._latest[1]

    def _own(self, ids: list[str], waves: list[Waveform]) -> list[Waveform]:
        return self._speak(self._units(ids, waves))

    def _predicted(self, ids: list[str], waves: list[Waveform]) -> list[Waveform]:
        own = self._units(ids, waves)
        if self._lm is None or self.durations is None:
            raise RuntimeError("no language model to predict lengths")
        predicted = [predict_durations(units, self._lm) for units in own]
        before, totals = self.durations, [sum(units.duration for units in some) for some in (own, predicted)]
        self.durations = PredictedDurations(before.own_seconds + totals[0], before.predicted_seconds + totals[1])
        return self._speak(predicted)

    def _speak(self, units: list[Segmentation]) -> list[Waveform]:
        return self._at_16k(self._voice.decode_many(units, seeds=[self._seed] * len(units)))

    def _at_16k(self, waves: list[Waveform]) -> list[Waveform]:
        return [resample(wave, self._voice.sample_rate, SAMPLE_RATE) for wave in waves]


def _check_units(units: Units, chosen: Manifest, name: str) -> None:
    """Refuse (InputError) recordings without units, or with those of another length."""
    refuse_recordings(f"{name}:", (one.id for one in chosen if not len(units.get(one.id, ()))), " without units")
    lengths = ((one.id, abs(units[one.id].duration - one.seconds)) for one in chosen)
    other = (id for id, difference in lengths if difference > _LENGTH_TOLERANCE)
    refuse_recordings(f"{name}:", other, f" over {_LENGTH_TOLERANCE} s longer or shorter than the units")


def _with_words(manifest: Manifest, min_seconds: float, max_seconds: float, normalize: NormalizeText) -> Manifest:
    """Return the recordings of the wanted lengths that have a text; a text without a word is an error."""
    texted = manifest.filter(lambda r: bool(r.text))
    chosen = texted.filter(lambda r: min_seconds <= r.seconds <= max_seconds)
    if not chosen:
        raise InputError(
            f"{len(manifest)} recordings, {len(texted)} with a text, none of them of {min_seconds:g} to "
            f"{max_seconds:g} s; change --min-seconds and --max-seconds"
        )
    wordless = chosen.filter(lambda r: not normalize(r.text or ""))
    if wordless:
        raise InputError(
            f"{wordless[0].id}: its text has no word ({len(wordless)} of {len(chosen)} recordings; no result)"
        )
    return chosen
