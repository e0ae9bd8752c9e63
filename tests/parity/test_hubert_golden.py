"""What lies downstream of an encoder, on real features: HuBERT-base layer 9 with its published 500 clusters."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from helpers.segment_oracles import squared_error
from syllablelm.quantize import Codebook, fit_kmeans
from syllablelm.segment import even_boundaries, mincut, minsum, minsum_dynamic, similarity_matrix

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "hubert_base_layer9"
FEATURES = np.load(FOLDER / "features.npy", allow_pickle=False).astype(np.float32)
LABELS = np.array((FOLDER / "labels.txt").read_text(encoding="utf-8").split(), dtype=np.int64)
KNOWN = np.unique(LABELS)
COUNTS = [20, 60, 75, 100]


def class_means(labels: np.ndarray) -> np.ndarray:
    return np.stack([FEATURES[labels == label].mean(axis=0) for label in np.unique(labels)])


def agreement(labels: np.ndarray) -> float:
    """Share of frames that lie nearest to the mean of their own label."""
    codebook = Codebook(class_means(labels), np.arange(len(np.unique(labels)), dtype=np.int32), standardize=False)
    return float((np.unique(labels)[codebook.assign(FEATURES)] == labels).mean())


def cut_value(similarity: np.ndarray, edges: np.ndarray) -> float:
    """Eq. 2 on a symmetric matrix: what leaves a segment over what touches it, summed."""
    total = 0.0
    for start, end in itertools.pairwise(edges):
        inside = similarity[start:end, start:end].sum()
        out = similarity[start:end].sum() - inside
        total += out / (out + inside / 2)
    return total


def distinct_labels(edges: np.ndarray) -> float:
    return float(np.mean([len(set(LABELS[start:end])) for start, end in itertools.pairwise(edges)]))


def test_the_data() -> None:
    assert FEATURES.shape == (596, 768) and LABELS.shape == (596,) and len(KNOWN) == 233
    assert np.isfinite(FEATURES).all() and LABELS.min() >= 0 and LABELS.max() < 500


class TestCodebook:
    def test_frames_lie_nearest_to_their_own_cluster(self) -> None:
        # The published centres are not there; the means of one utterance's frames stand for them.
        assert agreement(LABELS) > 0.88

    def test_labels_and_frames_are_in_step(self) -> None:
        assert agreement(LABELS) > max(agreement(np.roll(LABELS, 1)), agreement(np.roll(LABELS, -1))) + 0.03
        step = np.linalg.norm(np.diff(FEATURES, axis=0), axis=1)
        changes = np.diff(LABELS) != 0
        assert step[changes].mean() > 1.3 * step[~changes].mean()

    def test_a_sound_said_again_is_near(self) -> None:
        """The mean of a label's frames elsewhere is among the nearest of all labels' means."""
        run = np.cumsum(np.concatenate([[0], np.diff(LABELS) != 0]))
        means, ranks = class_means(LABELS), []
        for frame, label in enumerate(LABELS):
            elsewhere = (label == LABELS) & (run != run[frame])
            if elsewhere.any():
                distances = ((FEATURES[frame] - means) ** 2).sum(axis=1)
                own = ((FEATURES[frame] - FEATURES[elsewhere].mean(axis=0)) ** 2).sum()
                ranks.append((distances[np.unique(LABELS) != label] < own).mean())
        assert len(ranks) > 300 and np.median(ranks) < 0.05

    def test_kmeans_finds_closer_centres_than_the_labels_do(self) -> None:
        means = class_means(LABELS)
        given = ((FEATURES - means[np.searchsorted(KNOWN, LABELS)]) ** 2).sum()
        centres = fit_kmeans(FEATURES, len(KNOWN), method="lloyd", seed=0)
        nearest = Codebook(centres, np.arange(len(centres), dtype=np.int32), standardize=False).assign(FEATURES)
        assert ((FEATURES - centres[nearest]) ** 2).sum() < given


class TestMinSum:
    @pytest.mark.parametrize("count", COUNTS)
    def test_better_than_anything_near_it(self, count: int) -> None:
        found = np.asarray(minsum(FEATURES, count))
        assert (found[0], found[-1], len(found)) == (0, 596, count + 1)
        assert np.diff(found).min() >= 1 and np.diff(found).max() <= 50
        error = squared_error(FEATURES.astype(np.float64), found)
        assert error < 0.98 * squared_error(FEATURES.astype(np.float64), even_boundaries(596, count))
        for index in range(1, count):
            for shift in (-1, 1):
                moved = found.copy()
                moved[index] += shift
                if np.diff(moved).min() >= 1 and np.diff(moved).max() <= 50:
                    assert error <= squared_error(FEATURES.astype(np.float64), moved) + 1e-3

    def test_more_groups_never_cost_more(self) -> None:
        errors = [squared_error(FEATURES.astype(np.float64), minsum(FEATURES, count)) for count in range(20, 120, 10)]
        assert (np.diff(errors) < 0).all()

    @pytest.mark.parametrize("count", COUNTS)
    def test_groups_hold_fewer_labels_than_even_ones(self, count: int) -> None:
        assert distinct_labels(np.asarray(minsum(FEATURES, count))) < distinct_labels(even_boundaries(596, count))

    def test_the_released_rule(self) -> None:
        """The count grows as delta shrinks, between a third of the ceiling and the ceiling (10 Hz)."""
        counts = [len(minsum_dynamic(FEATURES, delta)) - 1 for delta in (0.5, 0.05, 0.045, 0.04, 0.0033)]
        assert counts == sorted(counts) and counts[0] == 39 and counts[-1] == 119
        assert counts[0] < counts[1] < counts[3] < counts[4]


class TestMinCut:
    @pytest.mark.parametrize("count", COUNTS)
    def test_better_than_anything_near_it(self, count: int) -> None:
        similarity = similarity_matrix(FEATURES).astype(np.float64)
        found = np.asarray(mincut(similarity, count, max_length=50))
        assert (found[0], found[-1], len(found)) == (0, 596, count + 1) and np.diff(found).max() <= 50
        value = cut_value(similarity, found)
        assert value < cut_value(similarity, even_boundaries(596, count))
        for index in range(1, count):
            for shift in (-1, 1):
                moved = found.copy()
                moved[index] += shift
                if np.diff(moved).min() >= 1 and np.diff(moved).max() <= 50:
                    assert value <= cut_value(similarity, moved) + 1e-6

    @pytest.mark.parametrize("count", [60, 75, 100])
    def test_both_segmenters_hear_the_same(self, count: int) -> None:
        by_sum = np.asarray(minsum(FEATURES, count))[:, None]

        def distance(other: np.ndarray) -> float:
            return float(np.abs(by_sum - other[None]).min(axis=1).mean())

        by_cut = np.asarray(mincut(similarity_matrix(FEATURES), count, max_length=50))
        assert 3 * distance(by_cut) < distance(even_boundaries(596, count))
