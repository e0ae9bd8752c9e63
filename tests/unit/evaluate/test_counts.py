"""Counts that add: numbers, tables, other counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.evaluate.counts import Counts


@dataclass(frozen=True)
class Inner(Counts):
    hits: int = 0


@dataclass(frozen=True)
class Outer(Counts):
    points: float = 0.0
    table: Mapping[str, int] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


OUTERS = st.lists(
    st.builds(
        Outer,
        st.floats(0, 1),
        st.dictionaries(st.sampled_from("abc"), st.integers(1, 9)),
        st.builds(Inner, st.integers(0, 9)),
    ),
    max_size=6,
)


@given(OUTERS)
def test_merging_is_the_sum_of_every_field_in_any_order(items: list[Outer]) -> None:
    total = Outer.merge(items)
    assert total == Outer.merge(reversed(items))
    assert total.points == float(sum(Fraction(item.points) for item in items))
    assert total.inner.hits == sum(item.inner.hits for item in items)
    assert total.table == {key: count for key in "abc" if (count := sum(item.table.get(key, 0) for item in items))}


def test_sums_start_from_zero_and_leave_their_parts_alone() -> None:
    one = Outer(0.5, {"a": 1}, Inner(2))
    assert sum([one, one]) == one + one == Outer(1.0, {"a": 2}, Inner(4))
    assert one == Outer(0.5, {"a": 1}, Inner(2))
    assert Outer.merge([]) == Outer()


def test_counts_of_two_classes_do_not_add() -> None:
    with pytest.raises(TypeError):
        Inner(1) + Outer()  # type: ignore[operator]
    with pytest.raises(TypeError):
        1 + Inner(1)  # type: ignore[operator]
