from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.seamless_m4t.feature_extraction_seamless_m4t import SeamlessM4TFeatureExtractor
from transformers.models.wav2vec2_bert.configuration_wav2vec2_bert import Wav2Vec2BertConfig
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertModel

from helpers.random_encoders import SIZE, make_encoder, make_model
from helpers.random_models import noise
from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders import attention
from syllablelm.encoders.load import load_encoder
from syllablelm.encoders.padding import pad_waveforms
from syllablelm.encoders.w2vbert import W2vBertEncoder

FLAVOURS = pytest.mark.parametrize("family", ["w2v-bert", "w2v-bert-relative", "w2v-bert-rotary"])
# Of 10 ms spectra these have 2, 3, an even and an odd number.
LENGTHS = (560, 720, 9_040, 9_200, 9_333)
ENCODER = make_encoder("w2v-bert")


def reference_inputs(wave: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """What transformers makes of one clip: features (1, T, 160), with a masked half frame where the count is odd."""
    found: Any = SeamlessM4TFeatureExtractor()(wave, sampling_rate=16_000, return_tensors="pt")
    return found["input_features"], found["attention_mask"]


class TestSpectra:
    @pytest.mark.parametrize("length", LENGTHS)
    def test_equal_those_of_transformers(self, length):
        wave = noise(length, length)
        features, mask = reference_inputs(wave)
        count = int(mask.sum())
        assert ENCODER.num_frames(length) == count
        with torch.no_grad():
            found = ENCODER.convolve(*pad_waveforms([wave], torch.device("cpu")))
        assert found.shape == (1, count, 160)
        # transformers rounds logarithms to float32 before it standardises.
        torch.testing.assert_close(found[0], features[0, :count], atol=2e-4, rtol=1e-4)

    def test_padding_changes_nothing(self):
        clips = [noise(length, length) for length in LENGTHS]
        found = ENCODER.convolve(*pad_waveforms(clips, torch.device("cpu")))
        for row, clip in zip(found, clips, strict=True):
            alone = ENCODER.convolve(*pad_waveforms([clip], torch.device("cpu")))[0]
            torch.testing.assert_close(row[: len(alone)], alone, atol=1e-6, rtol=0)

    def test_silence_is_finite(self):
        assert np.isfinite(ENCODER.encode([np.zeros(4_000, np.float32)])[0]).all()


class TestFrames:
    @given(st.integers(0, 40_000))
    def test_two_spectra_make_a_frame(self, num_samples):
        spectra = (num_samples - 400) // 160 + 1 if num_samples >= 400 else 0
        assert ENCODER.num_frames(num_samples) == spectra // 2
        assert ENCODER.frames(torch.tensor([num_samples])).tolist() == [spectra // 2]

    def test_grid(self):
        assert (ENCODER.hop, ENCODER.receptive_field, ENCODER.sample_rate) == (320, 560, 16_000)

    def test_shortest_clip(self):
        assert ENCODER.encode([noise(560)])[0].shape == (1, 32)
        with pytest.raises(InputError, match=r"559 samples is shorter than one frame \(560 samples\)"):
            ENCODER.encode([noise(559)])


class TestFeatures:
    @FLAVOURS
    @pytest.mark.parametrize("length", LENGTHS[2:])
    def test_layers_are_those_of_transformers(self, family, length):
        model, wave = make_model(family), noise(length, 1)
        features, mask = reference_inputs(wave)
        with torch.no_grad():
            reference = model(features, attention_mask=mask, output_hidden_states=True).hidden_states
        found = W2vBertEncoder(model).encode([wave], layers=range(4))[0]
        for layer in range(4):
            expected = reference[layer][0, : int(mask.sum())].numpy()
            np.testing.assert_allclose(found[layer], expected, atol=5e-5)
        assert np.abs(found[3] - found[0]).max() > 0.1

    def test_distances_beyond_the_clip_of_distances(self, monkeypatch):
        """60 frames behind and 8 ahead have keys of their own; longer clips and small blocks use the last ones."""
        monkeypatch.setattr(attention, "TABLE_CPU", 1)
        model, wave = make_model("w2v-bert"), noise(40_000, 1)
        features, mask = reference_inputs(wave)
        with torch.no_grad():
            reference = model(features, attention_mask=mask).last_hidden_state[0, : int(mask.sum())].numpy()
        assert len(reference) > 64
        np.testing.assert_allclose(W2vBertEncoder(model).encode([wave])[0], reference, atol=5e-5)

    @FLAVOURS
    def test_saved_loaded_and_cut(self, family, tmp_path):
        encoder = make_encoder(family, 2)
        encoder.save(tmp_path)
        loaded, wave = load_encoder(tmp_path, device="cpu"), noise(9_000, 1)
        assert isinstance(loaded, W2vBertEncoder)
        assert (loaded.layer, loaded.dim, loaded.hop) == (2, 32, 320)
        np.testing.assert_array_equal(loaded.encode([wave])[0], encoder.encode([wave])[0])
        first = load_encoder(tmp_path, 1, device="cpu").encode([wave])[0]
        np.testing.assert_array_equal(first, encoder.encode([wave], layers=[1])[0][1])
        # The folder is one that transformers opens by itself, spectra and all.
        model: Any = Wav2Vec2BertModel.from_pretrained(tmp_path)
        spectra: Any = SeamlessM4TFeatureExtractor.from_pretrained(tmp_path)
        with torch.no_grad():
            theirs = model(**spectra(wave, sampling_rate=16_000, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(loaded.encode([wave])[0], theirs[: loaded.num_frames(len(wave))], atol=5e-5)

    def test_other_spectra(self):
        with pytest.raises(FormatError, match="w2v-BERT of 80 inputs"):
            W2vBertEncoder(Wav2Vec2BertModel(Wav2Vec2BertConfig(**SIZE, feature_projection_input_dim=80)))
