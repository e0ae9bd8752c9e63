from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import fairseq_checkpoints as fairseq_models
from helpers import released_checkpoints as released_files
from helpers.random_encoders import make_encoder, make_model
from helpers.random_models import SHAPE, noise
from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders.base import FrameEncoder
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder
from syllablelm.encoders.fairseq import FairseqHubert
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.load import load_encoder, load_model
from syllablelm.encoders.w2vbert import W2vBertEncoder

CLIP = noise(9_000, 1)


def small_encoder() -> HubEncoder:
    torch.manual_seed(0)
    return HubEncoder(SHAPE.build())


class TestFolder:
    def saved(self, folder: Path) -> Path:
        small_encoder().save(folder)
        return folder

    def fails(self, name: str | Path, match: str) -> None:
        with pytest.raises(FormatError, match=match) as caught:
            load_encoder(name, device="cpu")
        assert "\n" not in str(caught.value) and str(name) in str(caught.value)

    def test_missing_folder(self, tmp_path):
        self.fails(tmp_path / "nowhere", "no such model; give a folder, a checkpoint file, a hub id")

    def test_folder_of_something_else(self, tmp_path):
        (tmp_path / "notes.txt").write_text("hello")
        self.fails(tmp_path, "not a folder of a Hugging Face model")

    @pytest.mark.parametrize("text", ["{", "[]", "{}", "[" * 100_000, '{"model_type": 3}'])
    def test_unusable_config(self, tmp_path, text):
        (tmp_path / "config.json").write_text(text)
        self.fails(tmp_path, r"config.json: (not JSON|holds a list|no model_type)")

    def test_another_family(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        supported = "one of hubert, wav2vec2, data2vec-audio, wavlm, wav2vec2-bert, whisper"
        self.fails(tmp_path, f"'bert' is not supported; use {supported}")

    def test_no_weights(self, tmp_path):
        (self.saved(tmp_path) / "model.safetensors").unlink()
        self.fails(tmp_path, "no weights")

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
        for text in ("{", "[1]", '{"pad": -1}', '{"pad": 1.5}', '{"layer": -1}', '{"layer": "1"}'):
            (self.saved(tmp_path) / "preprocessor_config.json").write_text(text)
            with pytest.raises(FormatError, match=r"preprocessor_config.json: (not|holds) "):
                load_encoder(tmp_path, device="cpu")

    @pytest.mark.parametrize(
        ("family", "usual"),
        [
            ("hubert-layer", True),
            ("hubert-group", False),
            ("mhubert-25hz", False),
            ("wav2vec2-layer-stable", True),
            ("wav2vec2-group", False),
            ("wavlm-layer-stable", True),
            ("wavlm-group", False),
            ("data2vec-audio", True),
        ],
    )
    def test_without_a_preprocessor_the_extractor_tells_the_normalisation(self, tmp_path, capsys, family, usual):
        make_model(family).save_pretrained(tmp_path)
        assert load_encoder(tmp_path, device="cpu").normalize is usual
        (line,) = [line for line in capsys.readouterr().err.splitlines() if str(tmp_path) in line]
        assert f"do_normalize {str(usual).lower()}" in line and "normalize=" in line
        assert load_encoder(tmp_path, device="cpu", normalize=not usual).normalize is not usual
        assert str(tmp_path) not in capsys.readouterr().err

    @pytest.mark.parametrize("family", ["w2v-bert", "whisper"])
    def test_spectra_have_no_normalisation_to_tell(self, tmp_path, capsys, family):
        make_model(family).save_pretrained(tmp_path)
        assert not load_encoder(tmp_path, device="cpu").normalize
        assert "do_normalize" not in capsys.readouterr().err

    @pytest.mark.parametrize("value", [True, False])
    def test_every_form_of_preprocessor_is_read(self, tmp_path, capsys, value):
        make_model("hubert-layer" if not value else "hubert-group").save_pretrained(tmp_path)
        single, whole = tmp_path / "preprocessor_config.json", tmp_path / "processor_config.json"
        nested = {"processor_class": "Wav2Vec2Processor", "feature_extractor": {"do_normalize": value}}
        single.write_text(json.dumps({"do_normalize": value}))
        assert load_encoder(tmp_path, device="cpu").normalize is value
        single.unlink()
        whole.write_text(json.dumps(nested))
        assert load_encoder(tmp_path, device="cpu").normalize is value
        # transformers 5 prefers the nested settings.
        single.write_text(json.dumps({"do_normalize": not value}))
        assert load_encoder(tmp_path, device="cpu").normalize is value
        whole.write_text(json.dumps({"processor_class": "Wav2Vec2Processor"}))
        assert load_encoder(tmp_path, device="cpu").normalize is not value
        assert "do_normalize" not in capsys.readouterr().err

    def test_a_processor_that_transformers_writes(self, tmp_path):
        from transformers.models.wav2vec2.feature_extraction_wav2vec2 import Wav2Vec2FeatureExtractor

        make_model("hubert-group").save_pretrained(tmp_path)
        extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
        (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": extractor.to_dict()}))
        assert load_encoder(tmp_path, device="cpu").normalize

    def test_another_sampling_rate(self, tmp_path):
        make_model("hubert-group").save_pretrained(tmp_path)
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000}))
        self.fails(tmp_path, "sampling_rate 8000; only encoders of 16000 Hz")

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
        load_model(self.saved(tmp_path))
        assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before


