from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.quantize import ward_merge


def ward_by_loop(centres: np.ndarray, num_units: int) -> list[int]:
    """Ward by its definition: join the two groups whose union raises the summed squared error least."""

    def error(members: list[int]) -> float:
        group = centres[members].astype(np.float64)
        return float(((group - group.mean(axis=0)) ** 2).sum())

    groups = [[k] for k in range(len(centres))]
    while len(groups) > num_units:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a + 1, len(groups))]
        a, b = min(pairs, key=lambda p: error(groups[p[0]] + groups[p[1]]) - error(groups[p[0]]) - error(groups[p[1]]))
        groups[a] = sorted(groups[a] + groups.pop(b))
    table = [0] * len(centres)
    for unit, members in enumerate(sorted(groups)):
        for k in members:
            table[k] = unit
    return table


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 12), data=st.data(), seed=st.integers(0, 10**6))
def test_equals_loop(count: int, data: st.DataObject, seed: int) -> None:
    num_units = data.draw(st.integers(1, count))
    centres = np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)
    table = ward_merge(centres, num_units)
    assert table.dtype == np.int32
    assert table.tolist() == ward_by_loop(centres, num_units)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 30), data=st.data(), seed=st.integers(0, 10**6))
def test_units_are_dense_numbered_by_first_appearance_and_nested(count: int, data: st.DataObject, seed: int) -> None:
    num_units = data.draw(st.integers(2, count))
    centres = np.random.default_rng(seed).standard_normal((count, 4))
    fine, coarse = ward_merge(centres, num_units), ward_merge(centres, num_units - 1)
    _, first = np.unique(fine, return_index=True)
    assert len(first) == num_units == fine.max() + 1
    assert np.all(np.diff(first) > 0)
    # Agglomeration only joins: each fine unit lies in one coarse unit.
    assert len({(int(f), int(c)) for f, c in zip(fine, coarse, strict=True)}) == num_units


def test_extremes() -> None:
    centres = np.random.default_rng(0).standard_normal((5, 2))
    assert ward_merge(centres, 5).tolist() == [0, 1, 2, 3, 4]
    assert ward_merge(centres, 1).tolist() == [0] * 5


@pytest.mark.parametrize("num_units", [0, -1, 4])
def test_impossible_counts_are_named(num_units: int) -> None:
    with pytest.raises(InputError, match="3 centres cannot be merged"):
        ward_merge(np.eye(3), num_units)


def test_bad_centres_are_named() -> None:
    with pytest.raises(InputError, match="centres hold NaN"):
        ward_merge(np.array([[np.nan, 0.0], [1.0, 0.0]]), 1)
