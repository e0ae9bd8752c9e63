"""Frames of one voice warped to the timing of another recording of the same text."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from syllablelm.train.parallel_stage import (
    MOST_PASSED,
    PASS_COST,
    SILENT,
    STAY_COST,
    _cheapest_path,
    warp_frames,
)


def cost_of(costs: np.ndarray, path: tuple[int, ...]) -> float:
    """Cost of a path by its definition; infinite for one that may not be taken."""
    total = float(costs[0, path[0]]) + PASS_COST * path[0]
    for row, (before, now) in enumerate(itertools.pairwise(path), start=1):
        step = now - before
        total += float(costs[row, now]) + (STAY_COST if step == 0 else PASS_COST * (step - 1))
        if not 0 <= step <= MOST_PASSED:
            return np.inf
    return total if path[0] <= MOST_PASSED and path[-1] == costs.shape[1] - 1 else np.inf


@pytest.mark.parametrize("seed", range(8))
def test_the_path_is_the_cheapest_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 7)), int(rng.integers(1, 6))
    costs = rng.random((rows, columns)).astype(np.float32)
    every = [cost_of(costs, path) for path in itertools.product(range(columns), repeat=rows)]
    path, mean = _cheapest_path(costs)
    if np.isfinite(min(every)):
        assert mean * rows == pytest.approx(min(every), rel=1e-5)
        assert cost_of(costs, tuple(path.tolist())) == pytest.approx(min(every), rel=1e-5)
    else:
        assert not np.isfinite(mean)


def test_speech_is_found_again_at_another_speed_and_silence_is_marked() -> None:
    rng = np.random.default_rng(0)
    voice = np.repeat(rng.standard_normal((6, 8)), 4, axis=0)
    # Each sound lasts twice as long, with a pause after the third.
    sounds = np.repeat(np.arange(6), 8)
    ours = np.concatenate([voice[::4][sounds[:24]], np.zeros((5, 8)), voice[::4][sounds[24:]]])
    is_speech = np.array([True] * 24 + [False] * 5 + [True] * 24)
    warp, cost = warp_frames(ours, voice, is_speech, np.ones(24, dtype=bool))
    assert warp is not None and cost < 0.1
    assert (warp[~is_speech] == SILENT).all()
    assert (warp[is_speech] // 4 == sounds).all()
    assert (np.diff(warp[is_speech]) >= 0).all()


def test_texts_that_cannot_be_the_same() -> None:
    ours, theirs = np.ones((10, 4)), np.ones((40, 4))
    some, none = np.ones(40, dtype=bool), np.zeros(10, dtype=bool)
    assert warp_frames(ours, theirs, some[:10], some)[0] is None
    assert warp_frames(ours, theirs, none, some)[0] is None
