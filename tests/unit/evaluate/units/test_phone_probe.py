"""The phone probe on languages whose phone error rate is known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word
from syllablelm.evaluate.units.phone_probe import PhoneCounts, PhoneResult, ProbeSettings, evaluate_phones, phone_string

QUICK = ProbeSettings(
    dim=48,
    blocks=1,
    kernel=3,
    dropout=0.0,
    unit_dropout=0.05,
    slots_per_phone=2,
    batch_seconds=20,
    learning_rate=1e-2,
    steps=150,
)
SYLLABLES = ("B AA1", "S IY0 T", "AH0", "T R UW1", "K AE1 T")


def make_list(count: int, seed: int, *, noise: float = 0.0, size: int = 10) -> tuple[dict, dict]:
    """Recordings of random syllables of 0.2 s; the unit is that of the syllable, or random."""
    rng = np.random.default_rng(seed)
    units, alignments = {}, {}
    for number in range(count):
        drawn = rng.integers(len(SYLLABLES), size=size)
        words = []
        for place, syllable in enumerate(drawn):
            labels = SYLLABLES[syllable].split()
            edges = np.linspace(place * 0.2, place * 0.2 + 0.2, len(labels) + 1).round(4).tolist()
            phones = [Interval(label, *edges[i : i + 2]) for i, label in enumerate(labels)]
            words.append(Word("w", edges[0], edges[-1], tuple(phones)))
        id = f"s{seed}-{number}"
        unit = np.where(rng.random(size) < noise, rng.integers(len(SYLLABLES), size=size), drawn)
        units[id] = Segmentation.from_boundaries(np.arange(size + 1) * 10, unit=10 * unit)
        alignments[id] = Alignment(id, size * 0.2, tuple(words))
    return units, alignments


def test_phone_string_has_no_stress_and_no_silence():
    phones = (Interval("SIL", 0, 0.1), Interval("AH0", 0.1, 0.2), Interval("T", 0.2, 0.3))
    assert phone_string(Alignment("a", 1.0, (Word("w", 0, 0.3, phones),))) == ["AH", "T"]


def measure(test: tuple[dict, dict], train: tuple[dict, dict], **changes: Any) -> PhoneResult:
    options = {"settings": QUICK, "resamples": 20, **changes}
    return evaluate_phones(*test, *train, device="cpu", **options)


@pytest.fixture(scope="module")
def clear() -> PhoneResult:
    """The result of units that name their syllable."""
    return measure(make_list(10, 2), make_list(40, 1))


def test_units_that_name_their_syllable_are_read_without_error(clear):
    rate = clear.phone_error_rate
    assert rate.value == clear.edits / clear.reference < 0.02
    assert rate.low <= rate.value <= rate.high
    assert (clear.model, clear.recordings, clear.train.recordings) == (None, 10, 40)
    # 12 phones in 5 syllables: 2.4 a segment, twice that rounded up.
    assert (clear.probe.slots, clear.probe.units, clear.probe.phones, clear.unseen) == (5, 5, 10, 0)
    assert (clear.segments, clear.segment_rate) == (100, pytest.approx(5.0))
    assert PhoneResult.from_dict(json.loads(json.dumps(clear.to_dict()))) == clear


def test_random_units_tell_nothing(clear):
    random = measure(make_list(10, 2, noise=1.0), make_list(20, 1, noise=1.0), steps=40)
    assert random.probe.steps == 40
    assert random.phone_error_rate.value > 0.4 > clear.phone_error_rate.value


def test_units_that_training_lacks_count_as_unseen():
    test, alignments = make_list(3, 2, size=4)
    test = {id: replace(value, unit=np.array([0, 2**31 - 1, 10, 20])) for id, value in test.items()}
    result = measure((test, alignments), make_list(6, 1), steps=3)
    assert (result.unseen, result.segments) == (3, 12)


def test_a_recording_without_segments_is_read_as_nothing():
    test, alignments = make_list(1, 2)
    (only,) = test
    test[only] = Segmentation(np.array([]), np.array([]), np.array([]), 100)
    train, train_alignments = make_list(6, 1)
    train[min(train)] = test[only]
    result = measure((test, alignments), (train, train_alignments), steps=2)
    length = len(phone_string(alignments[only]))
    assert (result.edits, result.reference, result.predicted) == (length, length, 0)
    assert result.probe.train_recordings == 5


def test_one_seed_gives_one_result_and_leaves_the_generator_alone():
    short = replace(QUICK, steps=5, dropout=0.2)
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    lists = (make_list(3, 2), make_list(8, 1))
    first = measure(*lists, settings=short, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert measure(*lists, settings=short, seed=3) == first
    assert measure(*lists, settings=short, seed=4).probe.train_loss != first.probe.train_loss


def faulty(change: str) -> tuple[dict, dict, dict, dict]:
    train, train_phones = make_list(3, 1)
    test, test_phones = make_list(2, 2)
    first = min(test)
    if change == "both":
        test, test_phones = (dict(list(one.items())[:2]) for one in (train, train_phones))
    elif change == "units":
        test[first] = replace(test[first], unit=None)
    elif change == "alignment":
        del test_phones[first]
    elif change == "phones":
        test_phones[first] = Alignment(first, 2.0)
    elif change == "empty":
        test = {}
    elif change == "long":
        first = min(train)
        train[first] = Segmentation.from_boundaries([0, 20_000], unit=[0])
        train_phones[first] = replace(train_phones[first], duration=400.0)
    elif change == "grid":
        test = {id: replace(value, hop=640) for id, value in test.items()}
    elif change == "segments":
        train = {id: Segmentation(np.array([]), np.array([]), np.array([]), 100) for id in train}
    return train, train_phones, test, test_phones


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("both", "train: 2 recordings also in the test list, such as 's1-0'"),
        ("units", "test: 1 recording without units, such as 's2-0'"),
        ("alignment", "units: 1 recording without an alignment, such as 's2-0'"),
        ("phones", "test: 1 recording without a single phone, such as 's2-0'"),
        ("empty", "units: none of its recordings is among those with an alignment"),
        ("long", "train: 1 recording longer than 300 s"),
        ("grid", "train and test: 2 recordings at 16000 Hz with hop 640"),
        ("segments", "train: no recording has a segment"),
    ],
)
def test_faulty_lists(change, message):
    with pytest.raises(InputError, match=message):
        train, train_phones, test, test_phones = faulty(change)
        measure((test, test_phones), (train, train_phones), steps=1)


def test_counts_add_up():
    one, two = PhoneCounts(1, 4, 4), PhoneCounts(3, 6, 5)
    assert one + two == PhoneCounts.merge([one, two]) == PhoneCounts(4, 10, 9)
    assert (one + two).error_rate == 0.4
    assert PhoneCounts().error_rate == 0.0
