from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.data2vec.configuration_data2vec_audio import Data2VecAudioConfig
from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioModel
from transformers.models.hubert.configuration_hubert import HubertConfig
from transformers.models.hubert.modeling_hubert import HubertModel
from transformers.models.wav2vec2.configuration_wav2vec2 import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Model
from transformers.models.wavlm.configuration_wavlm import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMModel

from small import SHAPE, noise
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.hub import HubEncoder, frame_mask, load_encoder, load_model, pad_waveforms, save_encoder
from syllablelm.errors import FormatError, InputError

# transformers' WavLM mixes two kinds of masks, which torch has announced to refuse one day.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 15,
    "num_conv_pos_embedding_groups": 4,
    "initializer_range": 0.2,
}
DATA2VEC: dict[str, Any] = {**COMMON, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}
GROUP: dict[str, Any] = {"feat_extract_norm": "group", "conv_bias": False}
LAYER: dict[str, Any] = {"feat_extract_norm": "layer", "conv_bias": True}
STABLE: dict[str, Any] = {"do_stable_layer_norm": True}
FAMILIES = {
    "hubert-layer": lambda: HubertModel(HubertConfig(**COMMON, **LAYER)),
    "hubert-layer-stable": lambda: HubertModel(HubertConfig(**COMMON, **LAYER, **STABLE)),
    "hubert-group": lambda: HubertModel(HubertConfig(**COMMON, **GROUP)),
    "hubert-group-stable": lambda: HubertModel(HubertConfig(**COMMON, **GROUP, **STABLE)),
    "wav2vec2-group": lambda: Wav2Vec2Model(Wav2Vec2Config(**COMMON, **GROUP)),
    "wav2vec2-layer-stable": lambda: Wav2Vec2Model(Wav2Vec2Config(**COMMON, **LAYER, **STABLE)),
    "wavlm-group": lambda: WavLMModel(WavLMConfig(**COMMON, **GROUP)),
    "wavlm-layer-stable": lambda: WavLMModel(WavLMConfig(**COMMON, **LAYER, **STABLE)),
    "data2vec-audio": lambda: Data2VecAudioModel(Data2VecAudioConfig(**DATA2VEC)),
}
CLIP, LONG, OTHER = noise(9_000, 1), noise(41_111, 2), noise(12_345, 3)