class TestOptions:
    def test_normalize_and_pad_are_the_checkpoints_unless_given(self, tmp_path):
        HubEncoder(make_model("mhubert-25hz"), normalize=True, pad=40).save(tmp_path)
        own = load_encoder(tmp_path, device="cpu")
        assert isinstance(own, HubEncoder)
        assert (own.normalize, own.pad, own.receptive_field) == (True, 40, 640)
        given = load_encoder(tmp_path, 2, device="cpu", normalize=False, pad=0)
        assert isinstance(given, HubEncoder)
        assert (given.layer, given.normalize, given.pad, given.receptive_field) == (2, False, 0, 720)

    @pytest.mark.parametrize("family", ["hubert-group", "mhubert-25hz", "wavlm-group", "w2v-bert"])
    @pytest.mark.parametrize("layer", [0, 1, 2])
    def test_the_layer_is_the_saved_one_unless_given(self, tmp_path, family, layer):
        encoder = make_encoder(family, layer)
        encoder.save(tmp_path)
        loaded = load_encoder(tmp_path, device="cpu")
        assert loaded.layer == layer
        np.testing.assert_array_equal(loaded.encode([CLIP])[0], encoder.encode([CLIP])[0])
        assert load_encoder(tmp_path, 1, device="cpu").layer == 1
        # Folders of others do not say it: theirs is the last.
        path = tmp_path / "preprocessor_config.json"
        said = {key: value for key, value in json.loads(path.read_text()).items() if key != "layer"}
        path.write_text(json.dumps(said))
        assert load_encoder(tmp_path, device="cpu").layer == max(layer, 1)

    def test_precision(self, tmp_path):
        make_encoder("hubert-group").save(tmp_path)
        assert load_encoder(tmp_path, device="cpu").precision == "float32"
        low = load_encoder(tmp_path, device="cpu", precision="bfloat16")
        assert low.precision == "bfloat16"
        # Only products are rounded; the weights that training or saving would see are not.
        assert all(weight.dtype == torch.float32 for weight in low.parameters())
        with pytest.raises(InputError, match="float16"):
            load_encoder(tmp_path, device="cpu", precision="float16")

    def test_w2v_bert_has_neither(self, tmp_path):
        make_encoder("w2v-bert").save(tmp_path)
        assert isinstance(load_encoder(tmp_path, device="cpu"), W2vBertEncoder)
        with pytest.raises(InputError, match="leave normalize out"):
            load_encoder(tmp_path, device="cpu", normalize=False)
        with pytest.raises(InputError, match="takes no pad"):
            load_encoder(tmp_path, device="cpu", pad=40)


class TestFile:
    def test_fairseq(self, tmp_path):
        shape = fairseq_models.Shape(layer_norm=True)
        path = tmp_path / "hubert.pt"
        torch.save({"model": fairseq_models.random_weights(shape), "cfg": shape.config}, path)
        found = load_encoder(path, 1, device="cpu")
        assert isinstance(found, HubEncoder) and isinstance(found, FrameEncoder)
        assert (found.layer, found.dim, found.normalize) == (1, shape.dim, True)
        expected = HubEncoder(FairseqHubert.read(path).model(), 1, normalize=True)
        np.testing.assert_array_equal(found.encode([CLIP])[0], expected.encode([CLIP])[0])
        padded = load_encoder(path, device="cpu", normalize=False, pad=40)
        assert isinstance(padded, HubEncoder)
        assert (padded.layer, padded.normalize, padded.receptive_field) == (shape.layers, False, 320)

    def test_released(self, tmp_path):
        path = tmp_path / "encoder.pth"
        torch.save({"model_seg": released_files.random_weights()}, path)
        found = load_encoder(str(path), 5, device="cpu", normalize=True)
        assert isinstance(found, Data2Vec2Encoder)
        assert (found.layer, found.normalize) == (5, True)
        with pytest.raises(InputError, match="takes no pad"):
            load_encoder(path, device="cpu", pad=40)

    @pytest.mark.parametrize("content", [{"weights": {}}, {"state_dict": {"a": torch.zeros(1)}}])
    def test_something_else(self, tmp_path, content):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(FormatError, match=r"neither a HuBERT or Data2Vec 2\.0 of fairseq nor a released") as caught:
            load_encoder(tmp_path / "other.pt", device="cpu")
        assert "\n" not in str(caught.value)

    def test_not_a_checkpoint(self, tmp_path):
        (tmp_path / "notes.txt").write_text("hello")
        with pytest.raises(FormatError, match="not a torch file"):
            load_encoder(tmp_path / "notes.txt", device="cpu")
