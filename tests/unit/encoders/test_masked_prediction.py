from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.random_models import SHAPE, noise, small_predictor
from syllablelm.core.errors import FormatError
from syllablelm.encoders import MaskedPredictor, load_encoder
from syllablelm.encoders.heads import HEAD_FILE, PredictionHead
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.padding import pad_waveforms

CLIPS = [noise(9_000, 1), noise(14_321, 2)]


def padded():
    return pad_waveforms(CLIPS, torch.device("cpu"))


class TestMasking:
    def test_mask_embedding_in_the_place_of_masked_frames_only(self):
        model = small_predictor()
        input_BTD, frames_B = model.inputs(*padded())
        before = input_BTD.clone()
        mask_BT = torch.zeros(input_BTD.shape[:2], dtype=torch.bool)
        mask_BT[0, 3:6] = mask_BT[1, 30] = True
        by_hand = input_BTD.clone()
        for b, t in mask_BT.nonzero().tolist():
            by_hand[b, t] = model.encoder.model.masked_spec_embed
        with torch.no_grad():
            found = model.hidden(input_BTD, frames_B, mask_BT)
            expected = model.hidden(by_hand, frames_B)
        assert torch.equal(input_BTD, before)
        valid = torch.arange(found.shape[1]) < frames_B[:, None]
        assert torch.equal(found[valid], expected[valid])
        with torch.no_grad():
            assert (found - model.hidden(input_BTD, frames_B))[valid].abs().max() > 0.1

    def test_what_is_masked_is_not_heard(self):
        model = small_predictor()
        with torch.no_grad():
            input_BTD, frames_B = model.inputs(*padded())
            mask_BT = torch.zeros(input_BTD.shape[:2], dtype=torch.bool)
            mask_BT[:, 5:12] = True
            changed = input_BTD.clone()
            changed[:, 5:12] = torch.randn(2, 7, 32)
            found = model.hidden(changed, frames_B, mask_BT)
            assert torch.equal(found, model.hidden(input_BTD, frames_B, mask_BT))

    @pytest.mark.parametrize("stable", [False, True])
    def test_as_transformers_masks(self, stable):
        """In models with the norm before each block's parts, the head reads what the last norm gives."""
        from transformers.models.hubert.modeling_hubert import HubertModel

        shape: Any = SHAPE.build()
        config = shape.config
        config.do_stable_layer_norm, config.apply_spec_augment = stable, True
        torch.manual_seed(0)
        theirs = HubertModel(config).eval()
        model = MaskedPredictor(HubEncoder(theirs), PredictionHead(32, 7))
        wave = torch.from_numpy(CLIPS[0])[None]
        input_BTD, frames_B = model.inputs(wave, torch.tensor([wave.shape[1]]))
        mask_BT = torch.arange(input_BTD.shape[1])[None] % 7 < 3
        with torch.no_grad():
            expected = theirs(wave, mask_time_indices=mask_BT).last_hidden_state
            found = model.hidden(input_BTD, frames_B, mask_BT)
            assert (found - model.hidden(input_BTD, frames_B)).abs().max() > 0.1
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)

    def test_forward_gives_the_masked_frames_in_order(self):
        model = small_predictor()
        wave_BN, lengths_B = padded()
        frames = model.encoder.frames(lengths_B)
        mask_BT = torch.zeros(2, int(frames.max()), dtype=torch.bool)
        mask_BT[0, [2, 9]] = mask_BT[1, [0, 40]] = True
        with torch.no_grad():
            logits = model(wave_BN, lengths_B, mask_BT)
            everywhere = model.head(model.hidden(*model.inputs(wave_BN, lengths_B), mask_BT))
        assert logits.shape == (4, 7)
        assert torch.allclose(logits, torch.stack([everywhere[b, t] for b, t in mask_BT.nonzero().tolist()]), atol=1e-6)

    def test_batched_equals_alone(self):
        model = small_predictor()
        wave_BN, lengths_B = padded()
        frames = model.encoder.frames(lengths_B).tolist()
        mask_BT = torch.zeros(2, max(frames), dtype=torch.bool)
        mask_BT[:, 4:14] = True
        with torch.no_grad():
            together = model(wave_BN, lengths_B, mask_BT)
            alone = model(torch.from_numpy(CLIPS[0])[None], lengths_B[:1], mask_BT[:1, : frames[0]])
        assert torch.allclose(together[:10], alone, atol=1e-4)


