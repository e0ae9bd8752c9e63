"""Reading weights: kinds of tensors, sizes, names of wrappers; and checkpoints of minimal_hubert, torchaudio, SpidR."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from helpers import fairseq_checkpoints as fairseq_models
from helpers.random_encoders import make_encoder
from helpers.random_models import noise
from syllablelm.core.errors import FormatError
from syllablelm.encoders.heads import HEAD_FILE, PredictionHead
from syllablelm.encoders.load import load_encoder
from syllablelm.encoders.masked_prediction import MaskedPredictor

CLIP = noise(9_000, 1)
SHAPE = fairseq_models.Shape()


def features(path: Path, **options: bool) -> np.ndarray:
    return load_encoder(path, device="cpu", **options).encode([CLIP])[0]


def fairseq_file(path: Path, weights: dict[str, Tensor], shape: fairseq_models.Shape = SHAPE) -> Path:
    torch.save({"model": weights, "cfg": shape.config}, path)
    return path


def minimal_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of fairseq under the names of minimal_hubert, query, key and value in one matrix."""
    named: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        for old, new in (
            ("mask_emb", "mask_embedding"),
            ("label_embs_concat", "logit_generator.label_embeddings"),
            ("post_extract_proj.", "feature_projection.0.projection."),
            ("encoder.pos_conv.0.weight_g", "encoder.pos_conv_embed.convs.0.parametrizations.weight.original0"),
            ("encoder.pos_conv.0.weight_v", "encoder.pos_conv_embed.convs.0.parametrizations.weight.original1"),
            ("encoder.pos_conv.0.", "encoder.pos_conv_embed.convs.0."),
            ("self_attn_layer_norm", "layer_norm"),
            ("self_attn.out_proj", "attention.proj"),
            ("self_attn.", "attention."),
            ("fc1", "feed_forward.intermediate_dense"),
            ("fc2", "feed_forward.output_dense"),
        ):
            name = name.replace(old, new)
        if name.startswith("final_proj."):
            name = f"logit_generator.{name}"
        elif name.startswith("layer_norm."):
            name = f"feature_projection.0.{name}"
        elif name.startswith("feature_extractor."):
            place, part, *_, kind = name.removeprefix("feature_extractor.conv_layers.").split(".")
            name = f"feature_extractor.conv_layers.{place}.{'conv' if part == '0' else 'layer_norm'}.{kind}"
        named[name] = tensor
    for name in [name for name in named if ".attention.q_proj." in name]:
        parts = [named.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        named[name.replace("q_proj", "qkv")] = torch.cat(parts)
    return named | {"logit_generator.logit_temp": torch.tensor(0.1)}


class TestTensors:
    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda weight: weight.to_sparse(), "is a sparse tensor"),
            (lambda weight: weight.to(torch.complex64), "is a complex64 tensor"),
            (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "quantized tensor|holds code"),
            (lambda weight: weight.int(), "not floating-point"),
            (lambda weight: weight / 0, "holds NaN, infinity"),
            (lambda weight: weight + 3e38, "holds NaN, infinity or numbers beyond 1e9"),
        ],
    )
    def test_unusable_kinds(self, tmp_path: Path, change: Callable[[Tensor], Tensor], match: str) -> None:
        weights = fairseq_models.random_weights(SHAPE)
        name = "encoder.layers.0.fc1.weight"
        path = fairseq_file(tmp_path / "x.pt", {**weights, name: change(weights[name])})
        with pytest.raises(FormatError, match=match) as caught:
            load_encoder(path, device="cpu")
        assert str(path) in str(caught.value) and len(str(caught.value)) <= 300

    def test_a_weight_norm_of_zeros(self, tmp_path: Path) -> None:
        weights = fairseq_models.random_weights(SHAPE)
        name = "encoder.pos_conv.0.weight_v"
        weights[name][..., 1] = 0
        path = fairseq_file(tmp_path / "x.pt", weights)
        with pytest.raises(FormatError, match="holds zeros, which have no direction"):
            load_encoder(path, device="cpu")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_every_precision_becomes_float32(self, tmp_path: Path, dtype: torch.dtype) -> None:
        weights = fairseq_models.random_weights(SHAPE)
        full = features(fairseq_file(tmp_path / "full.pt", weights))
        half = features(
            fairseq_file(tmp_path / "half.pt", {name: weight.to(dtype) for name, weight in weights.items()})
        )
        assert half.dtype == np.float32 and np.abs(half - full).max() < 0.2 * full.std()

    def test_a_view_that_repeats_a_number_takes_no_memory(self, tmp_path: Path) -> None:
        weights = fairseq_models.random_weights(SHAPE)
        huge = torch.zeros(1).expand(30_000, 30_000)
        path = fairseq_file(tmp_path / "x.pt", {**weights, "label_embs_concat": huge})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(FormatError, match="many more than the file holds"):
            MaskedPredictor.load(path, device="cpu")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000

    def test_a_head_of_thin_matrices_takes_no_memory(self, tmp_path: Path) -> None:
        # Each is small; a head of their sizes would take 4 GB.
        thin = {"projection.weight": torch.zeros(31_000, 1), "label_embeddings": torch.zeros(31_000, 1)}
        save_file({**thin, "projection.bias": torch.zeros(31_000)}, tmp_path / HEAD_FILE)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(FormatError, match="not the weights of this prediction head"):
            PredictionHead.load(tmp_path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


class TestFolders:
    @pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.hubert."])
    def test_prefixes_of_wrappers(self, tmp_path: Path, prefix: str) -> None:
        make_encoder("hubert-group").save(tmp_path)
        expected = features(tmp_path)
        path = tmp_path / "model.safetensors"
        save_file({prefix + name: weight for name, weight in load_file(path).items()}, path)
        np.testing.assert_array_equal(features(tmp_path), expected)

    def test_weights_of_torch_and_in_parts(self, tmp_path: Path) -> None:
        make_encoder("wavlm-group").save(tmp_path)
        expected = features(tmp_path)
        weights = load_file(tmp_path / "model.safetensors")
        (tmp_path / "model.safetensors").unlink()
        torch.save(weights, tmp_path / "pytorch_model.bin")
        np.testing.assert_array_equal(features(tmp_path), expected)
        (tmp_path / "pytorch_model.bin").unlink()
        table = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(weights)}
        for file in set(table.values()):
            save_file({name: weights[name] for name in weights if table[name] == file}, tmp_path / file)
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": table}))
        for given in (tmp_path, index, tmp_path / "model-00001-of-00002.safetensors", tmp_path / "config.json"):
            np.testing.assert_array_equal(features(given), expected)
        index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
        with pytest.raises(FormatError, match="must name the files of this folder"):
            load_encoder(tmp_path, device="cpu")

    def test_a_configuration_cannot_ask_for_code_or_kernels(self, tmp_path: Path, monkeypatch) -> None:
        make_encoder("hubert-group").save(tmp_path)
        expected = features(tmp_path)
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
        path = tmp_path / "config.json"
        config = json.loads(path.read_text())
        (tmp_path / "evil.py").write_text("raise SystemExit('ran')\n")
        extra = {
            "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
            "_attn_implementation": "someone/kernel",
            "attn_implementation": "someone/kernel",
            "transformers_weights": "/etc/passwd",
            "fusion_config": {"a": 1},
            "torch_dtype": "float16",
        }
        path.write_text(json.dumps(config | extra))
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/else"}))
        np.testing.assert_array_equal(features(tmp_path), expected)
        path.write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
        with pytest.raises(FormatError, match="quantized weights are not supported"):
            load_encoder(tmp_path, device="cpu")
        path.write_text(json.dumps(config | extra | {"model_type": "evil"}))
        with pytest.raises(FormatError, match="model type 'evil' is not supported"):
            load_encoder(tmp_path, device="cpu")


