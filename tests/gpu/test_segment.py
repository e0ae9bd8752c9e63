"""MinSum on a CUDA device against the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from syllablelm.segment import minsum, minsum_dynamic

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module")
def features():
    """(8, 1250, 768) noisy steps, float32."""
    rng = np.random.default_rng(0)
    clips = []
    for _ in range(8):
        means = np.repeat(rng.standard_normal((1250, 768)), rng.integers(3, 13, 1250), axis=0)[:1250]
        clips.append(means + 0.7 * rng.standard_normal(means.shape))
    return np.stack(clips).astype(np.float32)


def test_minsum(features):
    on_gpu = torch.from_numpy(features).cuda()
    lengths = [1250, 1249, 900, 640, 500, 77, 30, 1]
    counts = [max(1, length // 8) for length in lengths]
    found = minsum(on_gpu, counts, lengths=lengths)
    for boundaries, expected in zip(found, minsum(features, counts, lengths=lengths), strict=True):
        np.testing.assert_array_equal(boundaries, expected)


@pytest.mark.parametrize("delta", [0.2, 0.5, 0.8])
def test_minsum_dynamic(features, delta):
    on_gpu = torch.from_numpy(features).cuda()
    for found, expected in zip(minsum_dynamic(on_gpu, delta), minsum_dynamic(features, delta), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_half_precision_and_lists(features):
    items = [torch.from_numpy(clip[:size]).cuda().half() for clip, size in zip(features, (300, 200), strict=False)]
    for found, item in zip(minsum(items, 30), items, strict=True):
        np.testing.assert_array_equal(found, minsum(item.cpu(), 30))
