"""Encoders on a CUDA device: the features of the CPU, in every precision, and padding that is not heard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from helpers.random_encoders import FAMILIES, LAYERS, make_encoder
from helpers.random_models import noise
from syllablelm.encoders import attention, extractor
from syllablelm.encoders.hub import HubEncoder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
CLIP, LONG, OTHER = noise(9_000, 1), noise(61_111, 2), noise(12_345, 3)
ALL = range(LAYERS + 1)


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(autouse=True)
def exact_products():
    """Products of float32 in float32, not in TensorFloat32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def distance(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_features_are_those_of_the_cpu(family):
    cpu, gpu = make_encoder(family), make_encoder(family).cuda()
    clips = [OTHER, LONG, CLIP]
    for found, expected in zip(gpu.encode(clips, ALL), cpu.encode(clips, ALL), strict=True):
        for layer in ALL:
            assert found[layer].dtype == np.float32
            np.testing.assert_allclose(found[layer], expected[layer], atol=5e-4, err_msg=f"layer {layer}")


def test_batched_equals_alone(family):
    encoder = make_encoder(family).cuda()
    alone = encoder.encode([CLIP], ALL)[0]
    for clips, place in (([CLIP, LONG], 0), ([OTHER, LONG, CLIP], 2)):
        found = encoder.encode(clips, ALL)[place]
        for layer in ALL:
            np.testing.assert_allclose(found[layer], alone[layer], atol=1e-4, err_msg=f"layer {layer}")


def test_batches_ahead_equal_batch_by_batch(family):
    encoder = make_encoder(family).cuda()
    batches = [[noise(4_000 + 900 * k + 313 * i, k) for i in range(3)] for k in range(6)]
    ahead = list(encoder.encode_batches(batches))
    for found, batch in zip(ahead, batches, strict=True):
        for one, other in zip(found, encoder.encode(batch), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("precision", "bound"), [("float16", 0.01), ("bfloat16", 0.05)])
def test_half_precision_is_near(family, precision, bound):
    encoder = make_encoder(family).cuda()
    exact = encoder.encode([CLIP, LONG])
    encoder.precision = precision
    for found, expected in zip(encoder.encode([CLIP, LONG]), exact, strict=True):
        assert found.dtype == np.float32
        assert 0 < distance(found, expected) < bound


def test_small_tiles_and_blocks_give_the_same(family, monkeypatch):
    encoder = make_encoder(family).cuda()
    whole = encoder.encode([OTHER, LONG, CLIP])
    monkeypatch.setattr(extractor, "TILE_GPU", 20)
    monkeypatch.setattr(attention, "TABLE_GPU", 1)
    for found, expected in zip(encoder.encode([OTHER, LONG, CLIP]), whole, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_true_size_in_half_precision():
    """HuBERT-base with random weights, ten clips in one batch."""
    from transformers.models.hubert.configuration_hubert import HubertConfig
    from transformers.models.hubert.modeling_hubert import HubertModel

    torch.manual_seed(0)
    encoder = HubEncoder(HubertModel(HubertConfig()), 9).cuda()
    clips = [noise(16_000 * (2 + k), k) for k in range(10)]
    exact = encoder.encode(clips)
    np.testing.assert_allclose(encoder.encode(clips[:1])[0], exact[0], atol=1e-4)
    encoder.precision = "bfloat16"
    for found, expected in zip(encoder.encode(clips), exact, strict=True):
        assert distance(found, expected) < 0.03
