"""Phone error rate of a small probe that reads phones from units: how much of the phone string units keep.

The probe is a convolutional network over the segments of a recording. It sees the unit and the length of each segment,
nothing of the sound; each segment emits a fixed number of CTC outputs. It is trained on the phone strings of a training
list (no phone times are used) and read greedily on a test list. Segments are taken as they are: deduplicated where the
tokenizer deduplicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Estimate, Record
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.bootstrap import bootstrap_estimate
from syllablelm.evaluate.boundaries.selection import AlignmentLike
from syllablelm.evaluate.counts import Counts
from syllablelm.evaluate.edit_distance import edit_distance
from syllablelm.evaluate.lists import (
    AlignedUnits,
    Alignments,
    Model,
    Recordings,
    ScoredData,
    Units,
    UnitsResult,
    check_grids,
    open_references,
    read_unit_list,
    refuse_recordings,
)
from syllablelm.evaluate.units.phone_network import UNKNOWN, Example, ProbeSettings, read_phones, train_network
from syllablelm.evaluate.units.purity import strip_stress

# The memory of CTC grows with the square of a recording's length.
MAX_TRAIN_SECONDS = 300.0


@dataclass(frozen=True)
class PhoneCounts(Counts):
    """Errors of phone strings; add those of recordings to get those of a corpus.

    Args:
        edits: substitutions, insertions and deletions.
        reference, predicted: phones of the reference, and of the prediction.
    """

    edits: int = 0
    reference: int = 0
    predicted: int = 0

    @property
    def error_rate(self) -> float:
        """Edits per reference phone; 0.0 without reference phones."""
        return self.edits / self.reference if self.reference else 0.0


@dataclass(frozen=True, kw_only=True)
class ProbeInfo(ProbeSettings, Record):
    """A trained probe: its hyper-parameters, its training list, and numbers of units, phones and outputs.

    Args:
        train_recordings, train_seconds: number of training recordings, and their length.
        train_loss: mean CTC loss per phone in nats over the last tenth of the steps.
        units, phones: number of distinct units and of phone labels in training.
        slots: CTC outputs per segment.
        seed: random seed of weights, batches and dropout.
    """

    train_recordings: int
    train_seconds: float
    train_loss: float
    units: int
    phones: int
    slots: int
    seed: int


@dataclass(frozen=True)
class PhoneResult(UnitsResult):
    """Phone error rate of a probe on a test list, `data`.

    Args:
        train: the training list.
        phone_error_rate: edits per reference phone; the interval is over test recordings, for one probe.
        edits, reference, predicted: as in `PhoneCounts`.
        segments, unseen: segments of the test list, and those whose unit never occurs in training.
        segment_rate: segments per second of the test list.
        probe: the probe.
    """

    evaluation: ClassVar[str] = "phones"

    train: ScoredData
    phone_error_rate: Estimate
    edits: int
    reference: int
    predicted: int
    segments: int
    unseen: int
    segment_rate: float
    probe: ProbeInfo


def phone_string(alignment: AlignmentLike) -> list[str]:
    """Return the phones of an alignment in order, without stress digits and silences."""
    return [strip_stress(phone.label) for phone in alignment.intervals("phone")]


def evaluate_phones(
    test: Recordings | Units,
    alignments: Alignments,
    train: Recordings | Units,
    train_alignments: Alignments,
    model: Model = "small",
    *,
    partial: bool = False,
    rate: float | None = None,
    steps: int | None = None,
    settings: ProbeSettings | None = None,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> PhoneResult:
    """Measure the phone error rate of a probe that is trained to read phones from units.

    Args:
        test: recordings, a file of units, or segmentations by recording id; none of them in `train`.
        alignments, model, partial, rate, resamples, seed, device: see `syllablelm.evaluate`.
        train, train_alignments: the training list, of the same kind and by the same tokenizer.
        steps: number of training updates instead of that of `settings`.
        settings: hyper-parameters of the probe (default: `ProbeSettings()`).

    On a CPU, one seed and one number of threads give one result.

    Raises:
        InputError: recordings in one list and units in the other, recordings that are in both lists or lack units, an
            alignment or phones, or training recordings of more than `MAX_TRAIN_SECONDS`.
    """
    settings = settings or ProbeSettings()
    settings = settings if steps is None else replace(settings, steps=steps)
    references, train_references = open_references(alignments), open_references(train_alignments)
    test_list, train_list = (read_unit_list(one, model, rate=rate, device=device) for one in (test, train))
    if test_list.model != train_list.model:
        raise InputError("give recordings for both lists or files of units for both: one tokenizer must make all units")
    tested = test_list.align(references, partial=partial)
    trained = train_list.align(train_references, partial=partial)
    phones, test_phones = _phone_strings("train", trained), _phone_strings("test", tested)
    usable = _usable(trained.units, tested.units)

    labels = sorted({phone for id in usable for phone in phones[id]})
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    units = np.unique(np.concatenate([_units(value) for value in usable.values()]))
    phones_per_segment = sum(len(phones[id]) for id in usable) / sum(map(len, usable.values()))
    slots = max(1, math.ceil(settings.slots_per_phone * phones_per_segment))
    examples = [_example(value, units, [numbers[phone] for phone in phones[id]]) for id, value in usable.items()]
    with ProgressBar("probe", settings.steps, closing_line=False) as bar:
        network, loss = train_network(
            examples, len(units), len(labels), slots, settings, seed=seed, device=device, progress=bar.advance
        )

    counts, unseen = [], 0
    for id, value in sorted(tested.units.items()):
        example = _example(value, units, [])
        read = [labels[number - 1] for number in read_phones(network, example)]
        counts.append(PhoneCounts(edit_distance(read, test_phones[id]), len(test_phones[id]), len(read)))
        unseen += int((example.unit == UNKNOWN).sum())
    segments, seconds = sum(map(len, tested.units.values())), sum(one.duration for one in tested.units.values())
    return PhoneResult(
        model=test_list.model,
        data=tested.data,
        train=trained.data,
        phone_error_rate=bootstrap_estimate(counts, attrgetter("error_rate"), resamples=resamples, seed=seed),
        **asdict(PhoneCounts.merge(counts)),
        segments=segments,
        unseen=unseen,
        segment_rate=segments / seconds if seconds else 0.0,
        probe=ProbeInfo(
            **asdict(settings),
            train_recordings=len(usable),
            train_seconds=round(sum(value.duration for value in usable.values()), 3),
            train_loss=loss,
            units=len(units),
            phones=len(labels),
            slots=slots,
            seed=seed,
        ),
    )


def _phone_strings(name: str, aligned: AlignedUnits) -> dict[str, list[str]]:
    """Return the phones of each recording; every one must have phones, and units."""
    refuse_recordings(f"{name}:", [id for id, value in aligned.units.items() if value.unit is None], " without units")
    strings = {id: phone_string(alignment) for id, alignment in aligned.references.items()}
    refuse_recordings(f"{name}:", [id for id, phones in strings.items() if not phones], " without a single phone")
    return strings


def _usable(train: Mapping[str, Segmentation], test: Mapping[str, Segmentation]) -> dict[str, Segmentation]:
    """Return the training recordings that have segments, sorted by id."""
    refuse_recordings("train:", [id for id in train if id in test], " also in the test list")
    long = [id for id, value in train.items() if value.duration > MAX_TRAIN_SECONDS]
    refuse_recordings("train:", long, f" longer than {MAX_TRAIN_SECONDS:g} s (split them)")
    check_grids({**train, **test}, "train and test")
    usable = {id: value for id, value in sorted(train.items()) if len(value)}
    if not usable:
        raise InputError("train: no recording has a segment")
    return usable


def _units(segmentation: Segmentation) -> npt.NDArray[np.int32]:
    assert segmentation.unit is not None  # checked before
    return segmentation.unit


def _example(segmentation: Segmentation, units: npt.NDArray[np.int32], labels: Sequence[int]) -> Example:
    own = _units(segmentation)
    index = np.minimum(np.searchsorted(units, own), len(units) - 1)
    unit = np.where(units[index] == own, index + 1, UNKNOWN).astype(np.int64)
    seconds = segmentation.seconds[:, 1] - segmentation.seconds[:, 0]
    return Example(unit, np.log(seconds).astype(np.float32), segmentation.duration, np.array(labels, dtype=np.int64))
