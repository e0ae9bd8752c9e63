"""How stable units are when the same recording sounds different: unit edit distance and boundary agreement."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import AudioError, InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE
from syllablelm.data.distortions import delay, gain, mp3, pitch, reverberate, telephone, white_noise
from syllablelm.data.manifest import Recording
from syllablelm.evaluate.bootstrap import bootstrap_interval
from syllablelm.evaluate.boundaries.matching import BoundaryCounts, boundary_counts
from syllablelm.evaluate.edit_distance import edit_distance

if TYPE_CHECKING:
    from syllablelm.tokenizer.tokenizer import Tokenizer

Waveform = npt.NDArray[np.float32]
Distort = Callable[[Waveform, np.random.Generator], Waveform]

MEAN = "mean"
"""Name of the row of all conditions together."""
# Seconds of recordings held at once; each condition of them is encoded by one call.
GROUP_SECONDS = 120.0


@dataclass(frozen=True)
class Condition:
    """A named distortion.

    Args:
        name: as the command line takes it.
        heading: for tables.
        distort: waveform at 16 kHz and random generator to the distorted waveform.
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
class StabilityCounts:
    """Counts behind the stability of units; add those of recordings to get those of a corpus.

    Args:
        edits: substitutions, insertions and deletions between clean and distorted deduplicated units.
        units: deduplicated units of the clean recordings.
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

    def __add__(self, other: StabilityCounts) -> StabilityCounts:
        if not isinstance(other, StabilityCounts):
            return NotImplemented
        return StabilityCounts(
            self.edits + other.edits,
            self.units + other.units,
            self.same_samples + other.same_samples,
            self.samples + other.samples,
            self.hits_20 + other.hits_20,
            self.hits_50 + other.hits_50,
            self.distorted_boundaries + other.distorted_boundaries,
            self.clean_boundaries + other.clean_boundaries,
        )

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

    def to_dict(self) -> dict[str, float]:
        """Counts and ratios by name."""
        near, wide = self.boundaries_20, self.boundaries_50
        return {
            "unit_edit_distance": self.unit_edit_distance,
            "same_units": self.same_units,
            "f1@20": near.f1,
            "precision@20": near.precision,
            "recall@20": near.recall,
            "f1@50": wide.f1,
            "precision@50": wide.precision,
            "recall@50": wide.recall,
            "edits": self.edits,
            "units": self.units,
            "same_samples": self.same_samples,
            "samples": self.samples,
            "hits@20": self.hits_20,
            "hits@50": self.hits_50,
            "distorted_boundaries": self.distorted_boundaries,
            "clean_boundaries": self.clean_boundaries,
        }


_INTERVALS: dict[str, Callable[[StabilityCounts], float]] = {
    "unit_edit_distance": lambda counts: counts.unit_edit_distance,
    "same_units": lambda counts: counts.same_units,
    "f1@20": lambda counts: counts.boundaries_20.f1,
    "f1@50": lambda counts: counts.boundaries_50.f1,
}


@dataclass(frozen=True)
class Stability:
    """Counts of a list of recordings under each condition.

    Args:
        seed: random seed of the distortions.
        ids: recordings, in order.
        seconds: length of the recordings together.
        counts: for each condition, the counts of each recording in the order of `ids`.
        unusable: (id, reason) of recordings that could not be read.
    """

    seed: int
    ids: tuple[str, ...]
    seconds: float
    counts: Mapping[str, tuple[StabilityCounts, ...]]
    unusable: tuple[tuple[str, str], ...] = ()

    def items(self, condition: str) -> tuple[StabilityCounts, ...]:
        """Counts of each recording under one condition; under `MEAN`, of all conditions together.

        All conditions have the same clean units, so the unit edit distance of `MEAN` is the mean of theirs.
        """
        if condition == MEAN:
            return tuple(sum(each, StabilityCounts()) for each in zip(*self.counts.values(), strict=True))
        return self.counts[condition]

    def total(self, condition: str) -> StabilityCounts:
        """Corpus counts under one condition, or under `MEAN` of all."""
        return sum(self.items(condition), StabilityCounts())

    def rows(self, *, resamples: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
        """A row for each condition, and one of all: ratios with 95 % bootstrap intervals over recordings, and counts.

        Args:
            resamples: number of bootstrap resamples.
            seed: random seed of the resamples.
        """
        found = []
        for condition in (*self.counts, MEAN):
            row: dict[str, Any] = {"condition": condition, **self.total(condition).to_dict()}
            for name, statistic in _INTERVALS.items():
                low, high = bootstrap_interval(self.items(condition), statistic, resamples=resamples, seed=seed)
                row |= {f"{name}_low": low, f"{name}_high": high}
            found.append(row)
        return found


def get_conditions(names: str | Iterable[str] = "all") -> tuple[Condition, ...]:
    """Conditions by name, each once, in the order of `CONDITIONS`.

    Args:
        names: names, or a text of names with commas between them; "all" stands for all.

    Raises:
        InputError: an unknown name, or none; the message names the nearest one or all.
    """
    given = names.split(",") if isinstance(names, str) else names
    wanted = {name.strip() for name in given if name.strip()}
    if not wanted:
        raise InputError(f"no condition given; choose all, or some of {', '.join(CONDITIONS)}")
    for name in sorted(wanted - {"all", *CONDITIONS}):
        near = difflib.get_close_matches(name, CONDITIONS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown condition {name!r}: {hint}choose some of {', '.join(CONDITIONS)}")
    return tuple(one for name, one in CONDITIONS.items() if wanted & {name, "all"})


def distort(waveform: Waveform, condition: Condition, id: str, seed: int = 0) -> Waveform:
    """Distort one recording; the result depends on nothing but the arguments.

    Args:
        waveform: (num_samples,) at 16 kHz.
        condition: what is done to it.
        id: identity of the recording; other recordings get other random numbers.
        seed: random seed.
    """
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
    before, after = (_units(side.merge_repeats()).tolist() for side in (theirs, ours))
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


def measure_stability(
    tokenizer: Tokenizer,
    recordings: Sequence[Recording],
    *,
    conditions: str | Iterable[str] = "all",
    seed: int = 0,
) -> Stability:
    """Encode recordings clean and distorted, and compare the units.

    Args:
        tokenizer: any tokenizer with a codebook.
        recordings: what is encoded; those that cannot be read are listed in the result.
        conditions: names of `CONDITIONS`, or a text of them with commas between.
        seed: random seed of the distortions. What a recording sounds like depends on seed, condition and its id only,
            not on the order or number of recordings and conditions.

    Raises:
        InputError: an unknown condition, or a tokenizer without a codebook.
        AudioError: no recording can be read.
    """
    chosen = get_conditions(conditions)
    if tokenizer.num_units is None:
        raise InputError("stability needs units; this tokenizer has no codebook")
    ids: list[str] = []
    unusable: list[tuple[str, str]] = []
    counts: dict[str, list[StabilityCounts]] = {condition.name: [] for condition in chosen}
    samples = 0
    with ProgressBar("stability", len(recordings) * (len(chosen) + 1), closing_line=False) as bar:
        for group in _groups(recordings):
            loaded: list[tuple[str, Waveform]] = []
            for recording in group:
                try:
                    loaded.append((recording.id, recording.load()))
                except AudioError as error:
                    unusable.append((recording.id, str(error)))
            clean = tokenizer.encode([wave for _, wave in loaded])
            bar.advance(len(group), "clean")
            for condition in chosen:
                found = tokenizer.encode([distort(wave, condition, id, seed) for id, wave in loaded])
                pairs = zip(clean, found, strict=True)
                counts[condition.name] += [stability_counts(a, b, delay=condition.delay) for a, b in pairs]
                bar.advance(len(group), condition.name)
            ids += [id for id, _ in loaded]
            samples += sum(len(wave) for _, wave in loaded)
    if not ids:
        raise AudioError("no usable recording" + (f": {unusable[0][1]}" if unusable else "; the list is empty"))
    done = {name: tuple(items) for name, items in counts.items()}
    return Stability(seed, tuple(ids), samples / SAMPLE_RATE, done, tuple(unusable))


def _groups(recordings: Sequence[Recording]) -> Iterator[list[Recording]]:
    """Neighbours of at most `GROUP_SECONDS` together, or one longer recording."""
    group: list[Recording] = []
    for recording in recordings:
        if group and sum(one.seconds for one in group) + recording.seconds > GROUP_SECONDS:
            yield group
            group = []
        group.append(recording)
    if group:
        yield group
