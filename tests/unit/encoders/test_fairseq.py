from __future__ import annotations

import argparse
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.fairseq_checkpoints import BASE, Shape, forward, logits, random_weights
from helpers.model_oracles import losspred_matrix_slow
from helpers.random_models import noise
from syllablelm import encoders
from syllablelm.core.errors import FormatError
from syllablelm.encoders import MaskedPredictor
from syllablelm.encoders.fairseq import FairseqHubert
from syllablelm.segment import losspred_matrix

GROUP = Shape()
STABLE = Shape(layer_norm=True)
SHAPES = pytest.mark.parametrize("shape", [GROUP, STABLE, replace(STABLE, bias=True)], ids=["group", "stable", "bias"])
WAVE = noise(9_000, 3)


def write(path, weights, **others):
    torch.save({"model": weights, "last_optimizer_state": {"state": {}}, **others}, path)
    return path


def write_shape(path, shape):
    weights = random_weights(shape)
    return write(path, weights, cfg=shape.config), weights


def load_encoder(path, layer=None):
    return encoders.load_encoder(path, layer, device="cpu")


def fails(path, match, use=FairseqHubert.model):
    with pytest.raises(FormatError, match=match) as caught:
        use(FairseqHubert.read(path))
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message


def omegaconf_file(folder, monkeypatch, value):
    """The file of a configuration kept as objects of omegaconf, whose classes are made up here and then forgotten."""
    module = types.ModuleType("omegaconf.nodes")

    class Node:
        def __init__(self, **attributes):
            self.__dict__.update(attributes)

    Node.__module__, Node.__qualname__ = module.__name__, "Node"
    module.Node = Node

    def wrap(inner, parent=None):
        node = Node(_parent=parent, _metadata=None)
        if isinstance(inner, dict):
            node._content = {name: wrap(child, node) for name, child in inner.items()}
        elif isinstance(inner, list):
            node._content = [wrap(child, node) for child in inner]
        else:
            node._val = inner
        return node

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        patch.setitem(sys.modules, module.__name__, module)
        return write(folder / "x.pt", random_weights(value), cfg=wrap(value.config))


class TestFeatures:
    @SHAPES
    def test_every_layer_as_defined(self, tmp_path, shape):
        path, weights = write_shape(tmp_path / "x.pt", shape)
        encoder = load_encoder(path)
        assert (encoder.layer, encoder.dim, encoder.hop, encoder.receptive_field) == (2, 32, 320, 400)
        assert encoder.normalize == shape.layer_norm
        found = encoder.encode([WAVE], layers=range(3))[0]
        with torch.no_grad():
            expected = forward(shape, weights, torch.from_numpy(WAVE))
        for layer in range(3):
            np.testing.assert_allclose(found[layer], expected[layer].numpy(), atol=2e-4)
        np.testing.assert_allclose(load_encoder(path, 1).encode([WAVE])[0], expected[1].numpy(), atol=2e-4)

    @pytest.mark.slow
    def test_base(self, tmp_path):
        """The true shapes of HuBERT-base, with neither configuration nor float32 weights in the file."""
        weights = {name: tensor.half() for name, tensor in random_weights(BASE).items()}
        path = write(tmp_path / "hubert_base.pt", weights)
        model = MaskedPredictor.load(path, device="cpu")
        # What transformers counts for facebook/hubert-base-ls960.
        assert sum(p.numel() for p in model.encoder.parameters()) == 94_371_712
        assert model.head.num_labels == 504 and not model.encoder.normalize
        assert model.encoder.model.config.num_attention_heads == 12
        wave = noise(4_500, 1)
        exact = {name: tensor.float() for name, tensor in weights.items()}
        with torch.no_grad():
            expected = forward(BASE, exact, torch.from_numpy(wave))
        found = model.encoder.encode([wave], layers=[9, 12])[0]
        np.testing.assert_allclose(found[9], expected[9].numpy(), atol=1e-3)
        np.testing.assert_allclose(found[12], expected[12].numpy(), atol=1e-3)
        matrix = losspred_matrix(model, wave, span=4, gap=8)
        assert matrix.shape == (13, 13) and 0 < matrix.max() <= 1

    def test_one_layer_of_convolutions_more(self, tmp_path):
        shape = replace(GROUP, kernels=(10, 3, 3, 3, 3, 2, 2, 2), strides=(5, 2, 2, 2, 2, 2, 2, 2))
        path, weights = write_shape(tmp_path / "x.pt", shape)
        encoder = load_encoder(path)
        assert encoder.hop == 640
        with torch.no_grad():
            expected = forward(shape, weights, torch.from_numpy(WAVE))[2]
        np.testing.assert_allclose(encoder.encode([WAVE])[0], expected.numpy(), atol=2e-4)

    def test_the_file_may_change_afterwards(self, tmp_path):
        path, _ = write_shape(tmp_path / "x.pt", GROUP)
        encoder = load_encoder(path)
        before = encoder.encode([WAVE])[0]
        with open(path, "r+b") as file:
            file.write(bytes(path.stat().st_size))
        np.testing.assert_array_equal(encoder.encode([WAVE])[0], before)

    def test_it_can_be_trained_and_saved(self, tmp_path):
        path, _ = write_shape(tmp_path / "x.pt", STABLE)
        model = MaskedPredictor.load(path, device="cpu")
        assert all(p.requires_grad for p in model.parameters())
        model.save(tmp_path / "saved")
        again = MaskedPredictor.load(tmp_path / "saved", device="cpu")
        assert again.encoder.normalize and again.head.temperature == 0.1
        np.testing.assert_array_equal(losspred_matrix(again, WAVE[:4000]), losspred_matrix(model, WAVE[:4000]))


