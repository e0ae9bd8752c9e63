"""Packing: every position is a token or padding, crops keep their bounds, and the order repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.core.recipes import build_recipe
from syllablelm.lm import packing
from syllablelm.lm.packing import IGNORED, PackPlan, draw_crops, fill_rows, longest_crop, pack_rows
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.train.lm_stage import LMRecipe


@given(st.lists(st.integers(1, 40), min_size=1, max_size=400))
@settings(max_examples=50, deadline=None)
def test_every_piece_lands_in_one_row_that_holds_it(lengths):
    rows = pack_rows(np.array(lengths), 40)
    assert sorted(piece for row in rows for piece in row) == list(range(len(lengths)))
    assert all(1 <= sum(lengths[piece] for piece in row) <= 40 for row in rows)


def test_rows_are_nearly_full():
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 160, 4000)
    assert lengths.sum() / (1024 * len(pack_rows(lengths, 1024))) > 0.98


def test_a_piece_longer_than_a_row_is_refused():
    with pytest.raises(InputError, match="41 tokens"):
        pack_rows(np.array([3, 41]), 40)


def test_crops_stay_in_their_recording_and_below_their_length(store):
    rng = np.random.default_rng(1)
    for limit in (10, 100, 10_000):
        pieces = draw_crops(store, limit, 60, rng)
        owner = np.searchsorted(store.offsets, pieces[:, 0], side="right") - 1
        assert set(owner) == set(range(len(store)))
        for (start, stop), index in zip(pieces, owner, strict=True):
            assert stop <= store.offsets[index + 1]
            assert 1 <= stop - start <= 60
            frames = int(store.frames[start:stop].sum())
            assert frames <= limit or stop - start == 1


def test_long_recordings_give_more_crops_and_reach_both_ends():
    info = TokenInfo(10)
    store = TokenStore.from_arrays([np.arange(100, dtype=np.int32) % 10], [np.full(100, 10, dtype=np.int32)], info)
    rng = np.random.default_rng(0)
    pieces = np.concatenate([draw_crops(store, 200, 1000, rng) for _ in range(200)])
    assert len(pieces) == 200 * 5
    assert set(pieces[:, 1] - pieces[:, 0]) == {20}
    assert pieces.min() == 0
    assert pieces.max() == 100


def slow_crops(store, crop_frames, longest, rng):
    """Recording by recording, a draw at a time; and the longest crop that any draw could have given."""
    crops, most = [], 1
    for index in range(len(store)):
        first, frames = int(store.offsets[index]), store[index][1].tolist()
        if not frames:
            continue
        fitting = [
            max([1, *(n for n in range(1, len(frames) - at + 1) if sum(frames[at : at + n]) <= crop_frames)])
            for at in range(len(frames))
        ]
        # The first token may be one before whose end there is nothing to spare.
        latest = sum(sum(frames[: at + 1]) <= sum(frames) - crop_frames for at in range(len(frames)))
        for _ in range(max(1, sum(frames) // crop_frames)):
            at = int(rng.integers(0, latest + 1)) if sum(frames) > crop_frames else 0
            crops.append((first + at, first + at + min(fitting[at], longest)))
        most = max(most, *fitting)
    return np.array(crops), min(most, longest)


def slow_rows(lengths, row_tokens):
    """Look through all open rows for each crop."""
    rows, is_open = [], []
    done = []
    for number, length in enumerate(lengths):
        free = [row_tokens - sum(lengths[piece] for piece in row) for row in rows]
        fits = [place for place in range(len(rows)) if is_open[place] and free[place] >= length]
        if fits:
            rows[min(fits, key=lambda place: (free[place], place))].append(number)
            continue
        if sum(is_open) == packing.OPEN_ROWS:
            full = min((place for place in range(len(rows)) if is_open[place]), key=lambda place: (free[place], place))
            is_open[full] = False
            done.append(rows[full])
        rows.append([number])
        is_open.append(True)
    left = [(row_tokens - sum(lengths[piece] for piece in row), row[0], row) for row in rows]
    return done + [row for _, _, row in sorted(entry for entry, it in zip(left, is_open, strict=True) if it)]


@given(
    st.lists(st.lists(st.integers(0, 12), max_size=25), min_size=1, max_size=12).filter(any),
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 40),
)
@settings(max_examples=80, deadline=None)
def test_crops_equal_the_slow_way_draw_by_draw(frames, crop_frames, longest, block):
    rows = [np.array(row, dtype=np.int32) for row in frames]
    store = TokenStore.from_arrays([row % 10 for row in rows], rows, TokenInfo(10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK_TOKENS", block)
        slow, most = slow_crops(store, crop_frames, longest, np.random.default_rng(5))
        np.testing.assert_array_equal(draw_crops(store, crop_frames, longest, np.random.default_rng(5)), slow)
        assert longest_crop(store, crop_frames, longest) == most


@given(st.lists(st.integers(1, 40), min_size=1, max_size=120))
@settings(max_examples=30, deadline=None)
def test_rows_equal_the_slow_way(lengths):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "OPEN_ROWS", 5)
        assert pack_rows(np.array(lengths), 40) == slow_rows(lengths, 40)


def test_arrays_of_a_row(store):
    batch = fill_rows(store, [np.array([[0, 3], [7, 9]])], 8)
    own = store.tokens[:9].astype(int)
    bos = store.info.bos
    assert batch.tokens.tolist() == [[bos, own[0], own[1], bos, own[7], 0, 0, 0]]
    assert batch.targets.tolist() == [[*own[:3], own[7], own[8], IGNORED, IGNORED, IGNORED]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0, 0, 0]]
    assert batch.crop.tolist() == [[1, 1, 1, 2, 2, 0, 0, 0]]
    assert batch.frames[0, :3].tolist() == store.frames[:3].tolist()


def test_given_tokens_have_no_loss():
    info = TokenInfo(10, loss_from=6)
    store = TokenStore.from_arrays([np.array([1, 7, 8, 2, 9])], [np.array([0, 2, 3, 0, 4])], info)
    batch = fill_rows(store, [np.array([[0, 5]])], 5)
    assert batch.targets.tolist() == [[IGNORED, 7, 8, IGNORED, 9]]
    assert batch.frames.tolist() == [[0, 2, 3, 0, 4]]


def test_batches_repeat_by_seed_and_differ_by_epoch(store):
    def plan(seed):
        return PackPlan(store, crop_seconds=5.0, row_tokens=64, batch_tokens=256, seed=seed)

    first, again = plan(0), plan(0)
    late = again.batch(9).tokens
    np.testing.assert_array_equal(first.batch(0).tokens, again.batch(0).tokens)
    np.testing.assert_array_equal(first.batch(9).tokens, late)
    assert not np.array_equal(first.batch(0).tokens, plan(1).batch(0).tokens)
    epochs = [first.place(row)[0] for row in range(400)]
    assert epochs == sorted(epochs)
    assert epochs[-1] >= 2


def test_an_epoch_shows_every_recording(store):
    plan = PackPlan(store, crop_seconds=1e6, row_tokens=128, batch_tokens=128, seed=0)
    rows = sum(plan.place(row)[0] == 0 for row in range(200))
    shown = sum((plan.batch(n).targets != IGNORED).sum() for n in range(rows))
    assert shown == len(store.tokens)


def test_tokens_of_the_first_rows_are_those_of_their_batches(store):
    plan, fresh = (PackPlan(store, crop_seconds=5.0, row_tokens=64, batch_tokens=256, seed=0) for _ in range(2))
    seen = np.cumsum([0, *((plan.batch(n).crop > 0).sum() for n in range(60))])
    assert plan.place(60 * 4)[0] >= 2
    assert [plan.tokens(4 * n) for n in (0, 1, 17, 60)] == seen[[0, 1, 17, 60]].tolist()
    assert fresh.tokens(4 * 60) == seen[60]


def test_batch_smaller_than_a_row_is_refused(store):
    with pytest.raises(InputError, match="at least one row"):
        PackPlan(store, crop_seconds=5.0, row_tokens=64, batch_tokens=63, seed=0)


@pytest.mark.parametrize("rate", [3.0, 5.0, 12.5, 19.5])
def test_an_update_of_a_compared_recipe_holds_80_000_tokens(rate):
    rng = np.random.default_rng(0)
    rows = [rng.geometric(rate / 50, size=int(rate * seconds)) for seconds in rng.uniform(5, 60, 3000)]
    store = TokenStore.from_arrays([np.zeros(len(row), np.int32) for row in rows], rows, TokenInfo(500))
    lm = build_recipe(LMRecipe, "compare_mhubert").lm
    sizes = {"crop_seconds": lm.crop_seconds, "row_tokens": lm.row_tokens, "batch_tokens": lm.batch_tokens}
    plan = PackPlan(store, **sizes, seed=0, without_padding=lm.without_padding)
    held = plan.tokens(20 * plan.rows_per_batch) / 20
    assert lm.loop.accumulate == 1 and held == pytest.approx(80_000, rel=0.01)
    # With padding counted, rows of two 25-second crops of TWIST's units hold less.
    padded = PackPlan(store, **sizes, seed=0)
    assert padded.tokens(20 * padded.rows_per_batch) / 20 < held
