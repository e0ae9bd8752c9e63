from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.segment_oracles import all_cuts, cut_value
from syllablelm.core.errors import InputError
from syllablelm.segment import (
    greedy_cosine_merge,
    merge_similar,
    mincut,
    norm_peaks,
    norm_threshold_mincut,
    relative_threshold,
    similarity_matrix,
    similarity_merge,
)

BOUNDARIES = {"similarity-merge": similarity_merge, "norm-peaks": norm_peaks}
PAIRS = {"norm-threshold": norm_threshold_mincut, "greedy": greedy_cosine_merge}


def speech(seed, num_frames, num_dims=5):
    """Noisy steps with soft stretches between some of them."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, num_frames)
    steps = np.repeat(rng.standard_normal((num_frames, num_dims)), lengths, axis=0)[:num_frames]
    loud = np.repeat(rng.choice([0.1, 2.0, 2.5], num_frames), lengths)[:num_frames, None]
    return loud * (steps + 0.5 * rng.standard_normal(steps.shape))


def runs(mask):
    found, start = [], None
    for index, inside in enumerate([*mask, False]):
        if inside and start is None:
            start = index
        elif not inside and start is not None:
            found.append((start, index))
            start = None
    return found


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def plain_merge(frames, pairs, threshold):
    pairs = [list(pair) for pair in pairs]
    while len(pairs) >= 3:
        means = [frames[a:b].mean(axis=0) for a, b in pairs]
        alike = [cosine(a, b) for a, b in itertools.pairwise(means)]
        best = max(range(len(alike)), key=lambda i: (alike[i], -i))
        if alike[best] < threshold:
            break
        pairs[best][1] = pairs.pop(best + 1)[1]
    return pairs


def plain_sdhubert(frames, threshold, per_segment, merge):
    found = []
    for first, last in runs(np.linalg.norm(frames, axis=1) > threshold):
        run = frames[first:last]
        pairs = [[0, len(run)]]
        if len(run) >= 5:
            matrix = run @ run.T
            matrix = matrix - matrix.min() + 1e-7
            count = -(-len(run) // per_segment)
            edges = min(all_cuts(len(run), count), key=lambda cut: cut_value(matrix, cut))
            pairs = [[a, b] for a, b in itertools.pairwise(edges)]
            pairs = plain_merge(run, [p for p in pairs if p[1] - p[0] > 2] or pairs, merge)
        found += [[a + first, b + first] for a, b in pairs]
    return found


def plain_sylber(frames, norm_threshold, merge):
    """Frame by frame over the whole recording, then boundary by boundary, with every sum written out."""
    guard = 1e-8

    def alike(a, b):
        return (a * b).sum() / np.sqrt((a * a).sum() + guard) / np.sqrt((b * b).sum() + guard)

    segments, inner, mean, seen = [], [], None, 0
    for index, frame in enumerate(frames):
        if np.sqrt((frame * frame).sum() + guard) < norm_threshold:
            mean, seen = None, 0
        elif mean is None:
            segments.append([index, index + 1])
            mean, seen = frame, 1
        else:
            if alike(mean, frame) >= merge:
                mean = (mean * seen + frame) / (seen + 1)
                segments[-1][1] = index + 1
            else:
                inner.append(len(segments))
                segments.append([index, index + 1])
                mean = frame
            seen += 1
    gone = set()
    for right in inner:
        (a, b), (_, d) = segments[right - 1], segments[right]
        before, after = frames[a:b].mean(axis=0), frames[b:d].mean(axis=0)
        if alike(before, after) >= merge:
            segments[right][0] = a
            gone.add(right - 1)
            continue
        low, high = max(a, b - max(1, (b - a) // 2)), min(d, b + max(1, (d - b) // 2))
        totals = [
            sum(alike(frames[t], before) for t in range(low, cut))
            + sum(alike(frames[t], after) for t in range(cut, high))
            for cut in range(low, high)
        ]
        cut = low + max(range(len(totals)), key=lambda i: (totals[i], -i))
        segments[right - 1][1] = segments[right][0] = cut
    return [pair for index, pair in enumerate(segments) if index not in gone and pair[1] > pair[0]]


def plain_zerosyl(frames, prominence):
    norms = np.array([np.sqrt((frame**2).sum()) for frame in frames])
    if norms.std() == 0:
        return [0, len(norms)]
    norms = (norms - norms.mean()) / norms.std()
    at = [norms[0], *norms, norms[-1]]
    smooth = [sum(at[i : i + 3]) / 3 for i in range(len(norms))]
    found = [0]
    for peak in range(1, len(smooth) - 1):
        if not smooth[peak - 1] < smooth[peak] > smooth[peak + 1]:
            continue
        sides = []
        for direction in (-1, 1):
            lowest, index = smooth[peak], peak
            while 0 <= index < len(smooth) and smooth[index] <= smooth[peak]:
                lowest = min(lowest, smooth[index])
                index += direction
            sides.append(lowest)
        if smooth[peak] - max(sides) >= prominence:
            found.append(peak)
    return [*found, len(norms)]


class TestAgainstPlainLoops:
    @given(st.integers(0, 10_000), st.integers(1, 24), st.sampled_from([0.0, 0.3, 0.9]))
    @settings(max_examples=40, deadline=None)
    def test_sdhubert(self, seed, num_frames, merge):
        frames = speech(seed, num_frames)
        found = norm_threshold_mincut(frames, threshold=1.0, frames_per_segment=6, merge_threshold=merge)
        assert found.tolist() == plain_sdhubert(frames, 1.0, 6, merge)

    @given(st.integers(0, 10_000), st.integers(1, 80), st.sampled_from([0.3, 0.6, 0.8]))
    @settings(max_examples=80, deadline=None)
    def test_sylber(self, seed, num_frames, merge):
        frames = speech(seed, num_frames)
        found = greedy_cosine_merge(frames, threshold=1.0, merge_threshold=merge)
        assert found.tolist() == plain_sylber(frames, 1.0, merge)

    @given(st.integers(0, 10_000), st.integers(2, 120), st.sampled_from([0.0, 0.45, 1.0]))
    @settings(max_examples=60, deadline=None)
    def test_zerosyl(self, seed, num_frames, prominence):
        frames = speech(seed, num_frames)
        assert norm_peaks(frames, prominence=prominence).tolist() == plain_zerosyl(frames, prominence)

    @given(st.integers(0, 10_000), st.integers(1, 80), st.sampled_from([0.0, 0.3, 0.9]))
    @settings(max_examples=40, deadline=None)
    def test_similarity_merge(self, seed, num_frames, merge):
        frames = speech(seed, num_frames)
        cut = mincut(similarity_matrix(frames), -(-num_frames // 10))
        pairs = plain_merge(frames, [[a, b] for a, b in itertools.pairwise(cut.tolist())], merge)
        expected = [0, *(end for _, end in pairs)]
        assert similarity_merge(frames, merge_threshold=merge).tolist() == expected
        assert merge_similar(frames, cut, merge).tolist() == expected


class TestEdges:
    @pytest.mark.parametrize("name", [*BOUNDARIES, *PAIRS])
    def test_shortest(self, name):
        for num_frames, kind in itertools.product(range(6), ("constant", "noise", "zero")):
            frames = np.random.default_rng(0).standard_normal((num_frames, 16)) + 2.0
            frames = {"constant": np.full_like(frames, 3.0), "noise": frames, "zero": np.zeros_like(frames)}[kind]
            before, case = frames.copy(), (num_frames, kind)
            found = (BOUNDARIES | PAIRS)[name](frames)
            assert found.dtype == np.int32, case
            if name in BOUNDARIES:
                assert found[0] == 0 and found[-1] == num_frames and np.all(np.diff(found) > 0), case
            elif kind == "zero" or num_frames == 0:
                assert found.shape == (0, 2), case
            else:
                assert found[0, 0] == 0 and found[-1, 1] == num_frames and np.all(found[:, 0] < found[:, 1]), case
            np.testing.assert_array_equal(frames, before)

    @pytest.mark.parametrize("name", PAIRS)
    def test_soft_frames_are_left_out(self, name):
        frames = np.concatenate([np.zeros((4, 8)), speech(1, 20, 8) + 4, np.zeros((9, 8)), np.full((3, 8), 4.0)])
        found = PAIRS[name](frames)
        assert found[0, 0] == 4 and found[-1].tolist() == [33, 36]
        assert np.all(found[1:, 0] >= found[:-1, 1])
        covered = np.concatenate([np.arange(a, b) for a, b in found])
        assert not set(covered.tolist()) & {0, 1, 2, 3, *range(24, 33)}

    @pytest.mark.parametrize("name", [*BOUNDARIES, *PAIRS])
    def test_bad_inputs(self, name):
        cut = (BOUNDARIES | PAIRS)[name]
        with pytest.raises(InputError, match="2 axes"):
            cut(np.zeros(4))
        with pytest.raises(InputError, match="NaN or infinity"):
            cut(np.full((4, 2), np.inf))

    def test_bad_settings(self):
        with pytest.raises(InputError, match="odd window"):
            norm_peaks(np.ones((4, 2)), window=2)
        with pytest.raises(InputError, match="frames_per_segment"):
            similarity_merge(np.ones((4, 2)), frames_per_segment=0)
        with pytest.raises(InputError, match="one value per frame: 4, not 3"):
            norm_threshold_mincut(np.ones((4, 2)), norms=np.ones(3))
        with pytest.raises(InputError, match="low <= high"):
            relative_threshold(np.ones((4, 2)), low=0.9, high=0.1)

    def test_tensors(self):
        torch = pytest.importorskip("torch")
        frames = speech(3, 60).astype(np.float32)
        for cut in (BOUNDARIES | PAIRS).values():
            np.testing.assert_array_equal(cut(torch.from_numpy(frames)), cut(frames))


class TestScale:
    def test_published_thresholds(self):
        soft, loud = np.full((6, 1), 1.9), np.full((6, 1), 2.1)
        assert len(norm_threshold_mincut(soft)) == 0 and norm_threshold_mincut(loud).tolist() == [[0, 6]]
        assert len(greedy_cosine_merge(loud)) == 0 and greedy_cosine_merge(loud + 0.6).tolist() == [[0, 6]]

    def test_norms_of_another_layer(self):
        frames = speech(0, 40) + 4.0
        norms = np.where((np.arange(40) > 9) & (np.arange(40) < 14), 3.0, 1.0)
        assert norm_threshold_mincut(frames, norms=norms).tolist() == [[10, 14]]

    @given(st.integers(0, 1000), st.sampled_from([0.01, 50.0]))
    @settings(max_examples=20, deadline=None)
    def test_relative_threshold_follows_the_scale(self, seed, scale):
        frames = speech(seed, 60)
        level = relative_threshold(frames)
        assert relative_threshold(scale * frames) == pytest.approx(scale * level)
        np.testing.assert_array_equal(
            norm_threshold_mincut(scale * frames, threshold=scale * level * (1 + 1e-9)),
            norm_threshold_mincut(frames, threshold=level * (1 + 1e-9)),
        )

    def test_relative_threshold_definition(self):
        frames = np.arange(101.0)[:, None]
        assert relative_threshold(frames) == pytest.approx(1 + 0.1 * 98)
        assert relative_threshold(frames, 0.5, low=0.0, high=1.0) == pytest.approx(50)
        assert relative_threshold(np.zeros((0, 3))) == 0.0

    def test_zerosyl_is_free_of_scale(self):
        frames = speech(2, 90)
        np.testing.assert_array_equal(norm_peaks(frames), norm_peaks(1000 * frames))