class TestSettings:
    def test_without_a_configuration(self, tmp_path):
        weights = random_weights(replace(GROUP, dim=128, heads=2))
        checkpoint = FairseqHubert.read(write(tmp_path / "x.pt", weights))
        config = checkpoint.model().config
        assert config.num_attention_heads == 2 and not config.do_stable_layer_norm and not checkpoint.normalize
        large = FairseqHubert.read(write(tmp_path / "y.pt", random_weights(replace(STABLE, dim=128, heads=2))))
        assert large.model().config.do_stable_layer_norm and large.normalize

    def test_xlarge_has_heads_of_eighty(self, tmp_path):
        shape = Shape(dim=1280, layers=1, heads=16, feed_forward=8, layer_norm=True, groups=16)
        config = FairseqHubert.read(write(tmp_path / "x.pt", random_weights(shape))).model().config
        assert (config.hidden_size, config.num_attention_heads) == (1280, 16)

    @pytest.mark.parametrize("layer_norm", [False, True])
    def test_every_way_in_which_it_was_saved(self, tmp_path, monkeypatch, layer_norm):
        settings = {"logit_temp": 0.2, "dropout": 0, "attention_dropout": 0.3, "encoder_layers": 2}
        shape = replace(GROUP, layer_norm=layer_norm, settings=settings)
        weights, config = random_weights(shape), shape.config
        # The opposite of what would be taken without a configuration.
        config["model"]["layer_norm_first"] = config["task"]["normalize"] = not layer_norm
        flat = argparse.Namespace(**config["task"], **config["model"])
        paths = [write(tmp_path / "plain.pt", weights, cfg=config), write(tmp_path / "args.pt", weights, args=flat)]
        inner = {"task": config["task"], "model": {"w2v_args": {"model": config["model"]}, "dropout": 0.9}}
        tuned = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in weights.items()}
        paths.append(write(tmp_path / "tuned.pt", tuned, cfg=inner))
        for path in paths:
            checkpoint = FairseqHubert.read(path)
            model = checkpoint.model()
            assert model.config.do_stable_layer_norm is checkpoint.normalize is not layer_norm
            assert model.config.num_attention_heads == 4
            assert (model.config.hidden_dropout, model.config.attention_dropout) == (0, 0.3)
            assert checkpoint.head().temperature == 0.2
        found = FairseqHubert.read(omegaconf_file(tmp_path, monkeypatch, shape))
        assert found.model().config.num_attention_heads == 4 and found.normalize is layer_norm
        assert found.head().temperature == 0.2

    def test_strides_of_another_extractor(self, tmp_path):
        shape = replace(GROUP, kernels=(8, 4, 4), strides=(5, 4, 2))
        fails(write(tmp_path / "x.pt", random_weights(shape), cfg=shape.config), "strides .* cannot be told")
        described = replace(shape, settings={"conv_feature_layers": "[(8, 8,5)]+[(8,4,4),(8,4,2)] * 1"})
        path, weights = write_shape(tmp_path / "y.pt", described)
        encoder = load_encoder(path)
        assert encoder.hop == 40
        with torch.no_grad():
            expected = forward(shape, weights, torch.from_numpy(WAVE[:2000]))[2]
        np.testing.assert_allclose(encoder.encode([WAVE[:2000]])[0], expected.numpy(), atol=2e-4)
        other = replace(shape, settings={"conv_feature_layers": "[(8,10,5)] * 99"})
        fails(write_shape(tmp_path / "z.pt", other)[0], "strides .* cannot be told")

    def test_published_strides(self, tmp_path):
        text = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
        path, _ = write_shape(tmp_path / "x.pt", replace(GROUP, settings={"conv_feature_layers": text}))
        assert load_encoder(path).model.config.conv_stride == (5, 2, 2, 2, 2, 2, 2)