def make(family: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model: Any = FAMILIES[family]().eval()
    if "wavlm" in family:
        with torch.no_grad():
            # Zero at the start, so that a wrong relative position would not show.
            for layer in model.encoder.layers:
                layer.attention.gru_rel_pos_const.uniform_(0.5, 2.0)
    return model


def small_encoder(normalize: bool = False) -> HubEncoder:
    torch.manual_seed(0)
    return HubEncoder(SHAPE.build(), normalize=normalize)


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


class TestEveryFamily:
    def test_batched_equals_alone(self, family):
        encoder, layers = HubEncoder(make(family)), range(4)
        alone = encoder.encode([CLIP], layers=layers)[0]
        batches = {"beside a longer clip": ([CLIP, LONG], 0), "last of three": ([OTHER, LONG, CLIP], 2)}
        for where, (batch, place) in batches.items():
            found = encoder.encode(batch, layers=layers)[place]
            for layer in layers:
                assert found[layer].shape == alone[layer].shape == (encoder.num_frames(len(CLIP)), 32)
                np.testing.assert_allclose(found[layer], alone[layer], atol=1e-4, err_msg=f"layer {layer}, {where}")
        assert np.abs(alone[3] - alone[0]).max() > 0.1

    def test_layers_are_those_of_transformers(self, family):
        model = make(family)
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
        whole = HubEncoder(make(family)).encode([CLIP, LONG], layers=range(4))
        for layer in range(3):
            cut = HubEncoder(make(family), layer)
            assert len(cut.model.encoder.layers) == max(layer, 1)
            for found, expected in zip(cut.encode([CLIP, LONG]), whole, strict=True):
                np.testing.assert_array_equal(found, expected[layer])

    def test_saved_loaded_and_cut_again(self, family, tmp_path, capfd):
        encoder = HubEncoder(make(family), 2, normalize=True)
        save_encoder(encoder, tmp_path)
        loaded = load_encoder(tmp_path, device="cpu")
        assert (loaded.layer, loaded.normalize, loaded.dim, loaded.hop) == (2, True, 32, 320)
        np.testing.assert_array_equal(loaded.encode([CLIP])[0], encoder.encode([CLIP])[0])
        first = load_encoder(str(tmp_path), 1, device="cpu").encode([CLIP])[0]
        np.testing.assert_array_equal(first, encoder.encode([CLIP], layers=[1])[0][1])
        assert capfd.readouterr() == ("", "")

    def test_always_has_its_layer_while_training(self, family):
        model = make(family)
        model.config.layerdrop = 0.9
        encoder = HubEncoder(model).train()
        wave_BN, lengths_B = pad_waveforms([CLIP, OTHER], torch.device("cpu"))
        for _ in range(5):
            feats_BTD, _ = encoder(wave_BN, lengths_B)
            assert feats_BTD.requires_grad

    def test_gradients_reach_the_input_and_leave_it_as_it_was(self, family):
        encoder = HubEncoder(make(family))
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

    def test_mask(self):
        assert frame_mask(torch.tensor([2, 0, 3]), 3).tolist() == [[True, True, False], [False] * 3, [True] * 3]


ENCODER = HubEncoder(make("hubert-layer"))


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
        np.testing.assert_allclose(encoder.encode([LONG, moved])[1], alone, atol=1e-4)
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


class TestLoad:
    def saved(self, folder: Path) -> Path:
        save_encoder(small_encoder(), folder)
        return folder

    def fails(self, name: str | Path, match: str) -> None:
        with pytest.raises(FormatError, match=match) as caught:
            load_encoder(name, device="cpu")
        assert "\n" not in str(caught.value) and str(name) in str(caught.value)

    def test_missing_folder(self, tmp_path):
        self.fails(tmp_path / "nowhere", "not a folder or hub id")

    def test_folder_of_something_else(self, tmp_path):
        (tmp_path / "notes.txt").write_text("hello")
        self.fails(tmp_path, "not a folder or hub id")

    @pytest.mark.parametrize("text", ["{", "[]", "{}"])
    def test_unusable_config(self, tmp_path, text):
        (tmp_path / "config.json").write_text(text)
        self.fails(tmp_path, "not a folder or hub id")

    def test_another_family(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        self.fails(tmp_path, "'bert' is not supported; use hubert, wav2vec2")

    def test_no_weights(self, tmp_path):
        (self.saved(tmp_path) / "model.safetensors").unlink()
        self.fails(tmp_path, "weights cannot be read")

    def test_damaged_weights(self, tmp_path):
        path = self.saved(tmp_path) / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        self.fails(tmp_path, "weights cannot be read")

    def test_weights_of_another_size(self, tmp_path):
        config = json.loads((self.saved(tmp_path) / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
        self.fails(tmp_path, "weights cannot be read")

    def test_missing_weights_are_not_drawn_at_random(self, tmp_path):
        config = json.loads((self.saved(tmp_path) / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
        self.fails(tmp_path, "16 weights are missing")

    def test_damaged_preprocessor(self, tmp_path):
        for text in ("{", "[1]"):
            (self.saved(tmp_path) / "preprocessor_config.json").write_text(text)
            with pytest.raises(FormatError, match=r"preprocessor_config.json: not a preprocessor"):
                load_encoder(tmp_path, device="cpu")

    def test_without_a_preprocessor_nothing_is_normalised(self, tmp_path):
        (self.saved(tmp_path) / "preprocessor_config.json").unlink()
        assert not load_encoder(tmp_path, device="cpu").normalize

    def test_weights_under_their_older_names_and_with_a_head(self, tmp_path):
        from safetensors.torch import load_file, save_file

        path = self.saved(tmp_path) / "model.safetensors"
        renamed = {}
        for name, tensor in load_file(path).items():
            name = name.replace("parametrizations.weight.original0", "weight_g")
            renamed["hubert." + name.replace("parametrizations.weight.original1", "weight_v")] = tensor
        assert any(name.endswith("weight_g") for name in renamed)
        save_file({**renamed, "lm_head.bias": torch.zeros(3)}, path, metadata={"format": "pt"})
        found = load_encoder(tmp_path, device="cpu").encode([CLIP])[0]
        np.testing.assert_array_equal(found, small_encoder().encode([CLIP])[0])

    def test_settings_of_transformers_are_left_as_they_were(self, tmp_path):
        from transformers.utils import logging

        before = logging.is_progress_bar_enabled(), logging.get_verbosity()
        load_model(str(self.saved(tmp_path)))
        assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before


class TestPickDevice:
    def test_choices(self):
        assert pick_device("cpu") == torch.device("cpu") == pick_device(torch.device("cpu"))
        assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")

    @pytest.mark.parametrize("name", ["gpu", "", "meta", "cpu:x"])
    def test_unknown(self, name):
        with pytest.raises(InputError, match="choose auto, cpu or cuda"):
            pick_device(name)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
    def test_absent(self):
        with pytest.raises(InputError, match="use --device cpu"):
            pick_device("cuda")
