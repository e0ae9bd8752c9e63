"""The same features alone, in a batch with a much longer clip, and at any place in it: every family, every layer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from helpers.random_encoders import DIM, FAMILIES, LAYERS, make_encoder
from helpers.random_models import noise
from syllablelm.core.errors import InputError
from syllablelm.encoders import attention, extractor
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.padding import pad_waveforms

CLIP, LONG, OTHER = noise(9_000, 1), noise(61_111, 2), noise(12_345, 3)
ALL = range(LAYERS + 1)


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@torch.no_grad()
def encode_padded(encoder: HubEncoder, clips: Sequence[Any], layers: Sequence[int] = ALL) -> list[dict[int, Any]]:
    """All clips in one padded batch, as on a GPU; on a CPU ``encode`` would sort them by length."""
    wave_BN, lengths_B = pad_waveforms(clips, torch.device("cpu"))
    frames_B = encoder.frames(lengths_B)
    outputs = encoder.transform(encoder.project(encoder.convolve(wave_BN, lengths_B)), frames_B, layers)
    return [{layer: feats[b, :count].numpy() for layer, feats in outputs.items()} for b, count in enumerate(frames_B)]


def assert_same(found: dict[int, Any], expected: dict[int, Any], where: str = "") -> None:
    assert found.keys() == expected.keys()
    for layer, feats in expected.items():
        assert found[layer].shape == feats.shape
        np.testing.assert_allclose(found[layer], feats, atol=1e-4, err_msg=f"layer {layer} {where}")


class TestEveryFamily:
    def test_padded_equals_alone(self, family):
        encoder = make_encoder(family)
        alone = encode_padded(encoder, [CLIP])[0]
        assert alone[LAYERS].shape == (encoder.num_frames(len(CLIP)), DIM)
        assert np.abs(alone[LAYERS] - alone[0]).max() > 0.1
        for clips, place in (([CLIP, LONG], 0), ([OTHER, LONG, CLIP], 2), ([CLIP, OTHER, LONG], 0)):
            assert_same(encode_padded(encoder, clips)[place], alone, f"{place} of {len(clips)}")

    def test_encode_gives_the_same(self, family):
        encoder = make_encoder(family)
        clips = [CLIP, LONG, OTHER, noise(9_100, 4)]
        expected = [encode_padded(encoder, [clip])[0] for clip in clips]
        for found, alone in zip(encoder.encode(clips, layers=ALL), expected, strict=True):
            assert_same(found, alone)
        batches = list(encoder.encode_batches([clips[:1], [], clips[1:]], layers=ALL))
        assert [len(batch) for batch in batches] == [1, 0, 3]
        for found, alone in zip([*batches[0], *batches[2]], expected, strict=True):
            assert_same(found, alone)

    @pytest.mark.parametrize("threads", [2, 5])
    def test_groups_in_threads_give_the_same(self, family, threads):
        encoder, before = make_encoder(family), torch.get_num_threads()
        # Groups of similar lengths, some of which are padded.
        clips = [noise(length, length) for length in (9_000, 9_100, 9_300, 12_345, 12_900, 20_000, 21_000, 33_333)]
        expected = [encode_padded(encoder, [clip])[0] for clip in clips]
        torch.set_num_threads(threads)
        try:
            for found, alone in zip(encoder.encode(clips, layers=ALL), expected, strict=True):
                assert_same(found, alone)
            with ThreadPoolExecutor(1) as pool:
                assert torch.get_num_threads() == pool.submit(torch.get_num_threads).result() == threads
            with pytest.raises(InputError, match="shorter than one frame"):
                encoder.encode([*clips, noise(10, 1)])
        finally:
            torch.set_num_threads(before)

    def test_gpu_tiles_give_the_same(self, family, monkeypatch):
        if family.startswith(("w2v-bert", "whisper")):
            pytest.skip("its spectra are computed in one piece")
        clips = [OTHER, CLIP, LONG]
        expected = encode_padded(make_encoder(family), clips)
        tiles = extractor._tiles
        monkeypatch.setattr(extractor, "TILE_GPU", 50)
        monkeypatch.setattr(extractor, "_tiles", lambda frames, device: tiles(frames, "cuda"))
        for found, whole in zip(encode_padded(make_encoder(family), clips), expected, strict=True):
            assert_same(found, whole)

    def test_recording_gradients_gives_the_same(self, family):
        encoder = make_encoder(family)
        wave_BN, lengths_B = pad_waveforms([CLIP, OTHER], torch.device("cpu"))
        feats_BTD, frames_B = encoder(wave_BN, lengths_B)
        for clip, feats_TD, count in zip([CLIP, OTHER], feats_BTD.detach(), frames_B, strict=True):
            alone = encode_padded(encoder, [clip], [encoder.layer])[0][encoder.layer]
            np.testing.assert_allclose(feats_TD[:count], alone, atol=1e-4)

    def test_what_lies_behind_the_end_is_never_heard(self, family):
        encoder = make_encoder(family)
        wave_BN, lengths_B = pad_waveforms([CLIP, LONG], torch.device("cpu"))
        noisy_BN = wave_BN.clone()
        noisy_BN[0, len(CLIP) :] = 3.0
        with torch.no_grad():
            quiet, loud = (
                encoder(wave, lengths_B)[0][0, : encoder.num_frames(len(CLIP))] for wave in (wave_BN, noisy_BN)
            )
        torch.testing.assert_close(loud, quiet, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["data2vec-audio", "mhubert-25hz"])
def test_zeroing_the_input_of_positional_convolutions_would_not_do(family, monkeypatch):
    encoder = make_encoder(family)
    alone = encode_padded(encoder, [CLIP])[0]
    monkeypatch.setattr(HubEncoder, "_positions", lambda self, x_BTD, mask_BT: self.model.encoder.pos_conv_embed(x_BTD))
    assert np.abs(encode_padded(encoder, [CLIP, LONG])[0][0] - alone[0]).max() > 1e-2


class TestBlocksOfQueries:
    @pytest.mark.parametrize("family", ["wavlm-group", "w2v-bert"])
    def test_small_blocks_give_the_same(self, family, monkeypatch):
        whole = encode_padded(make_encoder(family), [CLIP, LONG])
        monkeypatch.setattr(attention, "TABLE_CPU", 1)
        for found, expected in zip(encode_padded(make_encoder(family), [CLIP, LONG]), whole, strict=True):
            assert_same(found, expected)

    @pytest.mark.parametrize("family", ["wavlm-layer-stable", "w2v-bert"])
    def test_gradients_reach_the_biases(self, family):
        encoder = make_encoder(family).train()
        wave_BN, lengths_B = pad_waveforms([CLIP, OTHER], torch.device("cpu"))
        feats_BTD, frames_B = encoder(wave_BN, lengths_B)
        feats_BTD[0, : int(frames_B[0])].square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in encoder.named_parameters() if "embed" in name}
        wanted = [name for name in gradients if "rel_attn_embed" in name or "distance_embedding" in name]
        assert wanted
        for name in wanted:
            gradient = gradients[name]
            assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().max() > 0, name


class TestPrecision:
    def test_bfloat16_is_near(self, family):
        encoder = make_encoder(family)
        exact = encoder.encode([CLIP, LONG])
        encoder.precision = "bfloat16"
        for found, expected in zip(encoder.encode([CLIP, LONG]), exact, strict=True):
            assert found.dtype == np.float32
            difference = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            assert 0 < difference < 0.05


@pytest.mark.slow
def test_true_size():
    """HuBERT-base with random weights: against transformers alone, and beside a longer clip."""
    from transformers.models.hubert.configuration_hubert import HubertConfig
    from transformers.models.hubert.modeling_hubert import HubertModel

    torch.manual_seed(0)
    model: Any = HubertModel(HubertConfig()).eval()
    with torch.no_grad():
        reference = model(torch.from_numpy(OTHER)[None], output_hidden_states=True).hidden_states
    expected = {layer: hidden[0].numpy() for layer, hidden in enumerate(reference)}
    encoder = HubEncoder(model)
    layers = range(13)
    assert_same(encoder.encode([OTHER], layers)[0], expected, "alone")
    assert_same(encode_padded(encoder, [LONG, OTHER, CLIP], layers)[1], expected, "in a batch")