class TestPredictor:
    @SHAPES
    def test_logits_under_a_mask(self, tmp_path, shape):
        path, weights = write_shape(tmp_path / "x.pt", shape)
        model = MaskedPredictor.load(path, device="cpu")
        frames = model.encoder.num_frames(len(WAVE))
        for hidden in (None, torch.arange(frames) % 9 < 4):
            with torch.no_grad():
                read = forward(shape, weights, torch.from_numpy(WAVE), hidden)[-1]
                input_BTD, frames_B = model.inputs(torch.from_numpy(WAVE)[None], torch.tensor([len(WAVE)]))
                found = model.hidden(input_BTD, frames_B, None if hidden is None else hidden[None])
                np.testing.assert_allclose(found[0].numpy(), read.numpy(), atol=2e-4)
                np.testing.assert_allclose(model.head(found)[0].numpy(), logits(weights, read).numpy(), atol=2e-3)

    @SHAPES
    def test_losspred(self, tmp_path, shape):
        path, _ = write_shape(tmp_path / "x.pt", shape)
        model = MaskedPredictor.load(path, device="cpu")
        found = losspred_matrix(model, WAVE, span=6, gap=10)
        np.testing.assert_allclose(found, losspred_matrix_slow(model, WAVE, span=6, gap=10), atol=1e-5)
        assert found.max() > 0.05

    def test_no_head_still_has_features(self, tmp_path):
        weights = random_weights(GROUP)
        tuned = {f"w2v_encoder.w2v_model.{n}": t for n, t in weights.items() if not n.startswith(("final", "label"))}
        tuned |= {"w2v_encoder.proj.weight": torch.zeros(32, 32), "w2v_encoder.proj.bias": torch.zeros(32)}
        path = write(tmp_path / "x.pt", tuned, cfg=GROUP.config)
        whole, _ = write_shape(tmp_path / "y.pt", GROUP)
        np.testing.assert_array_equal(load_encoder(path).encode([WAVE])[0], load_encoder(whole).encode([WAVE])[0])
        with pytest.raises(FormatError, match=r"no prediction head \(final_proj.weight is missing"):
            MaskedPredictor.load(path, device="cpu")

    def test_several_label_sets(self, tmp_path):
        weights = random_weights(GROUP) | {"final_proj.weight": torch.ones(32, 32), "final_proj.bias": torch.ones(32)}
        path = write(tmp_path / "x.pt", weights, cfg=GROUP.config)
        fails(path, "over 2 label sets; LossPred reads heads with one", FairseqHubert.head)
        assert load_encoder(path).encode([WAVE])[0].shape == (27, 32)
        # One projection may serve several sets; then only the configuration knows.
        config = GROUP.config | {"task": {"labels": ["a", "b", "c"]}}
        fails(write(tmp_path / "y.pt", random_weights(GROUP), cfg=config), "over 3 label sets", FairseqHubert.head)

    def test_other_heads(self, tmp_path):
        gated = random_weights(GROUP) | {"target_glu.0.weight": torch.ones(32, 16), "target_glu.0.bias": torch.ones(32)}
        fails(write(tmp_path / "x.pt", gated), "head of another kind", FairseqHubert.head)
        odd = random_weights(GROUP) | {"label_embs_concat": torch.ones(12, 15)}
        fails(write(tmp_path / "y.pt", odd), "head of another kind", FairseqHubert.head)
        flat = random_weights(GROUP) | {"final_proj.bias": torch.ones(3)}
        fails(write(tmp_path / "z.pt", flat), "weights of a wrong shape", FairseqHubert.head)


