from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.evaluate import bootstrap
from syllablelm.evaluate.bootstrap import bootstrap_difference, bootstrap_interval
from syllablelm.evaluate.boundaries.matching import BoundaryCounts
from syllablelm.evaluate.units.bitrate import RateCounts
from syllablelm.evaluate.units.purity import PurityCounts


def random_items(num: int, share: float, seed: int) -> list[BoundaryCounts]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 40, size=num)
    return [BoundaryCounts(int(rng.binomial(n, share)), int(n), int(n)) for n in sizes]


def slow_interval(items, statistic, level, resamples, seed):
    """Draw utterances one resample at a time and add their counts one by one."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        times = rng.multinomial(len(items), np.full(len(items), 1 / len(items)))
        values.append(statistic(sum(item for item, n in zip(items, times, strict=True) for _ in range(n))))
    return tuple(np.quantile(values, [(1 - level) / 2, (1 + level) / 2]))


def f1(counts: BoundaryCounts) -> float:
    return counts.f1


def test_the_fast_sums_equal_the_slow_ones():
    items = random_items(30, 0.6, seed=1)
    fast = bootstrap_interval(items, lambda c: c.r_value, level=0.9, resamples=200, seed=7)
    assert fast == pytest.approx(slow_interval(items, lambda c: c.r_value, 0.9, 200, 7))


def test_tables_are_resampled_entry_by_entry():
    rng = np.random.default_rng(0)
    items = [
        PurityCounts({("abc"[s], int(u)): int(n) for s, u, n in rng.integers(0, 3, size=(4, 3)) if n}, 9, 8)
        for _ in range(12)
    ]
    for statistic in (lambda c: c.cluster_purity, lambda c: c.matched / c.syllables):
        fast = bootstrap_interval(items, statistic, resamples=100, seed=3)
        assert fast == pytest.approx(slow_interval(items, statistic, 0.95, 100, 3))


def test_rates_are_resampled():
    items = [RateCounts(k, k, 1_000_000, {0: k}, {0: k}) for k in (4, 5, 6)]
    low, high = bootstrap_interval(items, lambda c: c.unit_rate, resamples=300)
    assert (low, high) == (4.0, 6.0)


def test_blocks_do_not_change_the_draws(monkeypatch):
    items = random_items(20, 0.5, seed=2)
    whole = bootstrap_interval(items, f1, resamples=100)
    monkeypatch.setattr(bootstrap, "_BLOCK", 20 * 7)
    assert bootstrap_interval(items, f1, resamples=100) == whole


def test_the_seed_decides():
    items = random_items(20, 0.5, seed=2)
    assert bootstrap_interval(items, f1, seed=1) == bootstrap_interval(items, f1, seed=1)
    assert bootstrap_interval(items, f1, seed=1) != bootstrap_interval(items, f1, seed=2)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        low, high = bootstrap_interval(random_items(60, 0.7, seed), f1, level=0.9, resamples=200, seed=seed)
        covered += low <= 0.7 <= high
    # Binomial(100, .9): outside 80..98 less than once in a thousand.
    assert 80 <= covered <= 98


@given(st.integers(0, 9), st.integers(1, 5))
def test_equal_utterances_leave_no_doubt(hits, num):
    items = [BoundaryCounts(hits, 10, 12)] * num
    low, high = bootstrap_interval(items, f1, resamples=20)
    assert low == pytest.approx(items[0].f1) and high == pytest.approx(items[0].f1)


def test_a_higher_level_gives_a_wider_interval():
    items = random_items(40, 0.5, seed=5)
    narrow, wide = bootstrap_interval(items, f1, level=0.5), bootstrap_interval(items, f1, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_pairing_shows_a_small_but_steady_gain():
    # Utterances differ far more than the systems do: the plain intervals overlap, the paired one is clear.
    shares = np.linspace(0.2, 0.9, 40)
    better = [BoundaryCounts(round(100 * s) + 2, 100, 100) for s in shares]
    worse = [BoundaryCounts(round(100 * s), 100, 100) for s in shares]
    difference, low, high = bootstrap_difference(better, worse, f1)
    assert difference == pytest.approx(0.02)
    assert low > 0
    assert low <= difference <= high
    assert bootstrap_interval(better, f1)[0] < bootstrap_interval(worse, f1)[1]


def test_swapping_the_systems_turns_the_sign():
    a, b = random_items(15, 0.6, seed=1), random_items(15, 0.5, seed=2)
    difference, low, high = bootstrap_difference(a, b, f1, seed=4)
    assert bootstrap_difference(b, a, f1, seed=4) == pytest.approx((-difference, -high, -low))
    assert difference == pytest.approx(sum(a).f1 - sum(b).f1)  # type: ignore[union-attr]


def test_a_system_does_not_differ_from_itself():
    items = random_items(15, 0.6, seed=1)
    assert bootstrap_difference(items, items, f1) == (0.0, 0.0, 0.0)


def test_centering_brings_the_interval_of_a_purity_back_to_its_score():
    # Thirty recordings of twenty rare pairs each: repeats of a recording look like consistent units.
    rng = np.random.default_rng(0)
    items = [
        PurityCounts({(f"s{s}", int(u)): 1 for s, u in rng.integers(0, 100, size=(20, 2))}, 20, 20) for _ in range(30)
    ]
    score = PurityCounts.merge(items).cluster_purity
    plain = bootstrap_interval(items, lambda c: c.cluster_purity, resamples=200)
    low, high = bootstrap_interval(items, lambda c: c.cluster_purity, resamples=200, centered=True)
    assert plain[0] > score
    assert low < score < high
    assert high - low == pytest.approx(plain[1] - plain[0])
    shuffled = [PurityCounts({(s, u % 10): n for (s, u), n in item.table.items()}, 20, 20) for item in items]
    difference, low, high = bootstrap_difference(
        items, shuffled, lambda c: c.cluster_purity, resamples=200, centered=True
    )
    assert low < difference < high


def test_unusable_input_is_refused():
    item = BoundaryCounts(1, 2, 2)
    with pytest.raises(InputError, match="at least one"):
        bootstrap_interval([], f1)
    with pytest.raises(InputError, match="one kind"):
        bootstrap_interval([item, RateCounts()], f1)  # type: ignore[list-item]
    with pytest.raises(InputError, match="BoundaryCounts"):
        bootstrap_interval([1, 2], float)
    with pytest.raises(InputError, match="level"):
        bootstrap_interval([item], f1, level=95)
    with pytest.raises(InputError, match="resamples"):
        bootstrap_interval([item], f1, resamples=0)
    with pytest.raises(InputError, match="same utterances"):
        bootstrap_difference([item], [item, item], f1)
