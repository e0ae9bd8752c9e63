"""Edit distance against the recursive definition."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.evaluate.edit_distance import edit_distance


def slow_edit_distance(a: tuple, b: tuple) -> int:
    @cache
    def of(i: int, j: int) -> int:
        if not (i and j):
            return i + j
        return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return of(len(a), len(b))


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_as_the_recursion(a, b):
    found = edit_distance(a, b)
    assert found == slow_edit_distance(tuple(a), tuple(b)) == edit_distance(b, a)
    assert abs(len(a) - len(b)) <= found <= max(len(a), len(b))
    assert (found == 0) == (a == b)


@pytest.mark.parametrize(("a", "b", "count"), [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("", "", 0)])
def test_known_distances(a, b, count):
    assert edit_distance(a, b) == count
