from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.configuration_whisper import WhisperConfig
from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder as HubWhisperEncoder
from transformers.models.whisper.modeling_whisper import WhisperForConditionalGeneration

from helpers.random_encoders import LAYERS, WHISPER, make_encoder, make_model
from helpers.random_models import noise
from syllablelm.core.errors import FormatError, InputError
from syllablelm.data.distortions import gain
from syllablelm.encoders.base import TrainableEncoder
from syllablelm.encoders.load import load_encoder, weights_digest
from syllablelm.encoders.masked_prediction import load_maskable
from syllablelm.encoders.padding import pad_waveforms
from syllablelm.encoders.whisper import WhisperEncoder
from syllablelm.encoders.whisper_network import WhisperModel
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.segment_rule import SegmentRule
from syllablelm.tokenizer.tokenizer import Tokenizer

FINAL = LAYERS + 1
ENCODER: Any = make_encoder("whisper")
# 1,500 frames centred at samples 200, 520, ...: the spectrum of 30 s from sample 200 on.
HALF_MINUTE = noise(480_200, 5)


def whole_model(**changes: Any) -> Any:
    """Encoder and decoder, as checkpoints are published."""
    torch.manual_seed(3)
    model: Any = WhisperForConditionalGeneration(
        WhisperConfig(
            **{
                **WHISPER,
                "vocab_size": 60,
                "decoder_start_token_id": 1,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": 2,
                **changes,
            }
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper") / "model"
    whole_model().save_pretrained(path)
    WhisperFeatureExtractor().save_pretrained(path)
    return path


def reference(model: Any, wave: np.ndarray, bands: int = 80) -> tuple[torch.Tensor, Any]:
    """Spectra and states that transformers computes of 30 s, with the weights of ``model``."""
    theirs = HubWhisperEncoder(model.config).eval()
    theirs.load_state_dict(getattr(model, "encoder", model).state_dict())
    spectra: Any = WhisperFeatureExtractor(feature_size=bands)(wave, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        return spectra["input_features"], theirs(spectra["input_features"], output_hidden_states=True)


class TestParity:
    @pytest.mark.parametrize(("family", "bands"), [("whisper", 80), ("whisper-128", 128)])
    def test_spectra_and_layers_of_30_seconds_are_those_of_transformers(self, family, bands):
        encoder: Any = make_encoder(family)
        spectra, states = reference(make_model(family), HALF_MINUTE[200:], bands)
        mel_BFM = encoder.log_mel(torch.from_numpy(HALF_MINUTE)[None], [len(HALF_MINUTE)])
        torch.testing.assert_close(mel_BFM, spectra, atol=1e-5, rtol=0)
        found = encoder.encode([HALF_MINUTE], layers=range(FINAL + 1))[0]
        assert found[FINAL].shape == (1_500, 32)
        np.testing.assert_allclose(found[FINAL], states.last_hidden_state[0], atol=1e-4)
        for layer in range(LAYERS):
            np.testing.assert_allclose(found[layer], states.hidden_states[layer][0], atol=1e-4)
        # The last block's own output is the one below the final norm.
        norm = encoder.model.encoder.layer_norm
        with torch.no_grad():
            np.testing.assert_allclose(norm(torch.from_numpy(found[LAYERS])), found[FINAL], atol=1e-4)

    @pytest.mark.parametrize("family", ["whisper", "whisper-128"])
    def test_the_mel_filters_are_those_of_transformers(self, family):
        encoder: Any = make_encoder(family)
        bands = len(encoder.mel_BF)
        theirs = mel_filter_bank(201, bands, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
        np.testing.assert_allclose(encoder.mel_BF.numpy(), theirs.T, atol=1e-7)

    def test_a_short_clip_is_not_padded_to_30_seconds(self):
        clip = noise(16_000, 1)
        mel_BFM = ENCODER.log_mel(torch.from_numpy(clip)[None], [len(clip)])
        assert mel_BFM.shape == (1, 80, 2 * ENCODER.num_frames(len(clip)))
        spectra, _ = reference(make_model("whisper"), clip[200:])
        # Away from the end, where Whisper's own program sees silence.
        torch.testing.assert_close(mel_BFM[..., :-4], spectra[..., : mel_BFM.shape[2] - 4], atol=1e-5, rtol=0)


class TestPrecision:
    def test_spectra_are_computed_in_single_precision(self):
        wave = torch.from_numpy(noise(9_000, 1))[None]
        with torch.autocast("cpu", torch.bfloat16):
            found = ENCODER.log_mel(wave, [9_000])
        torch.testing.assert_close(found, ENCODER.log_mel(wave, [9_000]), atol=0, rtol=0)

    def test_bfloat16_is_near(self):
        encoder: Any = make_encoder("whisper")
        exact = encoder.encode([noise(9_000, 1)])[0]
        encoder.precision = "bfloat16"
        found = encoder.encode([noise(9_000, 1)])[0]
        assert 0 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.05


class TestGrid:
    @given(st.integers(0, 480_399))
    def test_frames_are_those_of_hubert(self, num_samples):
        expected = (num_samples - 400) // 320 + 1 if num_samples >= 400 else 0
        assert ENCODER.num_frames(num_samples) == expected <= ENCODER.max_frames

    @pytest.mark.parametrize("length", [400, 401, 719, 720, 1_040, 9_279])
    def test_every_length_gives_its_frames(self, length):
        assert ENCODER.encode([noise(length)])[0].shape == (ENCODER.num_frames(length), 32)

    def test_a_click_is_heard_in_the_frame_that_it_lies_in(self):
        for frame in (7, 20, 33):
            wave = np.zeros(16_000, dtype=np.float32)
            wave[320 * frame + 200] = 1.0
            mel_FM = ENCODER.log_mel(torch.from_numpy(wave)[None], [len(wave)])[0]
            assert int(mel_FM.sum(0).argmax()) == 2 * frame

    def test_a_shorter_or_longer_clip_than_there_are_frames_for(self):
        with pytest.raises(InputError, match="399 samples is shorter than one frame"):
            ENCODER.encode([noise(399)])
        assert len(ENCODER.encode([noise(480_399)])[0]) == 1_500
        with pytest.raises(InputError, match=r"1501 frames \(30.0 s\) is longer than Whisper's 1500 positions"):
            ENCODER.encode([noise(480_400)])


class TestLoudness:
    def test_gain_changes_nothing_after_normalisation(self):
        model, clip = make_model("whisper"), noise(9_000, 1)
        plain, level = WhisperEncoder(model), WhisperEncoder(model, normalize=True)
        soft = gain(clip, -6.0)
        np.testing.assert_allclose(level.encode([soft])[0], level.encode([clip])[0], atol=1e-4)
        assert np.abs(plain.encode([soft])[0] - plain.encode([clip])[0]).max() > 1e-2

    def test_silence_is_finite(self):
        for normalize in (False, True):
            encoder = WhisperEncoder(make_model("whisper"), normalize=normalize)
            assert np.isfinite(encoder.encode([np.zeros(4_000, np.float32)])[0]).all()


class TestFolders:
    def test_a_whole_model(self, folder):
        encoder: Any = load_encoder(folder, device="cpu")
        assert isinstance(encoder, WhisperEncoder) and isinstance(encoder, TrainableEncoder)
        assert (encoder.layer, encoder.dim, encoder.normalize) == (FINAL, 32, False)
        _, states = reference(whole_model().model.encoder, HALF_MINUTE[200:])
        np.testing.assert_allclose(encoder.encode([HALF_MINUTE])[0], states.last_hidden_state[0], atol=1e-4)
        assert not any("decoder" in name for name in encoder.state_dict())

    @pytest.mark.parametrize("options", [{"max_shard_size": "10KB"}, {"half": True}])
    def test_shards_and_half_precision(self, folder, options, tmp_path):
        model = whole_model()
        if options.pop("half", False):
            model = model.half()
        model.save_pretrained(tmp_path, **options)
        if options:
            assert len(list(tmp_path.glob("*.safetensors"))) > 1
        encoder, clip = load_encoder(tmp_path, device="cpu"), noise(9_000, 1)
        expected = load_encoder(folder, device="cpu").encode([clip])[0]
        assert next(iter(encoder.parameters())).dtype == torch.float32
        np.testing.assert_allclose(encoder.encode([clip])[0], expected, atol=0.05)

    @pytest.mark.parametrize("layer", [0, 2, LAYERS, FINAL])
    @pytest.mark.parametrize("half", [False, True])
    def test_saved_and_loaded(self, layer, half, tmp_path):
        encoder, clip = WhisperEncoder(make_model("whisper"), layer, normalize=True), noise(9_000, 1)
        encoder.save(tmp_path, half=half)
        loaded: Any = load_encoder(tmp_path, device="cpu")
        assert (loaded.layer, loaded.normalize) == (layer, True)
        tolerance = 0.05 if half else 0
        np.testing.assert_allclose(loaded.encode([clip])[0], encoder.encode([clip])[0], atol=tolerance)
        # What was saved from stays as it was.
        assert next(iter(encoder.parameters())).dtype == torch.float32

    @pytest.mark.parametrize("layer", [0, 2, LAYERS])
    def test_a_cut_encoder_has_no_final_norm(self, layer, tmp_path):
        WhisperEncoder(make_model("whisper"), layer).save(tmp_path)
        top = max(layer, 1)
        with pytest.raises(InputError, match=f"layer {top + 1}: this encoder has layers 0 to {top}"):
            load_encoder(tmp_path, top + 1, device="cpu")

    def test_layers_that_were_cut_off_are_named(self):
        encoder = WhisperEncoder(make_model("whisper"), 2)
        with pytest.raises(InputError, match=r"layers \[1, 9\]: this encoder was cut to layers 0 to 2"):
            encoder.encode([noise(9_000)], layers=[1, 9])

    def test_rescaled_features(self):
        encoder, clip = WhisperEncoder(make_model("whisper")), noise(9_000, 1)
        before = encoder.encode([clip])[0]
        mean, scale = torch.linspace(-1, 1, 32), torch.linspace(0.5, 3, 32)
        assert encoder.rescale(mean, scale)
        np.testing.assert_allclose(encoder.encode([clip])[0], (before - mean.numpy()) / scale.numpy(), atol=1e-4)
        assert not WhisperEncoder(make_model("whisper"), 2).rescale(mean, scale)

    def test_frozen_parts_get_no_gradient(self):
        encoder: Any = WhisperEncoder(make_model("whisper"))
        encoder.freeze(blocks=2)
        encoder(*pad_waveforms([noise(9_000)], torch.device("cpu")))[0].sum().backward()
        moving = {name for name, weight in encoder.named_parameters() if weight.grad is not None}
        assert all(name.startswith(("model.encoder.layers.2", "model.encoder.layer_norm")) for name in moving)
        assert any(name.startswith("model.encoder.layers.2") for name in moving)


class TestLimitedAttention:
    @pytest.mark.parametrize(("left", "right"), [(5, 2), (-1, 0), (4, -1)])
    def test_a_frame_sees_that_far(self, left, right):
        encoder = make_encoder("whisper")
        encoder.limit_attention(left, right)
        inputs_BTD = torch.randn(1, 80, encoder.dim, generator=torch.Generator().manual_seed(0))
        frames_B = torch.tensor([80])
        changed_BTD = inputs_BTD.clone()
        changed_BTD[:, 40] *= -30.0
        with torch.inference_mode():
            before, after = (encoder.transform(one, frames_B)[encoder.layer] for one in (inputs_BTD, changed_BTD))
        moved = (before - after)[0].abs().amax(-1) > 0
        first = 0 if right == -1 else 40 - right * LAYERS
        last = 79 if left == -1 else 40 + left * LAYERS
        assert moved.nonzero().squeeze(1).tolist() == list(range(first, last + 1))

    def test_wide_limits_change_nothing_and_batches_nothing(self):
        encoder = make_encoder("whisper")
        waves = [noise(9000, 1), noise(16_000, 2)]
        free = encoder.encode(waves)
        encoder.limit_attention(1500, 1500)
        for wide, one in zip(encoder.encode(waves), free, strict=True):
            np.testing.assert_allclose(wide, one, atol=1e-5)
        encoder.limit_attention(6, 2)
        together = encoder.encode(waves)
        assert all(np.isfinite(feats).all() for feats in together)
        assert np.abs(together[1] - free[1]).max() > 1e-2
        for wave, feats in zip(waves, together, strict=True):
            np.testing.assert_allclose(encoder.encode([wave])[0], feats, atol=1e-5)

    def test_saved_and_loaded(self, tmp_path):
        encoder = make_encoder("whisper")
        encoder.limit_attention(6, 2)
        encoder.save(tmp_path)
        wave = noise(16_000, 2)
        np.testing.assert_array_equal(load_encoder(tmp_path, device="cpu").encode([wave])[0], encoder.encode([wave])[0])

    def test_training_places_a_clip_anywhere(self):
        encoder = make_encoder("whisper")
        wave_BN, lengths_B = pad_waveforms([noise(16_000, 2)], torch.device("cpu"))

        def twice():
            torch.manual_seed(0)
            return [encoder(wave_BN, lengths_B)[0] for _ in range(2)]

        encoder.train()
        one, other = twice()
        torch.testing.assert_close(one, other)
        encoder.limit_attention(6, 2)
        one, other = twice()
        assert (one - other).abs().max() > 1e-3
        torch.testing.assert_close(twice()[1], other)


class TestMasks:
    def test_only_a_trained_mask_hides_frames(self, folder, tmp_path):
        with pytest.raises(FormatError, match="no mask embedding"):
            load_maskable(folder, device="cpu")
        torch.manual_seed(1)
        encoder: Any = load_maskable(folder, device="cpu", add_mask=True)
        encoder.save(tmp_path)
        again: Any = load_maskable(tmp_path, device="cpu")
        assert torch.equal(again.model.masked_spec_embed, encoder.model.masked_spec_embed)
        assert float(again.model.masked_spec_embed.detach().abs().max()) > 0


class TestBadFolders:
    def change(self, folder, tmp_path, **changes):
        config = json.loads((folder / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
        return load_file(folder / "model.safetensors")

    def test_no_encoder_weights(self, folder, tmp_path):
        weights = self.change(folder, tmp_path)
        kept = {name: value for name, value in weights.items() if "encoder." not in name}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(FormatError, match="weights are missing"):
            load_encoder(tmp_path, device="cpu")

    def test_other_mel_bands(self, folder, tmp_path):
        weights = self.change(folder, tmp_path, num_mel_bins=128)
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(FormatError, match=r"where config\.json says"):
            load_encoder(tmp_path, device="cpu")
        with pytest.raises(FormatError, match="a Whisper of 40 mel bands; those of 80 and of 128"):
            WhisperEncoder(WhisperModel(WhisperConfig(**WHISPER, num_mel_bins=40)))

    def test_a_damaged_configuration(self, folder, tmp_path):
        save_file(self.change(folder, tmp_path, encoder_layers="six"), tmp_path / "model.safetensors")
        with pytest.raises(FormatError, match=r"config.json: encoder_layers is .six.: a whole number is needed"):
            load_encoder(tmp_path, device="cpu")

    def test_a_layer_that_is_not_there(self, folder):
        with pytest.raises(InputError, match=f"layer {FINAL + 1}: this encoder has layers 0 to {FINAL}"):
            load_encoder(folder, FINAL + 1, device="cpu")

    def test_pad_is_for_others(self, folder):
        with pytest.raises(InputError, match="takes no pad"):
            load_encoder(folder, device="cpu", pad=40)


class TestTokenizer:
    def tokenizer(self, **options: Any) -> Tokenizer:
        rng = np.random.default_rng(0)
        centres = rng.standard_normal((8, 32)).astype(np.float32)
        codebook = Codebook(centres, np.arange(8, dtype=np.int32))
        return Tokenizer(make_encoder("whisper"), codebook, SegmentRule(rate=5.0), **options)

    def test_windows_are_at_most_30_seconds(self):
        assert self.tokenizer().window_seconds == 30.0
        assert self.tokenizer(window_seconds=10.0).window_seconds == 10.0

    def test_streamed_equals_whole(self):
        tokenizer, wave = self.tokenizer(), noise(16_000 * 70, 9)
        whole = tokenizer.encode(wave)
        pieces = list(tokenizer.stream(np.array_split(wave, 23)))
        joined = type(whole).join(pieces)
        assert len(pieces) > 1 and whole.num_frames == (len(wave) - 400) // 320 + 1
        for name in ("start", "end", "unit"):
            np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_the_digest_of_weights_is_that_of_every_copy(folder, tmp_path):
    encoder: Any = load_encoder(folder, device="cpu")
    rounded: Any = load_encoder(folder, device="cpu")
    with torch.no_grad():
        for weight in rounded.parameters():
            weight.copy_(weight.half().float())
    encoder.save(tmp_path, half=True)
    found = {weights_digest(model) for model in (encoder, rounded, load_encoder(tmp_path, device="cpu"))}
    assert len(found) == 1 and len(found.pop()) == 64
    assert weights_digest(make_encoder("whisper")) != weights_digest(encoder)
