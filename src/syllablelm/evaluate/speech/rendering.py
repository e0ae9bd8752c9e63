"""Speech in place of recordings: by the vocoder alone or from units; and what listeners make of each rendering."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Any, ClassVar, cast, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import check_tokenizer
from syllablelm.core.errors import InputError
from syllablelm.core.results import Record
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE, resample
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.lists import PathLike, Units, read_units, refuse_recordings
from syllablelm.evaluate.speech import Durations
from syllablelm.evaluate.speech.error_rates import NormalizeText
from syllablelm.evaluate.units.bitrate import RateCounts, rate_counts
from syllablelm.formats import units_tokenizer
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.resynthesizer import Resynthesizer
from syllablelm.vocoder.speech_model import predict_durations

Waveform = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
# Returns what is heard in place of recordings, at 16 kHz, given their ids and waveforms.
Render = Callable[[list[str], list[Waveform]], list[Waveform]]
# Returns what a listener makes of each waveform, in their order; it may read ahead.
Listen = Callable[[Iterable[Waveform]], Iterator[Any]]
Encode = Callable[[list[str], list[Waveform]], list[Segmentation]]

# Recordings rendered as one batch.
BATCH = 8
# Renderings by the units' lengths.
RESYNTHESES: dict[Durations, str] = {"own": "resynthesis", "predicted": "predicted_durations"}
# Seconds by which units may be shorter or longer than their recording.
_LENGTH_TOLERANCE = 0.5


@dataclass(frozen=True)
class RenderedData(Record):
    """Scored recordings, and those left out: of another length, beyond the limit, without a text, or unreadable."""

    name: str
    recordings: int
    seconds: float
    left_out: int
    unusable: int


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


def choose_durations(durations: Durations | Sequence[Durations]) -> list[Durations]:
    """Return the lengths of units that are wanted, each once; InputError for none or an unknown one."""
    chosen = [durations] if isinstance(durations, str) else dict.fromkeys(durations)
    wanted = cast("list[Durations]", list(chosen))
    if not wanted or not set(wanted) <= set(RESYNTHESES):
        raise InputError(f"durations {', '.join(wanted) or 'none'}: choose {', '.join(get_args(Durations))}, or both")
    return wanted


def hear_renderings(
    items: Iterable[tuple[str, Waveform]], renderings: Mapping[str, Render], listeners: Mapping[str, Listen]
) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Render every recording in several ways, once for all listeners.

    Args:
        items: id and waveform at 16 kHz of each recording.
        renderings: name -> function from ids and waveforms to what is heard in their place, at 16 kHz.
        listeners: name -> function from waveforms (the renderings of a recording one after the other) to what it makes
            of them, in their order.

    Returns:
        (id, what is made by listener, then by rendering) of each recording, in their order.
    """
    waiting: deque[str] = deque()

    def rendered() -> Iterator[Waveform]:
        rest = iter(items)
        while group := list(islice(rest, BATCH)):
            ids, waves = [name for name, _ in group], [wave for _, wave in group]
            waiting.extend(ids)
            for versions in zip(*(render(ids, waves) for render in renderings.values()), strict=True):
                yield from versions

    # What one listener has heard waits for the others.
    streams = tee(rendered(), len(listeners))
    heard = zip(*(listen(stream) for listen, stream in zip(listeners.values(), streams, strict=True)), strict=True)
    while rows := list(islice(heard, len(renderings))):
        columns = (dict(zip(renderings, column, strict=True)) for column in zip(*rows, strict=True))
        yield waiting.popleft(), dict(zip(listeners, columns, strict=True))


class Rendering:
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
        # Units as the language model reads them, with their own and with predicted lengths, by recording.
        self._lengths: dict[str, tuple[Segmentation, Segmentation]] = {}
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

    def original_seconds(self, id: str, version: str, seconds: FloatArray) -> FloatArray:
        """Return the times in a recording of what is heard at given times of a rendering of it, see `map_times`."""
        return map_times(*self._lengths[id], seconds) if version == RESYNTHESES["predicted"] else seconds

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
        modelled = map(self._lm.info.as_modelled, own)
        self._lengths |= zip(ids, zip(modelled, predicted, strict=True), strict=True)
        before, totals = self.durations, [sum(units.duration for units in some) for some in (own, predicted)]
        self.durations = PredictedDurations(before.own_seconds + totals[0], before.predicted_seconds + totals[1])
        return self._speak(predicted)

    def _speak(self, units: list[Segmentation]) -> list[Waveform]:
        return self._at_16k(self._voice.decode_many(units, seeds=[self._seed] * len(units)))

    def _at_16k(self, waves: list[Waveform]) -> list[Waveform]:
        return [resample(wave, self._voice.sample_rate, SAMPLE_RATE) for wave in waves]


def map_times(own: Segmentation, other: Segmentation, seconds: FloatArray) -> FloatArray:
    """Return the times in segments that correspond to times (n,) in the same segments with other lengths.

    A time is mapped to that at the same share of the same segment; one after the end, beyond the end of the last.
    """
    frames = seconds * other.sample_rate / other.hop
    segment = np.searchsorted(other.end, frames, side="right").clip(max=len(other) - 1)
    share = (frames - other.start[segment]) / (other.end - other.start)[segment]
    return (own.start[segment] + share * (own.end - own.start)[segment]) * own.hop / own.sample_rate


def _check_units(units: Units, chosen: Manifest, name: str) -> None:
    """Refuse (InputError) recordings without units, or with those of another length."""
    refuse_recordings(f"{name}:", (one.id for one in chosen if not len(units.get(one.id, ()))), " without units")
    lengths = ((one.id, abs(units[one.id].duration - one.seconds)) for one in chosen)
    other = (id for id, difference in lengths if difference > _LENGTH_TOLERANCE)
    refuse_recordings(f"{name}:", other, f" over {_LENGTH_TOLERANCE} s longer or shorter than the units")


def choose_recordings(
    manifest: Manifest, min_seconds: float, max_seconds: float, normalize: NormalizeText | None
) -> Manifest:
    """Return the recordings of the wanted lengths; where texts are normalised, those that have one.

    Raises:
        InputError: no such recording, or a text without a word.
    """
    texted = manifest.filter(lambda r: bool(r.text)) if normalize else manifest
    chosen = texted.filter(lambda r: min_seconds <= r.seconds <= max_seconds)
    if not chosen:
        with_text = f", {len(texted)} with a text" if normalize else ""
        raise InputError(
            f"{len(manifest)} recordings{with_text}, none of them of {min_seconds:g} to {max_seconds:g} s; "
            "change --min-seconds and --max-seconds"
        )
    wordless = chosen.filter(lambda r: normalize is not None and not normalize(r.text or ""))
    if wordless:
        raise InputError(
            f"{wordless[0].id}: its text has no word ({len(wordless)} of {len(chosen)} recordings; no result)"
        )
    return chosen
