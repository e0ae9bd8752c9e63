from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from helpers.random_encoders import FAMILIES, make_encoder, make_model
from helpers.random_models import SHAPE, noise
from syllablelm.core.errors import InputError
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.load import load_encoder
from syllablelm.encoders.padding import pad_waveforms

CLIP, LONG, OTHER = noise(9_000, 1), noise(41_111, 2), noise(12_345, 3)


def small_encoder(normalize: bool = False) -> HubEncoder:
    torch.manual_seed(0)
    return HubEncoder(SHAPE.build(), normalize=normalize)


@pytest.fixture(params=[name for name in FAMILIES if not name.startswith(("w2v-bert", "whisper"))])
def family(request) -> str:
    return request.param


class TestEveryFamily:
    def test_layers_are_those_of_transformers(self, family):
        model = make_model(family)
        with torch.no_grad():
            reference = model(torch.from_numpy(CLIP)[None], output_hidden_states=True)
        found = HubEncoder(model).encode([CLIP], layers=range(4))[0]
        for layer in range(4):
            np.testing.assert_allclose(found[layer], reference.hidden_states[layer][0].numpy(), atol=1e-5)
        last = torch.from_numpy(found[3])
        if family.endswith("stable"):
            # Pre-norm models: layer n is the residual stream; only transformers' output passes the final norm.
            last = model.encoder.layer_norm(last).detach()
        np.testing.assert_allclose(last, reference.last_hidden_state[0].numpy(), atol=1e-5)

    def test_cutting_off_layers_changes_none_below(self, family):
        whole = make_encoder(family).encode([CLIP, LONG], layers=range(4))
        for layer in range(3):
            cut = make_encoder(family, layer)
            assert len(cut.model.encoder.layers) == max(layer, 1)
            for found, expected in zip(cut.encode([CLIP, LONG]), whole, strict=True):
                np.testing.assert_array_equal(found, expected[layer])

    def test_saved_loaded_and_cut_again(self, family, tmp_path, capfd):
        encoder = HubEncoder(make_model(family), 2, normalize=True)
        encoder.save(tmp_path)
        loaded = load_encoder(tmp_path, device="cpu")
        assert (loaded.layer, loaded.normalize, loaded.dim, loaded.hop) == (2, True, 32, encoder.hop)
        np.testing.assert_array_equal(loaded.encode([CLIP])[0], encoder.encode([CLIP])[0])
        first = load_encoder(str(tmp_path), 1, device="cpu").encode([CLIP])[0]
        np.testing.assert_array_equal(first, encoder.encode([CLIP], layers=[1])[0][1])
        assert capfd.readouterr() == ("", "")

    def test_layer_0_is_saved_as_such(self, family, tmp_path):
        model = make_model(family)
        encoder = HubEncoder(model, 0)
        encoder.save(tmp_path)
        loaded = load_encoder(tmp_path, device="cpu")
        assert loaded.layer == 0
        np.testing.assert_array_equal(loaded.encode([CLIP])[0], encoder.encode([CLIP])[0])
        assert model.config.num_hidden_layers == 3, "the model's own configuration stays as it was"
        assert load_encoder(tmp_path, 1, device="cpu").layer == 1

    def test_always_has_its_layer_while_training(self, family):
        model = make_model(family)
        model.config.layerdrop = 0.9
        encoder = HubEncoder(model).train()
        wave_BN, lengths_B = pad_waveforms([CLIP, OTHER], torch.device("cpu"))
        for _ in range(5):
            feats_BTD, _ = encoder(wave_BN, lengths_B)
            assert feats_BTD.requires_grad

    def test_gradients_reach_the_input_and_leave_it_as_it_was(self, family):
        encoder = make_encoder(family)
        wave_BN, lengths_B = pad_waveforms([CLIP, OTHER], torch.device("cpu"))
        with torch.no_grad():
            conv_BTC = encoder.convolve(wave_BN, lengths_B)
        input_BTD = encoder.project(conv_BTC).detach().requires_grad_()
        before = input_BTD.detach().clone()
        frames_B = encoder.frames(lengths_B)
        encoder.transform(input_BTD, frames_B)[3][0, : int(frames_B[0])].square().sum().backward()
        assert torch.equal(input_BTD, before)
        assert input_BTD.grad is not None
        assert (input_BTD.grad[0, : int(frames_B[0])] != 0).any()
        assert (input_BTD.grad[0, int(frames_B[0]) :] == 0).all() and (input_BTD.grad[1] == 0).all()