class TestUnfitFiles:
    def change(self, path, *, drop=(), **changes):
        weights = {n: t for n, t in random_weights(GROUP).items() if n not in drop}
        return write(path / "x.pt", weights | {n.replace("__", "."): t for n, t in changes.items()}, cfg=GROUP.config)

    def test_missing_weights(self, tmp_path):
        path = self.change(tmp_path, drop=("encoder.layers.1.fc2.bias", "mask_emb"))
        fails(path, r"not a whole HuBERT of fairseq: weights missing: 2 \(first mask_emb\)")

    def test_missing_layers(self, tmp_path):
        weights = {n: t for n, t in random_weights(GROUP).items() if not n.startswith("encoder.layers.0")}
        fails(write(tmp_path / "x.pt", weights), r"weights missing: 16 \(first encoder.layers.0.self_attn.q_proj")
        config = replace(GROUP, settings={"encoder_layers": 12}).config
        path = write(tmp_path / "y.pt", random_weights(GROUP), cfg=config)
        fails(path, "2 layers where its configuration says 12")

    def test_unknown_weights(self, tmp_path):
        path = self.change(tmp_path, quantizer__vars=torch.zeros(1, 4, 4), project_q__bias=torch.zeros(3))
        fails(path, r"weights unknown: 2 \(first quantizer.vars\)")

    def test_wrong_shapes(self, tmp_path):
        path = self.change(tmp_path, encoder__layers__1__fc1__weight=torch.zeros(48, 31))
        fails(path, r"weights of a wrong shape: 1 \(first encoder.layers.1.fc1.weight is \(48, 31\), not \(48, 32\)\)")

    @pytest.mark.parametrize(
        "changes",
        [
            {"mask_emb": torch.zeros(30)},
            {"encoder__pos_conv__0__weight_v": torch.zeros(32, 0, 16)},
            {"encoder__pos_conv__0__weight_v": torch.zeros(32, 5, 16)},
            {"encoder__pos_conv__0__weight_v": torch.zeros(32)},
            {"feature_extractor__conv_layers__3__0__weight": torch.zeros(8, 8)},
        ],
    )
    def test_shapes_that_make_no_network(self, tmp_path, changes):
        fails(self.change(tmp_path, **changes), "shapes do not fit|not a (whole )?HuBERT of fairseq")

    @pytest.mark.parametrize("heads", [0, -3, 5])
    def test_heads_that_do_not_divide(self, tmp_path, heads):
        shape = replace(GROUP, settings={"encoder_attention_heads": heads})
        fails(write_shape(tmp_path / "x.pt", shape)[0], "its shapes do not fit")

    @pytest.mark.parametrize("value", [{"state": {}}, {"model": 3}, {"model": {"a": "b"}}, {"model_seg": {}}])
    def test_other_checkpoints(self, tmp_path, value):
        torch.save(value, tmp_path / "x.pt")
        fails(tmp_path / "x.pt", 'no weights under "model"')

    def test_no_weights(self, tmp_path):
        fails(write(tmp_path / "x.pt", {}), "holds no weights")
