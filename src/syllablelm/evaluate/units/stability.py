"""Stability of units under distortions of the recording: unit edit distance and boundary agreement."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, InputError, unknown_name
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Estimate, Record, Result, json_key
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE
from syllablelm.data.corpus import SkippedFile, no_usable
from syllablelm.data.distortions import delay, gain, mp3, pitch, reverberate, telephone, white_noise
from syllablelm.data.manifest import Manifest
from syllablelm.evaluate.bootstrap import bootstrap_estimate
from syllablelm.evaluate.boundaries.matching import BoundaryCounts, boundary_counts
from syllablelm.evaluate.counts import Counts
from syllablelm.evaluate.edit_distance import edit_distance
from syllablelm.evaluate.lists import Model, Recordings, ScoredData, as_list, note_omitted, open_model, open_recordings
from syllablelm.tokenizer.recordings import GROUP_SECONDS, group_recordings
from syllablelm.tokenizer.tokenizer import Tokenizer

Waveform = npt.NDArray[np.float32]
Distort = Callable[[Waveform, np.random.Generator], Waveform]

MEAN = "mean"
"""Name of the row of all conditions together."""


@dataclass(frozen=True)
class Condition:
    """A named distortion.

    Args:
        name, heading: short name, such as "noise10", and heading in tables.
        distort: function of a waveform at 16 kHz and a random generator that returns the distorted waveform.
        delay: seconds by which every event of the distorted waveform is late.
    """

    name: str
    heading: str
    distort: Distort
    delay: float = 0.0


CONDITIONS: Mapping[str, Condition] = {
    condition.name: condition
    for condition in (
        Condition("gain-6", "Gain -6 dB", lambda wave, rng: gain(wave, -6.0)),
        Condition("gain+6", "Gain +6 dB", lambda wave, rng: gain(wave, 6.0)),
        Condition("noise30", "Noise 30 dB", lambda wave, rng: white_noise(wave, 30.0, rng)),
        Condition("noise20", "Noise 20 dB", lambda wave, rng: white_noise(wave, 20.0, rng)),
        Condition("noise10", "Noise 10 dB", lambda wave, rng: white_noise(wave, 10.0, rng)),
        Condition("mp3", "MP3", lambda wave, rng: mp3(wave)),
        Condition("telephone", "Telephone", lambda wave, rng: telephone(wave)),
        Condition("delay10", "Delay 10 ms", lambda wave, rng: delay(wave, 0.010), delay=0.010),
        Condition("reverb", "Reverberation", lambda wave, rng: reverberate(wave, 0.4, rng)),
        Condition("pitch+2", "Pitch +2", lambda wave, rng: pitch(wave, 2.0)),
        Condition("pitch-2", "Pitch -2", lambda wave, rng: pitch(wave, -2.0)),
    )
}
"""The conditions by name, in the order of tables."""


@dataclass(frozen=True)
class StabilityCounts(Counts):
    """Counts behind the stability of units; add those of recordings to get those of a corpus.

    Args:
        edits, units: edits between clean and distorted deduplicated units, and number of clean ones.
        same_samples: samples whose clean and distorted units are the same (or both none).
        samples: samples that clean and distorted segmentations both cover.
        hits_20, hits_50: pairs of a clean and a distorted boundary at most 20 or 50 ms apart.
        distorted_boundaries, clean_boundaries: boundaries without the recordings' own edges.
    """

    edits: int = 0
    units: int = 0
    same_samples: int = 0
    samples: int = 0
    hits_20: int = 0
    hits_50: int = 0
    distorted_boundaries: int = 0
    clean_boundaries: int = 0

    @property
    def unit_edit_distance(self) -> float:
        """Edits / clean units, both deduplicated; may exceed 1, 0.0 where there are no units."""
        return self.edits / self.units if self.units else 0.0

    @property
    def same_units(self) -> float:
        """Share of the frames that carry the same unit; 1.0 where there are no frames."""
        return self.same_samples / self.samples if self.samples else 1.0

    @property
    def boundaries_20(self) -> BoundaryCounts:
        """Distorted boundaries against clean ones at 20 ms."""
        return BoundaryCounts(self.hits_20, self.distorted_boundaries, self.clean_boundaries)

    @property
    def boundaries_50(self) -> BoundaryCounts:
        """Distorted boundaries against clean ones at 50 ms."""
        return BoundaryCounts(self.hits_50, self.distorted_boundaries, self.clean_boundaries)


@dataclass(frozen=True, kw_only=True)
class StabilityRow(Record):
    """Stability of one model's units under one condition, or under `MEAN`; names as in `StabilityCounts`.

    ``f1``, ``precision``, ``recall`` and ``hits`` compare distorted boundaries with clean ones at 20 and 50 ms.
    """

    model: str
    condition: str
    unit_edit_distance: Estimate
    same_units: Estimate
    f1_20: Estimate = json_key("f1@20")
    precision_20: float = json_key("precision@20")
    recall_20: float = json_key("recall@20")
    f1_50: Estimate = json_key("f1@50")
    precision_50: float = json_key("precision@50")
    recall_50: float = json_key("recall@50")
    edits: int
    units: int
    same_samples: int
    samples: int
    hits_20: int = json_key("hits@20")
    hits_50: int = json_key("hits@50")
    distorted_boundaries: int
    clean_boundaries: int


@dataclass(frozen=True)
class StabilityResult(Result):
    """Stability of units.

    Args:
        model: tokenizers, joined by commas.
        data, conditions, seed: what was encoded, and how it was distorted.
        rows: for each model, a row for each condition and one of all, `MEAN`. Every condition has the same clean units,
            so the unit edit distance of `MEAN` is the mean of theirs.
    """

    evaluation: ClassVar[str] = "stability"

    model: str
    data: ScoredData
    conditions: tuple[str, ...]
    seed: int
    rows: tuple[StabilityRow, ...]


def get_conditions(names: str | Iterable[str] = "all") -> tuple[Condition, ...]:
    """Return conditions, in the order of `CONDITIONS`, by names or a text of names with commas between; "all" for all.

    Raises:
        InputError: an unknown name, or none.
    """
    given = names.split(",") if isinstance(names, str) else names
    wanted = {name.strip() for name in given if name.strip()}
    if not wanted:
        raise InputError(f"no condition given; choose all, or some of {', '.join(CONDITIONS)}")
    for name in sorted(wanted - {"all", *CONDITIONS}):
        raise unknown_name("condition", name, CONDITIONS)
    return tuple(one for name, one in CONDITIONS.items() if wanted & {name, "all"})


def distort(waveform: Waveform, condition: Condition, id: str, seed: int = 0) -> Waveform:
    """Distort one recording, (num_samples,) at 16 kHz: the same for the same id and seed, other noise for other ids."""
    rng = np.random.default_rng([seed, _hash(condition.name), _hash(id)])
    return condition.distort(waveform, rng)


def _hash(text: str) -> int:
    # Not `hash`, which differs from process to process.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stability_counts(clean: Segmentation, distorted: Segmentation, *, delay: float = 0.0) -> StabilityCounts:
    """Compare the units of a distorted recording with those of the clean one.

    Args:
        clean, distorted: segmentations with units on one frame grid.
        delay: seconds by which events of the distorted recording are late.

    Times of the distorted recording are moved back by the delay and cut at the edges of the clean one. A segment that
    lies wholly before its start or after its end is therefore dropped and its unit is no edit; one that reaches across
    an edge keeps its unit and ends at the edge. Frames are compared over the time that both cover, in samples, as a
    delay of half a frame moves one frame over two. The recording's own edges are no boundaries here: they agree for
    nothing.

    Raises:
        InputError: segmentations without units, or on different frame grids.
    """
    if clean.unit is None or distorted.unit is None:
        raise InputError("stability needs units; these segmentations have none: apply a codebook first")
    if (clean.hop, clean.sample_rate) != (distorted.hop, distorted.sample_rate):
        raise InputError("stability compares segmentations on one frame grid; hop or sample rate differ")
    shift, length = round(delay * clean.sample_rate), clean.num_frames * clean.hop
    ours, theirs = _crop(distorted, shift, length), _crop(clean, 0, length)
    covered = max(0, min(length, distorted.num_frames * clean.hop - shift))
    found, reference = (_inner_boundaries(side, covered) for side in (ours, theirs))
    near, wide = (boundary_counts(found, reference, tolerance) for tolerance in (0.02, 0.05))
    before, after = (_units(side.deduplicate()).tolist() for side in (theirs, ours))
    return StabilityCounts(
        edits=edit_distance(before, after),
        units=len(before),
        same_samples=_same_samples(ours, theirs, covered),
        samples=covered,
        hits_20=near.hits,
        hits_50=wide.hits,
        distorted_boundaries=near.predicted,
        clean_boundaries=near.reference,
    )


def _crop(segmentation: Segmentation, shift: int, length: int) -> Segmentation:
    """The part inside [0, length) after moving everything ``shift`` samples earlier, in frames of one sample."""
    spans = np.stack([segmentation.start, segmentation.end]).astype(np.int64) * segmentation.hop - shift
    start, end = np.clip(spans, 0, length).astype(np.int32)
    kept = end > start
    return Segmentation(start[kept], end[kept], _units(segmentation)[kept], length, 1, segmentation.sample_rate)


def _units(segmentation: Segmentation) -> npt.NDArray[np.int32]:
    return np.zeros(0, dtype=np.int32) if segmentation.unit is None else segmentation.unit


def _inner_boundaries(segmentation: Segmentation, covered: int) -> npt.NDArray[np.float64]:
    """Boundaries in seconds between the edges of what clean and distorted segmentations both cover."""
    edges = segmentation.boundaries
    return edges[(edges > 0) & (edges < covered)] / segmentation.sample_rate


def _same_samples(ours: Segmentation, theirs: Segmentation, covered: int) -> int:
    """Samples below ``covered`` at which both have the same unit, or both none."""
    edges = np.union1d(np.union1d(ours.boundaries, theirs.boundaries), [0, covered])
    edges = edges[edges <= covered]
    same = _unit_at(ours, edges[:-1]) == _unit_at(theirs, edges[:-1])
    return int(np.diff(edges)[same].sum())


def _unit_at(segmentation: Segmentation, samples: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The unit at each sample; -1 between segments."""
    if len(segmentation) == 0:
        return np.full(len(samples), -1, dtype=np.int64)
    place = np.searchsorted(segmentation.start, samples, side="right") - 1
    inside = (place >= 0) & (samples < segmentation.end[place])
    return np.where(inside, _units(segmentation)[place], -1)