class TestFrames:
    @given(st.integers(0, 40_000))
    def test_formula_of_hubert(self, num_samples):
        encoder = ENCODER
        expected = num_samples
        for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True):
            expected = max(0, (expected - kernel) // stride + 1)
        assert encoder.num_frames(num_samples) == expected
        assert encoder.frames(torch.tensor([num_samples])).tolist() == [expected]

    def test_equals_what_the_convolutions_give(self):
        edges = [400 + 320 * k + extra for k in (0, 1, 2, 7, 50) for extra in (-1, 0, 1, 319)]
        lengths = [n for n in edges if n >= 400] + [1000, 1234, 9_999, 33_333]
        for encoder in (ENCODER, small_encoder()):
            assert (encoder.receptive_field, encoder.hop) == (400, 320)
            for length in lengths:
                with torch.no_grad():
                    conv_BTC = encoder.convolve(torch.zeros(1, length), torch.tensor([length]))
                assert conv_BTC.shape[1] == encoder.num_frames(length)


ENCODER = make_encoder("hubert-layer")


class TestEncode:
    def test_shortest_clip_is_one_frame(self):
        assert small_encoder().encode([CLIP[:400]])[0].shape == (1, 32)

    def test_a_clip_below_one_frame_is_named(self):
        with pytest.raises(InputError, match=r"399 samples is shorter than one frame \(400 samples\)") as caught:
            small_encoder().encode([CLIP, CLIP[:399]])
        assert "\n" not in str(caught.value)

    def test_nothing_in_nothing_out(self):
        assert small_encoder().encode([]) == []

    def test_float64_and_strided_waveforms(self):
        encoder = small_encoder()
        expected = encoder.encode([CLIP])[0]
        assert expected.dtype == np.float32
        np.testing.assert_array_equal(encoder.encode([CLIP.astype(np.float64)])[0], expected)
        np.testing.assert_array_equal(encoder.encode([np.repeat(CLIP, 2)[::2]])[0], expected)

    def test_normalisation_is_by_each_clip_alone(self):
        encoder, plain = small_encoder(normalize=True), small_encoder()
        moved = 3.0 * CLIP + 0.25
        alone = encoder.encode([moved])[0]
        np.testing.assert_allclose(encoder.encode([CLIP])[0], alone, atol=1e-4)
        with torch.no_grad():
            padded = encoder(*pad_waveforms([LONG, moved], torch.device("cpu")))[0][1, : len(alone)]
        np.testing.assert_allclose(padded, alone, atol=1e-4)
        by_hand = ((moved - moved.mean()) / moved.std()).astype(np.float32)
        np.testing.assert_allclose(plain.encode([by_hand])[0], alone, atol=1e-4)
        assert np.abs(plain.encode([moved])[0] - plain.encode([CLIP])[0]).max() > 0.01

    def test_normalised_silence_is_finite(self):
        assert np.isfinite(small_encoder(normalize=True).encode([np.zeros(4000, np.float32), CLIP])[0]).all()

    def test_layers_out_of_range(self):
        with pytest.raises(InputError, match="layers 0 to 2"):
            HubEncoder(SHAPE.build(), 3)
        with pytest.raises(InputError, match="cut to layers 0 to 1"):
            HubEncoder(SHAPE.build(), 1).encode([CLIP], layers=[2])


class TestPad:
    """Zero samples on both sides, with which the units of TWIST were made."""

    def test_equals_a_padded_waveform(self):
        model = make_model("mhubert-25hz")
        with torch.no_grad():
            padded = F.pad(torch.from_numpy(OTHER)[None], (40, 40))
            reference = model(padded, output_hidden_states=True).hidden_states[2][0].numpy()
        encoder = HubEncoder(model, 2, pad=40)
        assert (encoder.hop, encoder.window, encoder.receptive_field) == (640, 720, 640)
        np.testing.assert_allclose(encoder.encode([OTHER])[0], reference, atol=1e-5)
        with torch.no_grad():
            batched = encoder(*pad_waveforms([OTHER, LONG], torch.device("cpu")))[0][0, : len(reference)]
        np.testing.assert_allclose(batched, reference, atol=1e-4)

    def test_one_frame_for_each_hop(self):
        encoder = HubEncoder(make_model("mhubert-25hz"), pad=40)
        assert [encoder.num_frames(n) for n in (0, 639, 640, 1279, 1280, 64_000)] == [0, 0, 1, 1, 2, 100]
        assert encoder.encode([CLIP[:640]])[0].shape == (1, 32)
        with pytest.raises(InputError, match=r"639 samples is shorter than one frame \(640 samples\)"):
            encoder.encode([CLIP[:639]])

    def test_standardising_comes_first(self):
        found = HubEncoder(make_model("hubert-layer"), normalize=True, pad=40).encode([CLIP])[0]
        by_hand = (CLIP - CLIP.mean()) / np.sqrt(CLIP.var() + 1e-7)
        expected = HubEncoder(make_model("hubert-layer")).encode([np.pad(by_hand, 40)])[0]
        np.testing.assert_allclose(found, expected, atol=1e-4)

    @pytest.mark.parametrize("pad", [-1, 200])
    def test_out_of_range(self, pad):
        with pytest.raises(InputError, match=f"pad {pad}: at least 0"):
            HubEncoder(make_model("hubert-layer"), pad=pad)
