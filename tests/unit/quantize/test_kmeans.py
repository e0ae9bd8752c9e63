from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import InputError, MissingDependencyError
from syllablelm.quantize import Vectors, kmeans, nearest
from syllablelm.quantize.kmeans import choose_method, fit_kmeans
from syllablelm.quantize.nearest import nearest_centre

METHODS = [
    "lloyd",
    "minibatch",
    pytest.param("faiss", marks=pytest.mark.skipif(not importlib.util.find_spec("faiss"), reason="faiss missing")),
]


def blobs(num_blobs: int, size: int, dims: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tight groups around well separated points: vectors (num_blobs * size, dims) and the points."""
    rng = np.random.default_rng(seed)
    points = 20.0 * rng.standard_normal((num_blobs, dims))
    vectors = np.repeat(points, size, axis=0) + 0.1 * rng.standard_normal((num_blobs * size, dims))
    return rng.permutation(vectors).astype(np.float32), points.astype(np.float32)


def nearest_by_loop(vectors: np.ndarray, centres: np.ndarray) -> tuple[list[int], list[float]]:
    index, distance = [], []
    for x in vectors.astype(np.float64):
        best, best_distance = -1, np.inf
        for k, c in enumerate(centres.astype(np.float64)):
            d = sum((a - b) ** 2 for a, b in zip(x, c, strict=True))
            if d < best_distance:
                best, best_distance = k, d
        index.append(best)
        distance.append(best_distance)
    return index, distance


@settings(max_examples=50, deadline=None)
@given(num=st.integers(0, 12), centres=st.integers(1, 9), dims=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_nearest_centre_equals_loop(num: int, centres: int, dims: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num, dims)).astype(np.float32)
    c = rng.standard_normal((centres, dims)).astype(np.float32)
    index, distance = nearest_centre(x, c)
    expected_index, expected_distance = nearest_by_loop(x, c)
    assert index.dtype == np.int32
    assert index.tolist() == expected_index
    np.testing.assert_allclose(distance, expected_distance, rtol=1e-9, atol=1e-9)


def test_nearest_centre_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x, c = rng.standard_normal((53, 16)).astype(np.float32), rng.standard_normal((40, 16)).astype(np.float32)
    whole = nearest_centre(x, c)[0]
    alone = np.concatenate([nearest_centre(row[None], c)[0] for row in x])
    monkeypatch.setitem(nearest.BLOCK_NUMBERS, "cpu", 7 * 40)
    np.testing.assert_array_equal(nearest_centre(x, c)[0], whole)
    np.testing.assert_array_equal(alone, whole)


def test_nearest_centre_takes_the_first_of_equals() -> None:
    centres = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    assert nearest_centre(np.array([[0.0, 5.0], [2.0, 0.0]]), centres)[0].tolist() == [0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_separated_blobs_are_found(method: kmeans.Method) -> None:
    vectors, points = blobs(num_blobs=8, size=40)
    centres = fit_kmeans(vectors, 8, method=method, seed=3, restarts=5)
    assert centres.shape == (8, 6) and centres.dtype == np.float32
    owner, distance = nearest_centre(points, centres)
    assert sorted(owner.tolist()) == list(range(8))
    assert distance.max() < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_centres(method: kmeans.Method) -> None:
    vectors = np.random.default_rng(0).standard_normal((400, 5)).astype(np.float32)
    first, again = (fit_kmeans(vectors, 30, method=method, seed=7, max_iter=20) for _ in range(2))
    other = fit_kmeans(vectors, 30, method=method, seed=8, max_iter=20)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_lloyd_centres_are_the_means_of_their_vectors() -> None:
    vectors = np.random.default_rng(2).standard_normal((300, 3)).astype(np.float32)
    centres = fit_kmeans(vectors, 10, method="lloyd", max_iter=1000)
    index, _ = nearest_centre(vectors, centres)
    means = np.stack([vectors[index == k].mean(axis=0) for k in range(10)])
    np.testing.assert_allclose(centres, means, atol=0.02)


def test_restarts_keep_the_smallest_error() -> None:
    vectors = np.random.default_rng(4).standard_normal((200, 4)).astype(np.float32)
    calls: list[tuple[int, int]] = []
    best = fit_kmeans(
        vectors, 12, method="lloyd", seed=0, restarts=4, progress=lambda done, total: calls.append((done, total))
    )
    errors = [nearest_centre(vectors, fit_kmeans(vectors, 12, method="lloyd", seed=seed))[1].sum() for seed in range(4)]
    assert nearest_centre(vectors, best)[1].sum() == pytest.approx(min(errors))
    assert max(errors) > min(errors)
    assert {total for _, total in calls} == {calls[-1][0]}
    # Several calls a run, never backwards.
    assert [done for done, _ in calls] == sorted(done for done, _ in calls) and len(calls) > 2 * 4


@pytest.mark.parametrize("method", METHODS)
def test_progress_is_told_during_a_run_and_ends_at_its_total(method: kmeans.Method) -> None:
    vectors = np.random.default_rng(4).standard_normal((300, 4)).astype(np.float32)
    calls: list[tuple[int, int]] = []
    fit_kmeans(vectors, 12, method=method, restarts=2, progress=lambda done, total: calls.append((done, total)))
    assert len({total for _, total in calls}) == 1 and calls[-1][0] == calls[-1][1]
    assert any(0 < done < total / 2 for done, total in calls)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_minibatch_work_is_bounded_and_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    add = kmeans._Sums.add
    monkeypatch.setattr(kmeans._Sums, "add", lambda self, x, index: (seen.append(len(x)), add(self, x, index))[1])
    monkeypatch.setattr(kmeans, "BATCH", 100)
    vectors = np.random.default_rng(4).standard_normal((1050, 4)).astype(np.float32)
    monkeypatch.setitem(kmeans.MIN_GAIN, "minibatch", -1.0)
    fit_kmeans(vectors, 50, method="minibatch", max_iter=3)
    assert 3 * 1000 <= sum(seen) <= 3 * 1100
    seen.clear()
    # Many vectors: an iteration takes some of them only.
    monkeypatch.setattr(kmeans, "VECTORS_PER_CENTRE", 10)
    fit_kmeans(vectors, 50, method="minibatch", max_iter=3)
    assert sum(seen) <= 3 * 500
    seen.clear()
    monkeypatch.setitem(kmeans.MIN_GAIN, "minibatch", 1.0)
    fit_kmeans(vectors, 50, method="minibatch", max_iter=100)
    assert sum(seen) <= 2 * 500


def test_lloyd_equals_scikit_learn() -> None:
    from sklearn.cluster import KMeans

    vectors = np.random.default_rng(2).standard_normal((700, 5)).astype(np.float32)
    starts = kmeans._starts(Vectors([vectors]), 20, np.random.default_rng(3))
    for iterations in (1, 2, 4):
        expected = KMeans(20, init=starts.astype(np.float64), n_init=1, max_iter=iterations, tol=0.0)
        expected.fit(vectors.astype(np.float64))
        found = fit_kmeans(vectors, 20, method="lloyd", seed=3, max_iter=iterations)
        np.testing.assert_allclose(found, expected.cluster_centers_, rtol=1e-5, atol=1e-5)


def test_minibatch_equals_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.cluster import MiniBatchKMeans

    monkeypatch.setattr(kmeans, "BATCH", 100)
    monkeypatch.setitem(kmeans.MIN_GAIN, "minibatch", -1.0)
    vectors = np.random.default_rng(2).standard_normal((700, 5)).astype(np.float32)
    held, rng = Vectors([vectors]), np.random.default_rng(3)
    starts = kmeans._starts(held, 20, rng)
    rng.permutation(len(vectors))
    model = MiniBatchKMeans(20, init=starts, n_init=1, reassignment_ratio=0.0, compute_labels=False)
    batches = kmeans._shuffled(held, 100, rng)
    for _ in range(2 * 7):
        model.partial_fit(next(batches))
    found = fit_kmeans(vectors, 20, method="minibatch", seed=3, max_iter=2)
    np.testing.assert_allclose(found, model.cluster_centers_, rtol=1e-4, atol=1e-4)


def test_batches_are_every_vector_once_in_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "RUN", 7)
    monkeypatch.setattr(kmeans, "POOL", 30)
    numbers = np.arange(100, dtype=np.float32)[:, None]
    batches = kmeans._shuffled(Vectors([numbers]), 12, np.random.default_rng(0))
    epochs: list[list[np.ndarray]] = [[], []]
    for epoch in epochs:
        while sum(map(len, epoch)) < 100:
            epoch.append(next(batches))
        assert sorted(np.concatenate(epoch).ravel().tolist()) == list(range(100))
        # From all over the vectors, in no order.
        assert np.mean([np.ptp(batch) for batch in epoch]) > 30 and np.diff(epoch[0][:, 0]).min() < 0
    assert not np.array_equal(epochs[0][0], epochs[1][0])


@pytest.mark.parametrize("num_clusters", [1, 7, 200])
def test_starts_are_distinct_vectors_and_spread(num_clusters: int) -> None:
    vectors, _ = blobs(num_blobs=200, size=5)
    starts = kmeans._starts(Vectors([vectors]), num_clusters, np.random.default_rng(0))
    assert starts.shape == (num_clusters, 6)
    assert len(np.unique(starts, axis=0)) == num_clusters
    assert np.all(nearest_centre(starts, vectors)[1] < 1e-9)
    if num_clusters == 200:
        # At random 63 % of the blobs would get a start.
        assert len(np.unique(nearest_centre(starts, blobs(200, 1)[1])[0])) > 0.9 * 200


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_clusters", [1, 20, 60])
def test_no_cluster_is_empty(method: kmeans.Method, num_clusters: int) -> None:
    # Sixty distinct vectors, most of them many times over: an easy way to centres that nobody is nearest to.
    rng = np.random.default_rng(5)
    distinct = rng.standard_normal((60, 4)).astype(np.float32)
    vectors = np.concatenate([distinct, np.repeat(distinct[:5], 200, axis=0)])
    centres = fit_kmeans(vectors, num_clusters, method=method)
    index, _ = nearest_centre(vectors, centres)
    assert set(index.tolist()) == set(range(num_clusters))


def test_refill_moves_unused_centres_to_the_worst_served_vectors() -> None:
    vectors = np.array([[0.0], [0.1], [0.1], [5.0], [5.0], [9.0]], dtype=np.float32)
    centres = np.array([[0.0], [100.0], [200.0]], dtype=np.float32)
    filled, error = kmeans._refill_empty(Vectors([vectors]), centres, "cpu")
    assert filled.ravel().tolist() == [0.0, 9.0, 5.0]
    assert error == pytest.approx(2 * 0.1**2, rel=1e-6)
    assert centres.ravel().tolist() == [0.0, 100.0, 200.0]


def test_auto_is_lloyd_for_little_and_scales_up_for_much(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_method(5_000, 100, 256) == "lloyd"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert choose_method(1_000_000, 4_096, 768) == "minibatch"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert choose_method(1_000_000, 4_096, 768) == "faiss"


def test_auto_takes_faiss_only_where_its_vectors_fit_and_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert choose_method(10_000_000, 4_096, 768) == "faiss"
    assert choose_method(10_000_000, 16_384, 768) == "minibatch"
    assert choose_method(1_000_000, 4_096, 768, "cuda") == "minibatch"


def test_auto_fits() -> None:
    vectors, _ = blobs(4, 10)
    np.testing.assert_array_equal(fit_kmeans(vectors, 4), fit_kmeans(vectors, 4, method="lloyd"))


@pytest.mark.parametrize(
    ("vectors", "num_clusters", "options", "message"),
    [
        (np.zeros((3, 2)), 4, {}, "3 vectors are too few for 4"),
        (np.ones((9, 2)), 2, {"method": "lloyd"}, "too few distinct"),
        (np.ones((9, 2)), 2, {"method": "minibatch"}, "too few distinct"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), 1, {}, "1 rows, first in row 1"),
        (np.array([[np.inf, 1.0]]), 1, {}, "infinite"),
        (np.array([[1e300, 1.0]]), 1, {}, "infinite"),
        (np.zeros(5), 1, {}, "real matrix"),
        (np.zeros((5, 0)), 1, {}, "real matrix"),
        (np.array([["a"]]), 1, {}, "real matrix"),
        (np.zeros((5, 2)), 0, {}, "at least 1"),
        (np.zeros((5, 2)), 1, {"restarts": 0}, "at least 1"),
        (np.zeros((5, 2)), 1, {"max_iter": 0}, "at least 1"),
        (np.zeros((5, 2)), 1, {"device": "gpu"}, "device 'gpu': choose cpu or cuda"),
        (np.zeros((5, 2)), 1, {"device": "meta"}, "device 'meta': choose cpu or cuda"),
        (np.zeros((5, 2)), 1, {"method": "loyd"}, "unknown k-means method 'loyd'"),
    ],
)
def test_unusable_input_is_named(vectors: np.ndarray, num_clusters: int, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_kmeans(vectors, num_clusters, **options)


def test_mismatched_dims_are_named() -> None:
    with pytest.raises(InputError, match="do not fit"):
        nearest_centre(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(InputError, match="do not fit"):
        nearest_centre(np.zeros((2, 3)), np.zeros((0, 3)))


def test_missing_faiss_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'syllablelm\[faiss\]'"):
        fit_kmeans(np.random.default_rng(0).standard_normal((9, 2)), 2, method="faiss")


def test_minibatch_of_more_clusters_than_a_batch_holds(monkeypatch) -> None:
    monkeypatch.setattr(kmeans, "BATCH", 100)
    vectors = np.random.default_rng(0).standard_normal((1_000, 4)).astype(np.float32)
    centres = fit_kmeans(vectors, 150, method="minibatch")
    assert centres.shape == (150, 4) and len(np.unique(nearest_centre(vectors, centres)[0])) == 150