class TestMinimalHubert:
    @pytest.mark.parametrize("layer_norm", [False, True])
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_the_same_features_as_of_fairseqs_file(self, tmp_path: Path, layer_norm: bool, prefix: str) -> None:
        # 64 dimensions a head, as minimal_hubert's sizes have.
        shape = fairseq_models.Shape(dim=128, heads=2, groups=4, layer_norm=layer_norm)
        weights = fairseq_models.random_weights(shape)
        expected = features(fairseq_file(tmp_path / "theirs.pt", weights, shape), normalize=True)
        path = tmp_path / "final.pt"
        named = {prefix + name: tensor for name, tensor in minimal_names(weights).items()}
        torch.save({"model": named, "optimizer": {}, "step": torch.zeros(1)}, path)
        np.testing.assert_array_equal(features(path), expected)
        predictor, theirs = (MaskedPredictor.load(file, device="cpu") for file in (path, tmp_path / "theirs.pt"))
        assert torch.equal(predictor.head.label_embeddings, theirs.head.label_embeddings)

    def test_an_encoder_alone(self, tmp_path: Path) -> None:
        shape = fairseq_models.Shape(dim=128, heads=2)
        weights = fairseq_models.random_weights(shape)
        named = minimal_names(weights)
        kept = {name: tensor for name, tensor in named.items() if not name.startswith(("logit_", "mask_"))}
        torch.save(kept, tmp_path / "encoder.pt")
        expected = features(fairseq_file(tmp_path / "theirs.pt", weights, shape), normalize=True)
        np.testing.assert_array_equal(features(tmp_path / "encoder.pt"), expected)


