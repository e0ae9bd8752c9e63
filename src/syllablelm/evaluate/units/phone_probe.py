"""Phone error rate of a small probe that reads phones from units: how much of the phone string units keep.

The probe is a convolutional network over the segments of a recording. It sees the unit and the length of each segment,
nothing of the sound; each segment emits a fixed number of CTC outputs. It is trained on the phone strings of a training
list (no phone times are used) and read greedily on a test list. Segments are taken as they are: deduplicated where the
tokenizer deduplicates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, plural
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.bootstrap import bootstrap_interval
from syllablelm.evaluate.checks import check_grids
from syllablelm.evaluate.edit_distance import edit_distance
from syllablelm.evaluate.units.phone_network import UNKNOWN, Example, ProbeSettings, read_phones, train_network
from syllablelm.evaluate.units.purity import strip_stress

__all__ = ["PhoneCounts", "PhoneProbeResult", "ProbeSettings", "phone_probe", "phone_string"]

# The memory of CTC grows with the square of a recording's length.
MAX_TRAIN_SECONDS = 300.0


class PhonesLike(Protocol):
    """What an alignment must offer: its phones in order, silences left out."""

    def intervals(self, level: Any, /) -> Any:
        """The labelled intervals of `level`; "phone" is asked for."""
        ...


@dataclass(frozen=True)
class PhoneCounts:
    """Errors of phone strings; add those of recordings to get those of a corpus.

    Args:
        edits: substitutions, insertions and deletions.
        reference: phones of the reference.
        predicted: phones of the prediction.
    """

    edits: int = 0
    reference: int = 0
    predicted: int = 0

    @classmethod
    def merge(cls, items: Iterable[PhoneCounts]) -> PhoneCounts:
        """Sum of many counts."""
        return sum(items, cls())

    def __add__(self, other: PhoneCounts) -> PhoneCounts:
        if not isinstance(other, PhoneCounts):
            return NotImplemented
        return PhoneCounts(self.edits + other.edits, self.reference + other.reference, self.predicted + other.predicted)

    @property
    def error_rate(self) -> float:
        """Edits per reference phone; 0.0 without reference phones."""
        return self.edits / self.reference if self.reference else 0.0


@dataclass(frozen=True)
class PhoneProbeResult:
    """What a probe read on the test list.

    Args:
        counts: errors by recording id.
        settings: hyper-parameters.
        seed: random seed.
        slots: CTC outputs per segment.
        phones: number of phone labels in training.
        units: number of distinct units in training.
        segments: segments of the test list.
        unseen: those of them whose unit never occurs in training.
        seconds: length of the test list in seconds.
        train_recordings: number of training recordings.
        train_seconds: length of the training list in seconds.
        train_loss: mean CTC loss per phone in nats over the last tenth of the steps.
    """

    counts: Mapping[str, PhoneCounts]
    settings: ProbeSettings
    seed: int
    slots: int
    phones: int
    units: int
    segments: int
    unseen: int
    seconds: float
    train_recordings: int
    train_seconds: float
    train_loss: float

    @property
    def total(self) -> PhoneCounts:
        """Counts of all recordings."""
        return PhoneCounts.merge(self.counts.values())

    @property
    def error_rate(self) -> float:
        """Phone error rate of the test list."""
        return self.total.error_rate

    def interval(self, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
        """95 % bootstrap interval of the error rate over test recordings; the probe is not trained again."""
        items = list(self.counts.values())
        return bootstrap_interval(items, lambda counts: counts.error_rate, resamples=resamples, seed=seed)

    def to_dict(self, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
        """Error rate with its interval, counts, and facts about the probe."""
        low, high = self.interval(resamples=resamples, seed=seed)
        return {
            "phone_error_rate": self.error_rate,
            "phone_error_rate_low": low,
            "phone_error_rate_high": high,
            **asdict(self.total),
            "segments": self.segments,
            "unseen": self.unseen,
            "segment_rate": self.segments / self.seconds if self.seconds else 0.0,
            "probe": {
                "train_recordings": self.train_recordings,
                "train_seconds": round(self.train_seconds, 3),
                "train_loss": self.train_loss,
                "units": self.units,
                "phones": self.phones,
                "slots": self.slots,
                "seed": self.seed,
                **asdict(self.settings),
            },
        }


def phone_string(alignment: PhonesLike) -> list[str]:
    """Phones of an alignment in order, without stress digits and silences."""
    return [strip_stress(phone.label) for phone in alignment.intervals("phone")]


def phone_probe(
    train: Mapping[str, Segmentation],
    train_phones: Mapping[str, PhonesLike],
    test: Mapping[str, Segmentation],
    test_phones: Mapping[str, PhonesLike],
    *,
    settings: ProbeSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int], None] = lambda count: None,
) -> PhoneProbeResult:
    """Train a probe from units to phones on one list and return its phone errors on another.

    Args:
        train: segmentations with units by recording id.
        train_phones: alignments of at least these recordings, such as `read_alignments` returns; only their phone
            strings are used.
        test: segmentations of other recordings by the same tokenizer.
        test_phones: alignments of at least these recordings.
        settings: hyper-parameters (default: `ProbeSettings()`).
        seed: random seed of weights, batches and dropout.
        device: "auto", "cpu" or "cuda". On a CPU, one seed and one number of threads give one result.
        progress: called with 1 after each update.

    Returns:
        Counts by recording, and facts about the probe.

    Raises:
        InputError: an empty list, recordings that are in both lists, that lack units, an alignment or phones, or
            training recordings of more than `MAX_TRAIN_SECONDS`; the message names the first and gives their number.
    """
    settings = settings or ProbeSettings()
    references = _phone_strings("train", train, train_phones), _phone_strings("test", test, test_phones)
    _refuse("train", "also in the test list", [id for id in train if id in test])
    long = [id for id, value in train.items() if value.duration > MAX_TRAIN_SECONDS]
    _refuse("train", f"longer than {MAX_TRAIN_SECONDS:g} s (split them)", long)
    check_grids({**train, **test}, "train and test")
    usable = [id for id in sorted(train) if len(train[id])]
    if not usable:
        raise InputError("train: no recording has a segment")

    labels = sorted({phone for id in usable for phone in references[0][id]})
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    units = np.unique(np.concatenate([_units(train[id]) for id in usable]))
    phones_per_segment = sum(len(references[0][id]) for id in usable) / sum(len(train[id]) for id in usable)
    slots = max(1, math.ceil(settings.slots_per_phone * phones_per_segment))
    examples = [_example(train[id], units, [numbers[phone] for phone in references[0][id]]) for id in usable]
    network, loss = train_network(
        examples, len(units), len(labels), slots, settings, seed=seed, device=device, progress=progress
    )

    counts, unseen = {}, 0
    for id in sorted(test):
        example = _example(test[id], units, [])
        read = [labels[number - 1] for number in read_phones(network, example)]
        counts[id] = PhoneCounts(edit_distance(read, references[1][id]), len(references[1][id]), len(read))
        unseen += int((example.unit == UNKNOWN).sum())
    return PhoneProbeResult(
        counts=counts,
        settings=settings,
        seed=seed,
        slots=slots,
        phones=len(labels),
        units=len(units),
        segments=sum(map(len, test.values())),
        unseen=unseen,
        seconds=sum(value.duration for value in test.values()),
        train_recordings=len(usable),
        train_seconds=sum(train[id].duration for id in usable),
        train_loss=loss,
    )


def _phone_strings(
    name: str, segmentations: Mapping[str, Segmentation], alignments: Mapping[str, PhonesLike]
) -> dict[str, list[str]]:
    """Phones of each recording, all there."""
    if not segmentations:
        raise InputError(f"{name}: no recordings")
    _refuse(name, "without units", [id for id, value in segmentations.items() if value.unit is None])
    _refuse(name, "without an alignment", [id for id in segmentations if id not in alignments])
    found = {id: phone_string(alignments[id]) for id in segmentations}
    _refuse(name, "without a single phone", [id for id, phones in found.items() if not phones])
    return found


def _refuse(name: str, what: str, ids: Sequence[str]) -> None:
    if ids:
        raise InputError(f"{name}: {plural(len(ids), 'recording')} {what}, such as {min(ids)!r}")


def _units(segmentation: Segmentation) -> npt.NDArray[np.int32]:
    assert segmentation.unit is not None  # checked before
    return segmentation.unit


def _example(segmentation: Segmentation, units: npt.NDArray[np.int32], labels: Sequence[int]) -> Example:
    own = _units(segmentation)
    place = np.minimum(np.searchsorted(units, own), len(units) - 1)
    unit = np.where(units[place] == own, place + 1, UNKNOWN).astype(np.int64)
    seconds = segmentation.seconds[:, 1] - segmentation.seconds[:, 0]
    return Example(unit, np.log(seconds).astype(np.float32), segmentation.duration, np.array(labels, dtype=np.int64))
