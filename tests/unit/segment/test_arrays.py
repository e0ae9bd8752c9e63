"""Inputs of the segmentation algorithms."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.segment.arrays import (
    check_boundaries,
    check_count,
    check_finite,
    feasible_range,
    map_clips,
    split_batch,
    to_float64,
    to_frames,
)


def test_matrices_are_copied_only_where_they_must_be() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    assert np.shares_memory(to_float64(matrix, "matrix", 2), matrix)
    frozen = matrix.copy()
    frozen.setflags(write=False)
    for values in (matrix.astype(np.float32), frozen, np.asfortranarray(matrix), matrix.tolist()):
        found = to_float64(values, "matrix", 2)
        assert found.dtype == np.float64 and found.flags.c_contiguous and found.flags.writeable
        np.testing.assert_array_equal(found, matrix)
    for convert in (lambda v: to_float64(v, "matrix", 2), lambda v: to_frames(v, "matrix")):
        with pytest.raises(InputError, match=r"matrix must have 2 axes, not shape \(6,\)"):
            convert(np.arange(6.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int32])
def test_tensors_of_any_type_keep_their_values(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[1, 2], [3, -4]], dtype=dtype, requires_grad=dtype.is_floating_point)
    for found in (to_frames(tensor, "x"), to_float64(tensor, "x", 2)):
        assert found.tolist() == [[1, 2], [3, -4]]
    assert to_frames(tensor, "x").dtype == (np.float64 if dtype in (torch.float64, torch.int32) else np.float32)


def test_sums_that_overflow_are_no_infinity() -> None:
    check_finite(np.full((2, 2), 3e38, dtype=np.float32), "features")
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(InputError, match="features hold NaN or infinity"):
            check_finite(np.array([[0.0, bad]]), "features")


def test_batches_are_split_at_their_lengths() -> None:
    batch = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    batch[1, 2:] = np.nan  # padding may be anything
    for features in (batch, list(batch), torch.from_numpy(batch)):
        first, second = split_batch(features, [4, 2])
        np.testing.assert_array_equal(first, batch[0])
        np.testing.assert_array_equal(second, batch[1, :2])
    assert [len(item) for item in split_batch(batch[0], 3)] == [3]
    assert split_batch([], None) == []
    with pytest.raises(InputError, match="NaN"):
        split_batch(batch, None)


@pytest.mark.parametrize(
    ("features", "lengths", "message"),
    [
        (np.zeros((2, 4, 3)), [4], "one frame count per recording: 2, not 1"),
        (np.zeros((2, 4, 3)), [4, 5], r"lengths\[1\] is 5, but recording 1 has 4 frames"),
        (np.zeros((4, 3)), -1, r"lengths\[0\] is -1"),
        (np.zeros((4, 0)), None, "at least one dimension"),
        (np.zeros(4), None, "2 axes"),
    ],
)
def test_batches_that_do_not_fit(features: np.ndarray, lengths: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_batch(features, lengths)


@given(st.integers(0, 40), st.integers(1, 6), st.integers(1, 12))
def test_feasible_counts_by_trying_all(num_frames: int, min_length: int, max_length: int) -> None:
    """A count fits where its shortest segments are not too long, and its longest not too short, for the recording."""
    fits = [n for n in range(num_frames + 1) if n * min_length <= num_frames <= n * max_length]
    if not fits and 0 < num_frames < min_length <= max_length:
        fits = [1]  # shorter than one segment
    try:
        fewest, most = feasible_range(num_frames, min_length, max_length)
    except InputError:
        assert min_length > max_length or not fits
        return
    assert fits == list(range(fewest, most + 1))
    for count in (fewest - 1, most + 1):
        with pytest.raises(InputError, match=f"ask for {fewest} to {most} segments"):
            check_count(count, num_frames, min_length, max_length)
    check_count(most, num_frames, min_length, max_length)


def test_boundaries_must_rise_from_the_start_to_the_end() -> None:
    assert check_boundaries(np.array([0, 2, 5]), 5) == [0, 2, 5]
    assert check_boundaries([0], 0) == [0]
    for bad in ([], [1, 5], [0, 4], [0, 3, 3, 5], [0, 4, 2, 5]):
        with pytest.raises(InputError, match="rise strictly from 0 to the number of frames, 5"):
            check_boundaries(bad, 5)


def test_clips_keep_their_order_on_several_threads() -> None:
    waiting = threading.Barrier(2, timeout=60)

    def work(item: int) -> int:
        if item < 2:
            waiting.wait()  # passes only if two items are under way together
        return item**2

    assert map_clips(lambda item: item, [7]) == [7] and map_clips(work, []) == []
    import numba

    if numba.config.NUMBA_NUM_THREADS > 1:  # type: ignore[attr-defined]
        assert map_clips(work, range(20)) == [item**2 for item in range(20)]
    with pytest.raises(ZeroDivisionError):
        map_clips(lambda item: 1 // item, [1, 0])
