from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.segment_oracles import all_cuts, cut_value, textbook_mincut
from syllablelm.core.errors import InputError
from syllablelm.segment import merge_similar, mincut, similarity_matrix
from syllablelm.segment.kernels import normalized_cut_costs

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "segmentation_cases.json").read_text())["mincut"]


def golden_matrix(num_frames):
    group = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])[:num_frames]
    i, j = np.meshgrid(np.arange(num_frames), np.arange(num_frames), indexing="ij")
    return np.where(group[:, None] == group[None, :], 1.0, 0.1) + 0.01 * ((3 * i + 5 * j) % 7)


def random_matrix(seed, num_frames):
    return np.random.default_rng(seed).random((num_frames, num_frames))


class TestMincut:
    @pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"N{case['N']}-k{case['k']}")
    def test_golden(self, case):
        matrix = golden_matrix(case["N"])
        assert mincut(matrix, case["k"]).tolist() == case["best"]
        assert mincut((matrix + matrix.T) / 2, case["k"]).tolist() == case["symmetrised_peng_best"]
        assert cut_value(matrix, case["best"]) == pytest.approx(case["value"], abs=1e-8)
        values = sorted((cut_value(matrix, edges), edges) for edges in all_cuts(case["N"], case["k"]))
        assert [edges for _, edges in values[:2]] == [case["best"], case["second"]]
        assert values[1][0] == pytest.approx(case["second_value"], abs=1e-8)

    @given(
        seed=st.integers(0, 1000),
        num_frames=st.integers(1, 9),
        count=st.integers(1, 9),
        min_length=st.integers(1, 2),
        max_length=st.sampled_from([None, 3, 5]),
        edges=st.sets(st.integers(1, 8), max_size=3),
    )
    @settings(max_examples=200, deadline=None)
    def test_exact_optimum(self, seed, num_frames, count, min_length, max_length, edges):
        matrix = random_matrix(seed, num_frames)
        edges = {edge for edge in edges if edge < num_frames}
        options = {"min_length": min_length, "max_length": max_length, "edges": sorted(edges)}
        cuts = [cut for cut in all_cuts(num_frames, count, min(min_length, num_frames), max_length) if edges <= {*cut}]
        if not cuts:
            with pytest.raises(InputError):
                mincut(matrix, count, **options)
            return
        found = mincut(matrix, count, **options).tolist()
        assert found in cuts
        assert cut_value(matrix, found) == pytest.approx(min(cut_value(matrix, c) for c in cuts), abs=1e-9)

    @given(st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_unmoved_by_transposition_scale_and_time_reversal(self, seed):
        matrix = random_matrix(seed, 24)
        expected = mincut(matrix, 5)
        assert len(expected) == 6 and expected.dtype == np.int32 and np.all(np.diff(expected) > 0)
        np.testing.assert_array_equal(mincut(matrix.T, 5), expected)
        np.testing.assert_array_equal(mincut((matrix + matrix.T) / 2, 5), expected)
        np.testing.assert_array_equal(mincut(8.0 * matrix, 5), expected)
        np.testing.assert_array_equal(24 - mincut(matrix[::-1, ::-1], 5)[::-1], expected)

    @given(
        seed=st.integers(0, 1000),
        num_frames=st.integers(2, 40),
        max_length=st.sampled_from([None, 6, 15]),
        share=st.floats(0.0, 1.0),
    )
    @settings(max_examples=40, deadline=None)
    def test_equals_the_textbook_loop(self, seed, num_frames, max_length, share):
        matrix = random_matrix(seed, num_frames) + np.tri(num_frames)  # far from symmetric
        fewest = 1 if max_length is None else -(-num_frames // max_length)
        count = fewest + round(share * (num_frames - fewest))
        found = mincut(matrix, count, max_length=max_length).tolist()
        expected = textbook_mincut(matrix, count, max_length or num_frames)
        assert cut_value(matrix, found) == pytest.approx(cut_value(matrix, expected), abs=1e-9)
        assert found == expected

    def test_costs_equal_eq_2_in_a_large_matrix(self):
        matrix = random_matrix(3, 40)
        costs = normalized_cut_costs(matrix, 12)
        for end, length in itertools.product(range(1, 41), range(1, 13)):
            if length > end:
                assert costs[length, end] == np.inf
                continue
            inside = slice(end - length, end)
            lines = matrix[inside, :].sum() + matrix[:, inside].sum()
            within = matrix[inside, inside].sum()
            assert costs[length, end] == pytest.approx((lines - 2 * within) / (lines - within), abs=1e-12)

    def test_a_limit_of_the_whole_length_is_no_limit(self):
        matrix = random_matrix(4, 30)
        np.testing.assert_array_equal(mincut(matrix, 6, max_length=30), mincut(matrix, 6))

    def test_blocks_are_found(self):
        lengths = [4, 7, 3, 9, 5]
        group = np.repeat(np.arange(5), lengths)
        matrix = np.where(group[:, None] == group[None, :], 1.0, 0.05)
        assert mincut(matrix, 5).tolist() == np.cumsum([0, *lengths]).tolist()

    def test_zero_diagonal_and_empty_frames(self):
        matrix = golden_matrix(8)
        np.fill_diagonal(matrix, 0.0)
        found = mincut(matrix, 3).tolist()
        best = min(all_cuts(8, 3), key=lambda edges: cut_value(matrix, edges))
        assert found == best
        assert mincut(np.zeros((5, 5)), 2).tolist() == [0, 4, 5]

    def test_shortest(self):
        assert mincut(np.zeros((0, 0)), 0).tolist() == [0]
        assert mincut(np.ones((1, 1)), 1).tolist() == [0, 1]
        assert mincut(np.ones((2, 2)), 2).tolist() == [0, 1, 2]

    @pytest.mark.parametrize("edges", [[0], [5], [3, 2], [2, 2], [-1], [1, 2, 3]])
    def test_impossible_edges(self, edges):
        with pytest.raises(InputError, match=r"3 segments do not fit . stretches of 5 frames"):
            mincut(np.ones((5, 5)), 3, edges=edges)

    def test_bad_inputs(self):
        with pytest.raises(InputError, match="square"):
            mincut(np.ones((3, 4)), 1)
        with pytest.raises(InputError, match="negative"):
            mincut(-np.ones((3, 3)), 1)
        with pytest.raises(InputError, match="NaN"):
            mincut(np.full((3, 3), np.nan), 1)
        with pytest.raises(InputError, match="ask for 1 to 3"):
            mincut(np.ones((3, 3)), 4)


class TestSimilarityMatrix:
    def test_definitions(self):
        features = np.random.default_rng(0).standard_normal((9, 4)) + 3.0
        norms = np.linalg.norm(features, axis=1)
        plain = {
            "dot": features @ features.T,
            "cosine": (features @ features.T) / np.outer(norms, norms),
            "neg_sq": -((features[:, None] - features[None]) ** 2).sum(axis=2),
        }
        for kind, expected in plain.items():
            found = similarity_matrix(features, kind)
            np.testing.assert_allclose(found, expected - expected.min() + 1e-7, atol=1e-10)
            assert found.min() > 0
        np.testing.assert_array_equal(similarity_matrix(features), similarity_matrix(features, "dot"))

    def test_edges(self):
        assert similarity_matrix(np.zeros((0, 3))).shape == (0, 0)
        assert np.isfinite(similarity_matrix(np.zeros((2, 3)), "cosine")).all()
        with pytest.raises(InputError, match="unknown similarity"):
            similarity_matrix(np.zeros((2, 3)), "manhattan")  # type: ignore[arg-type]


class TestMergeSimilar:
    def test_merges_the_most_similar_neighbours_only(self):
        features = np.repeat(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]]), 3, axis=0)
        assert merge_similar(features, [0, 3, 6, 9, 12]).tolist() == [0, 6, 9, 12]

    def test_keeps_two_segments(self):
        assert merge_similar(np.ones((9, 1)), [0, 3, 6, 9]).tolist() == [0, 6, 9]
        assert merge_similar(np.ones((9, 1)), [0, 2, 4, 6, 9]).tolist() == [0, 6, 9]
        assert merge_similar(np.ones((9, 2)), [0, 4, 9]).tolist() == [0, 4, 9]
        assert merge_similar(np.ones((9, 2)), [0, 9]).tolist() == [0, 9]
        assert merge_similar(np.zeros((0, 2)), [0]).tolist() == [0]

    @given(st.integers(0, 1000), st.floats(-1.0, 1.0))
    @settings(max_examples=40, deadline=None)
    def test_leaves_nothing_to_merge(self, seed, threshold):
        features = np.random.default_rng(seed).standard_normal((30, 3))
        before = list(range(0, 31, 3))
        after = merge_similar(features, before, threshold).tolist()
        assert set(after) <= set(before) and after[0] == 0 and after[-1] == 30
        means = [features[a:b].mean(axis=0) for a, b in itertools.pairwise(after)]
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.pairwise(means)]
        assert len(after) == 3 or max(cosines) < threshold + 1e-12

    @pytest.mark.parametrize("boundaries", [[], [0, 3], [1, 9], [0, 4, 4, 9], [0, 5, 4, 9]])
    def test_bad_boundaries(self, boundaries):
        with pytest.raises(InputError, match="boundaries"):
            merge_similar(np.ones((9, 2)), boundaries)
