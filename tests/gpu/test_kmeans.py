"""k-means on a CUDA device against the CPU: the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.quantize import fit_codebook, fit_kmeans, nearest_centre

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """(30_000, 768) float32."""
    return np.random.default_rng(0).standard_normal((30_000, 768)).astype(np.float32)


def test_nearest_centre(vectors):
    found = nearest_centre(vectors, vectors[:3000], device="cuda")
    for on_gpu, expected in zip(found, nearest_centre(vectors, vectors[:3000]), strict=True):
        np.testing.assert_array_equal(on_gpu, expected)


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
def test_clusters(vectors, method, tmp_path):
    np.save(tmp_path / "all.npy", vectors)
    options = {"method": method, "max_iter": 3}
    expected = fit_kmeans(vectors, 512, **options)
    np.testing.assert_array_equal(fit_kmeans(tmp_path / "all.npy", 512, device="cuda", **options), expected)


def test_codebook(vectors):
    assert fit_codebook(vectors, 100, device="cuda", max_iter=3) == fit_codebook(
        vectors, 100, device="cpu", method="minibatch", max_iter=3
    )
