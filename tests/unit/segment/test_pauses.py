from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.segment import feasible_count
from syllablelm.segment.pauses import plan_pauses


def runs(mask):
    return [(value, len(list(group))) for value, group in itertools.groupby(mask)]


@given(mask=st.lists(st.booleans(), min_size=1, max_size=60), wanted=st.integers(0, 60), longest=st.integers(1, 12))
def test_all_segments_are_there_and_none_is_too_long(mask, wanted, longest):
    count = feasible_count(len(mask), wanted, 1, longest)
    plan = plan_pauses(np.array(mask), count, max_length=longest, most_speech=0.2)
    assert plan.count + len(plan.starts) == count and plan.num_frames == len(mask)
    stretches = plan.speech[:, 1] - plan.speech[:, 0]
    # The speech can be cut into its number of segments, without a segment across a join.
    assert sum(math.ceil(length / longest) for length in stretches) <= plan.count <= stretches.sum()
    assert plan.joins.tolist() == np.cumsum(stretches)[:-1].tolist()
    speech = np.zeros(len(mask), dtype=bool)
    for start, end in plan.speech:
        speech[start:end] = True
    assert not any(mask) or speech[np.array(mask)].all()
    # Pauses that fewer segments made room for are the shortest ones.
    if any(mask) and any(speech & ~np.array(mask)):
        kept = [length for value, length in runs(speech.tolist()) if not value]
        filled = [length for value, length in runs(mask) if not value]
        assert sorted(kept) == sorted(filled)[len(filled) - len(kept) :]
    edges = plan.place(np.r_[0, np.flatnonzero(np.ones(stretches.sum() - 1)) + 1, stretches.sum()])
    assert edges[0] == 0 and edges[-1] == len(mask) and np.all(np.diff(edges) > 0)
    for start, after in itertools.pairwise([*plan.starts.tolist(), len(mask)]):
        stop = min([after, *(begin for begin, _ in plan.speech if begin > start)])
        assert not speech[start:stop].any() and stop - start <= longest


@pytest.mark.parametrize(
    ("count", "starts", "in_speech"),
    [
        pytest.param(10, [0, 30], 8, id="every pause is one segment"),
        pytest.param(24, [0, 3, 6, 30, 33, 36], 18, id="no more than ten speech segments a second"),
        pytest.param(2, [0], 1, id="too few for all stretches"),
    ],
)
def test_shares(count, starts, in_speech):
    mask = np.zeros(39, dtype=bool)
    mask[10:30] = True
    plan = plan_pauses(mask, count, max_length=50, most_speech=0.9)
    assert plan.starts.tolist() == starts and plan.count == in_speech


def test_long_pauses_are_divided():
    plan = plan_pauses(np.arange(140) >= 120, 8, max_length=50, most_speech=0.2)
    assert plan.starts.tolist() == [0, 30, 60, 90] and plan.count == 4


def test_without_speech_everything_is_cut():
    plan = plan_pauses(np.zeros(30, dtype=bool), 4, max_length=50, most_speech=0.2)
    assert plan.speech.tolist() == [[0, 30]] and plan.count == 4
    assert plan.place(np.array([0, 9, 30])).tolist() == [0, 9, 30]