class TestShape:
    def test_no_layer_is_dropped_and_transformers_masks_nothing(self):
        model: Any = SHAPE.build()
        config = model.config
        assert config.layerdrop == 0 and not config.apply_spec_augment

    @pytest.mark.parametrize("channels", [16, 17])
    def test_filterbank_start(self, channels):
        shape = replace(SHAPE, conv_dim=(channels, 16, 16, 16), filterbank=True)
        torch.manual_seed(0)
        model: Any = shape.build()
        filters = model.feature_extractor.conv_layers[0].conv.weight.detach()[:16, 0]
        assert torch.allclose(filters.norm(dim=1), torch.full((16,), 10.0), atol=1e-4)
        assert filters.sum(1).abs().max() < 1e-4
        power = torch.fft.rfft(filters, 1024).abs().square()
        hertz = torch.arange(513) * 16_000 / 1024
        centres = (power * hertz).sum(1) / power.sum(1)
        # Cosine and sine of a pair hear the same band; bands rise. The lowest is below what 40 taps resolve.
        assert (centres[4::2] > centres[2:-2:2]).all() and centres[2] < 700 and centres[14] > 4500
        assert torch.allclose(centres[4::2], centres[5::2], rtol=0.1)
        assert (filters[4::2] * filters[5::2]).sum(1).abs().max() < 1.0


class TestSaveAndLoad:
    def test_round_trip(self, tmp_path, capfd):
        model = small_predictor()
        model.head.temperature = 0.07
        model.encoder.normalize = True
        model.save(tmp_path)
        loaded = MaskedPredictor.load(tmp_path, device="cpu")
        assert capfd.readouterr() == ("", "")
        assert not loaded.training and loaded.head.temperature == 0.07 and loaded.encoder.normalize
        assert loaded.state_dict().keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name
        wave_BN, lengths_B = padded()
        mask_BT = torch.zeros(2, 44, dtype=torch.bool)
        mask_BT[:, 5:9] = True
        with torch.no_grad():
            assert torch.equal(loaded(wave_BN, lengths_B, mask_BT), model(wave_BN, lengths_B, mask_BT))

    def test_transformers_opens_it(self, tmp_path):
        from transformers.models.hubert.modeling_hubert import HubertModel

        model = small_predictor()
        model.save(tmp_path)
        theirs = HubertModel.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            reference = theirs(torch.from_numpy(CLIPS[0])[None], output_hidden_states=True)
        ours = load_encoder(tmp_path, device="cpu").encode([CLIPS[0]], layers=range(3))[0]
        for layer in range(3):
            np.testing.assert_allclose(ours[layer], reference.hidden_states[layer][0].numpy(), atol=1e-6)
        np.testing.assert_array_equal(ours[2], model.encoder.encode([CLIPS[0]])[0])

    def fails(self, folder: Path, match: str) -> None:
        with pytest.raises(FormatError, match=match) as caught:
            MaskedPredictor.load(folder, device="cpu")
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)

    def test_no_head(self, tmp_path):
        HubEncoder(SHAPE.build()).save(tmp_path)
        self.fails(tmp_path, f"no {HEAD_FILE}; LossPred needs")

    def test_damaged_head(self, tmp_path):
        small_predictor().save(tmp_path)
        path = tmp_path / HEAD_FILE
        path.write_bytes(path.read_bytes()[:-100])
        self.fails(tmp_path, "weights cannot be read")

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"label_embeddings": None}, "not a prediction head"),
            ({"projection.bias": torch.zeros(3)}, "not the weights of this prediction head"),
            ({"projection.weight": torch.zeros(16)}, "not a prediction head"),
            ({"extra": torch.zeros(1)}, "not the weights of this prediction head"),
            ({"projection.weight": torch.zeros(16, 48)}, "a head for 48 dimensions beside an encoder of 32"),
        ],
    )
    def test_unfit_heads(self, tmp_path, change, match):
        from safetensors.torch import load_file, save_file

        small_predictor().save(tmp_path)
        tensors = {**load_file(tmp_path / HEAD_FILE), **change}
        save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, tmp_path / HEAD_FILE)
        self.fails(tmp_path, match)

    def test_unreadable_temperature(self, tmp_path):
        from safetensors.torch import load_file, save_file

        small_predictor().save(tmp_path)
        save_file(load_file(tmp_path / HEAD_FILE), tmp_path / HEAD_FILE, metadata={"temperature": "warm"})
        self.fails(tmp_path, "not a prediction head")

    def test_samples_put_around(self, tmp_path):
        model = small_predictor()
        model.encoder.set_pad(40)
        model.save(tmp_path)
        loaded = MaskedPredictor.load(tmp_path, device="cpu")
        assert loaded.encoder.pad == 40
        np.testing.assert_array_equal(loaded.encoder.encode(CLIPS)[0], model.encoder.encode(CLIPS)[0])

    def test_head_without_its_encoder(self, tmp_path):
        small_predictor().save(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        self.fails(tmp_path, "no weights")