def evaluate_stability(
    recordings: Recordings,
    models: Model | Sequence[Model] = "small",
    *,
    conditions: str | Iterable[str] = "all",
    limit: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> StabilityResult:
    """Compare the units of distorted recordings with those of the clean ones.

    Args:
        recordings, limit, resamples, device: see `syllablelm.evaluate`.
        models: tokenizers with a codebook; all are held in memory and encode the same distorted waveforms.
        conditions: names of `CONDITIONS`, or a text of them with commas between.
        seed: random seed of distortions and resamples. A distorted recording depends on seed, condition and its id
            only, not on the order or number of recordings, conditions and models.

    Raises:
        InputError: an unknown condition, a tokenizer without a codebook, or no usable recording.
    """
    chosen = get_conditions(conditions)
    name, manifest, skipped = open_recordings(recordings)
    tokenizers = dict(open_model(model, device=device) for model in as_list(models))
    counts, seconds = _count(tokenizers, manifest[:limit], chosen, seed, skipped)
    note_omitted({"unusable": len(skipped)})
    rows: list[StabilityRow] = []
    for model in tokenizers:
        items = {condition.name: counts[model, condition.name] for condition in chosen}
        items[MEAN] = [StabilityCounts.merge(each) for each in zip(*items.values(), strict=True)]
        rows += [_row(model, condition, each, resamples=resamples, seed=seed) for condition, each in items.items()]
    number = len(next(iter(counts.values())))
    data = ScoredData(name=name, recordings=number, seconds=round(seconds, 3), unusable=len(skipped))
    return StabilityResult(", ".join(tokenizers), data, tuple(one.name for one in chosen), seed, tuple(rows))


def _count(
    tokenizers: Mapping[str, Tokenizer],
    recordings: Manifest,
    conditions: Sequence[Condition],
    seed: int,
    skipped: list[SkippedFile],
) -> tuple[dict[tuple[str, str], list[StabilityCounts]], float]:
    """Return the counts of each recording by model and condition, and the seconds encoded; unreadable ones skipped."""
    without = [name for name, tokenizer in tokenizers.items() if not tokenizer.num_units]
    if without or not tokenizers:
        raise InputError(f"stability needs units; {without[0]} has no codebook" if without else "no model to measure")
    counts: dict[tuple[str, str], list[StabilityCounts]] = {(m, c.name): [] for m in tokenizers for c in conditions}
    samples = 0
    with ProgressBar("stability", len(recordings) * (len(conditions) + 1), closing_line=False) as bar:
        for group in group_recordings(recordings, GROUP_SECONDS):
            loaded: dict[str, Waveform] = {}
            for recording in group:
                try:
                    loaded[recording.id] = recording.load()
                except AudioError as error:
                    skipped.append(SkippedFile(recording.path, str(error)))
            clean = {name: one.encode(list(loaded.values())) for name, one in tokenizers.items()}
            bar.advance(len(group), "clean")
            for condition in conditions:
                waves = [distort(wave, condition, id, seed) for id, wave in loaded.items()]
                for name, tokenizer in tokenizers.items():
                    pairs = zip(clean[name], tokenizer.encode(waves), strict=True)
                    counts[name, condition.name] += [stability_counts(a, b, delay=condition.delay) for a, b in pairs]
                bar.advance(len(group), condition.name)
            samples += sum(map(len, loaded.values()))
    if not samples:
        raise no_usable(skipped)
    return counts, samples / SAMPLE_RATE


def _row(model: str, condition: str, items: Sequence[StabilityCounts], **options: int) -> StabilityRow:
    total = StabilityCounts.merge(items)
    near, wide = total.boundaries_20, total.boundaries_50
    return StabilityRow(
        model=model,
        condition=condition,
        unit_edit_distance=bootstrap_estimate(items, attrgetter("unit_edit_distance"), **options),
        same_units=bootstrap_estimate(items, attrgetter("same_units"), **options),
        f1_20=bootstrap_estimate(items, attrgetter("boundaries_20.f1"), **options),
        precision_20=near.precision,
        recall_20=near.recall,
        f1_50=bootstrap_estimate(items, attrgetter("boundaries_50.f1"), **options),
        precision_50=wide.precision,
        recall_50=wide.recall,
        **asdict(total),
    )
