"""Packing: every position is a token or padding, crops keep their bounds, and the order repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.errors import InputError
from syllablelm.lm.packing import IGNORED, PackPlan, Piece, crop_pieces, fill_rows, pack_rows
from syllablelm.lm.store import TokenInfo, TokenStore


@given(st.lists(st.integers(1, 40), min_size=1, max_size=400))
@settings(max_examples=50, deadline=None)
def test_every_piece_lands_in_one_row_that_holds_it(lengths):
    pieces = [Piece(100 * i, 100 * i + n) for i, n in enumerate(lengths)]
    rows = list(pack_rows(pieces, 40))
    assert sorted((p.start, p.stop) for row in rows for p in row) == [(p.start, p.stop) for p in pieces]
    assert all(1 <= sum(len(p) for p in row) <= 40 for row in rows)


def test_rows_are_nearly_full():
    rng = np.random.default_rng(0)
    pieces = [Piece(0, int(n)) for n in rng.integers(20, 160, 4000)]
    rows = list(pack_rows(pieces, 1024))
    assert sum(len(p) for p in pieces) / (1024 * len(rows)) > 0.98


def test_a_piece_longer_than_a_row_is_refused():
    with pytest.raises(InputError, match="41 tokens"):
        list(pack_rows([Piece(0, 41)], 40))


def test_crops_stay_in_their_recording_and_below_their_length(store):
    rng = np.random.default_rng(1)
    for limit in (10, 100, 10_000):
        pieces = list(crop_pieces(store, limit, 60, rng))
        owner = np.searchsorted(store.offsets, [p.start for p in pieces], side="right") - 1
        assert set(owner) == set(range(len(store)))
        for piece, index in zip(pieces, owner, strict=True):
            assert piece.stop <= store.offsets[index + 1]
            assert 1 <= len(piece) <= 60
            frames = int(store.frames[piece.start : piece.stop].sum())
            assert frames <= limit or len(piece) == 1


def test_long_recordings_give_more_crops_and_reach_both_ends():
    info = TokenInfo(10)
    store = TokenStore.from_arrays([np.arange(100, dtype=np.int32) % 10], [np.full(100, 10, dtype=np.int32)], info)
    rng = np.random.default_rng(0)
    pieces = [p for _ in range(200) for p in crop_pieces(store, 200, 1000, rng)]
    assert len(pieces) == 200 * 5
    assert {len(p) for p in pieces} == {20}
    assert min(p.start for p in pieces) == 0
    assert max(p.stop for p in pieces) == 100


def test_arrays_of_a_row(store):
    batch = fill_rows(store, [[Piece(0, 3), Piece(7, 9)]], 8)
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
    batch = fill_rows(store, [[Piece(0, 5)]], 5)
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


def test_batch_smaller_than_a_row_is_refused(store):
    with pytest.raises(InputError, match="at least one row"):
        PackPlan(store, crop_seconds=5.0, row_tokens=64, batch_tokens=63, seed=0)