class TestSpidR:
    DIM, LAYERS, CHANNELS, DEPTH = 128, 2, 8, 3

    def weights(self) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)

        def draw(*size: int) -> Tensor:
            return torch.randn(size, generator=generator) / max(1, np.prod(size[1:])) ** 0.5

        dim, found, before = self.DIM, {"mask_embedding": draw(self.DIM), "current_step": torch.zeros(1)}, 1
        for i, kernel in enumerate(SHAPE.kernels):
            name = f"feature_extractor.conv_layers.{i}"
            found[f"{name}.conv.weight"] = 2 * draw(self.CHANNELS, before, kernel)
            found[f"{name}.layer_norm.weight"], found[f"{name}.layer_norm.bias"] = draw(8) + 1, draw(8)
            before = self.CHANNELS
        sizes = {
            "feature_projection.layer_norm": (self.CHANNELS,),
            "feature_projection.projection": (dim, self.CHANNELS),
            "student.layer_norm": (dim,),
        }
        sizes |= {f"student.pos_conv_embed.convs.{i}": (dim, dim // 16, 5) for i in range(self.DEPTH)}
        for i in range(self.LAYERS):
            block = f"student.layers.{i}"
            sizes |= {f"{block}.attention.qkv": (3 * dim, dim), f"{block}.attention.proj": (dim, dim)}
            sizes |= {f"{block}.layer_norm": (dim,), f"{block}.final_layer_norm": (dim,)}
            sizes |= {f"{block}.feed_forward.intermediate_dense": (96, dim)}
            sizes |= {f"{block}.feed_forward.output_dense": (dim, 96)}
        for name, size in sizes.items():
            found[f"{name}.weight"] = draw(*size) + (len(size) == 1)
            if "qkv" not in name:
                found[f"{name}.bias"] = 0.1 * draw(size[0])
        teacher = {name.replace("student", "teacher"): tensor for name, tensor in found.items() if "student" in name}
        return found | teacher | {"heads.0.0.weight": draw(4, dim), "codebooks.0.codebook": draw(4, dim)}

    def forward(self, weights: dict[str, Tensor], wave: np.ndarray) -> np.ndarray:
        """SpidR's student, from the definition."""
        weights = {name: tensor.double() for name, tensor in weights.items()}

        def norm(x: Tensor, name: str) -> Tensor:
            return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

        def linear(x: Tensor, name: str) -> Tensor:
            return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

        samples = torch.from_numpy(wave).double()
        x = ((samples - samples.mean()) / torch.sqrt(samples.var(unbiased=False) + 1e-7))[None, None]
        for i, stride in enumerate(SHAPE.strides):
            name = f"feature_extractor.conv_layers.{i}"
            x = F.conv1d(x, weights[f"{name}.conv.weight"], stride=stride)
            x = F.gelu(norm(x.transpose(1, 2), f"{name}.layer_norm").transpose(1, 2))
        name = "feature_projection"
        x = linear(norm(x.transpose(1, 2), f"{name}.layer_norm"), f"{name}.projection")
        place = x.transpose(1, 2)
        for i in range(self.DEPTH):
            name = f"student.pos_conv_embed.convs.{i}"
            place = F.conv1d(place, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=2, groups=16)
            place = F.gelu(F.layer_norm(place.transpose(1, 2), (self.DIM,)).transpose(1, 2))
        x = norm(x + place.transpose(1, 2), "student.layer_norm")
        for i in range(self.LAYERS):
            block = f"student.layers.{i}"
            query, key, value = (
                part.unflatten(2, (self.DIM // 64, 64)).transpose(1, 2)
                for part in linear(x, f"{block}.attention.qkv").chunk(3, -1)
            )
            mixed = ((query @ key.transpose(2, 3) / 8.0).softmax(-1) @ value).transpose(1, 2).flatten(2)
            x = norm(x + linear(mixed, f"{block}.attention.proj"), f"{block}.layer_norm")
            inner = F.gelu(linear(x, f"{block}.feed_forward.intermediate_dense"))
            x = norm(x + linear(inner, f"{block}.feed_forward.output_dense"), f"{block}.final_layer_norm")
        return x[0].numpy()

    def test_the_student_by_its_definition(self, tmp_path: Path) -> None:
        weights = self.weights()
        for content in ({"model": {f"module.{name}": tensor for name, tensor in weights.items()}}, weights):
            torch.save(content, tmp_path / "final.pt")
            np.testing.assert_allclose(features(tmp_path / "final.pt"), self.forward(weights, CLIP), atol=2e-4)

    def test_a_part_of_it(self, tmp_path: Path) -> None:
        weights = self.weights()
        del weights["student.layers.1.attention.proj.weight"]
        torch.save({"model": weights}, tmp_path / "final.pt")
        with pytest.raises(FormatError, match=r"not the weights of this SpidR: no encoder.layers.1.attention.out_proj"):
            load_encoder(tmp_path / "final.pt", device="cpu")
