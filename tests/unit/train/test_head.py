from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.model_oracles import losspred_matrix_slow
from helpers.random_models import SHAPE, small_corpus, small_predictor
from syllablelm.core.artifact import Artifact
from syllablelm.core.errors import FormatError
from syllablelm.encoders import MaskedPredictor
from syllablelm.encoders.hub import HubEncoder
from syllablelm.segment import losspred_matrix
from syllablelm.train.batches import WaveformStore
from syllablelm.train.boundary_stage import BoundariesConfig, read_boundaries
from syllablelm.train.labels import LabelsConfig, make_labels, read_labels
from syllablelm.train.loop import LoopConfig
from syllablelm.train.pretrain import FrozenEncoder, HeadConfig, fit_head
from syllablelm.train.runlog import read_log
from syllablelm.train.stage import StageContext, external_encoder
from syllablelm.train.sylboost import SylBoostConfig
from syllablelm.train.tokenizer_recipe import DataConfig, Head, Round, TokenizerRecipe, train_tokenizer_recipe

LENGTHS = [40_000, 9_000, 64_000, 18_000]
LABELS = LabelsConfig("encoder", layer=1, num_labels=5, kmeans="lloyd")
CONFIG = HeadConfig(LoopConfig(120, lr=1e-2, batch_seconds=9.0, log_every=40), final_dim=8, mask_length=3)


@pytest.fixture
def store(tmp_path) -> WaveformStore:
    return WaveformStore(small_corpus(tmp_path / "audio", LENGTHS))


@pytest.fixture
def encoder(tmp_path) -> Artifact:
    """A folder as transformers writes it, without a head."""
    model = small_predictor().encoder
    model.model.config.hidden_dropout = 0.5
    model.save(tmp_path / "encoder")
    return external_encoder(str(tmp_path / "encoder"))


def fit(store, encoder, out, config=CONFIG, seed=0) -> Artifact:
    labels = make_labels(LABELS, StageContext(store, device="cpu"), out.parent / "labels", encoder=encoder)
    return fit_head(config, StageContext(store, seed=seed, device="cpu"), encoder, labels, out)


def test_it_learns_and_losspred_reads_it(store, encoder, tmp_path):
    made = fit(store, encoder, tmp_path / "predictor")
    losses = [line["loss"] for line in read_log(made.path)]
    assert len(losses) == 3 and losses[-1] < losses[0] and losses[-1] < np.log(5) - 0.1
    model = MaskedPredictor.load(made.path, device="cpu")
    assert model.head.num_labels == 5 and model.encoder.layer == 2
    labels = read_labels(Artifact(tmp_path / "labels", "labels", "", ""))
    agreed = []
    for index, recording in enumerate(store.manifest):
        with torch.no_grad():
            wave = torch.from_numpy(store[index])[None]
            clean = model.head(model.hidden(*model.inputs(wave, torch.tensor([wave.shape[1]]))))[0].argmax(-1)
        agreed.extend((clean.numpy() == labels[recording.id]).tolist())
    assert np.mean(agreed) > 0.5
    wave = store[1][:5000]
    found = losspred_matrix(model, wave, span=6, gap=8)
    np.testing.assert_allclose(found, losspred_matrix_slow(model, wave, span=6, gap=8), atol=1e-5)
    assert found.max() > 0.2


def test_the_encoder_stays_as_it_was(store, encoder, tmp_path):
    made = fit(store, encoder, tmp_path / "predictor", replace(CONFIG, loop=replace(CONFIG.loop, steps=3)))
    before, after = small_predictor().encoder, MaskedPredictor.load(made.path, device="cpu").encoder
    for name, tensor in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], tensor), name


def test_it_says_what_it_is(store, encoder, tmp_path):
    config = replace(CONFIG, loop=replace(CONFIG.loop, steps=2))
    made = [fit(store, encoder, tmp_path / name, config, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert made[0].kind == "predictor"
    assert made[0].record["head"] == {"fitted": True, "layer": 1, "num_labels": 5, "seed": 0}
    assert made[0].record["parents"]["encoder"] == encoder.digest
    assert made[0].metrics.keys() >= {"loss", "masked_loss", "masked_accuracy"}
    heads = [artifact.record["files"]["head.safetensors"] for artifact in made]
    assert heads[0] == heads[1] != heads[2]
    assert len({artifact.record["files"]["model.safetensors"] for artifact in made}) == 1


def test_only_the_head_is_trained(store):
    predictor = small_predictor()
    frozen = FrozenEncoder(predictor).train()
    assert frozen.state_dict().keys() == {"head.label_embeddings", "head.projection.weight", "head.projection.bias"}
    assert not predictor.encoder.training and frozen.encoder is predictor.encoder
    wave = torch.from_numpy(store[1])[None]
    hidden = frozen.hidden(*frozen.inputs(wave, torch.tensor([wave.shape[1]])))
    assert not hidden.requires_grad
    frozen.head(hidden).sum().backward()
    assert all(p.grad is None for p in predictor.encoder.parameters())


def test_an_encoder_of_another_family(store, tmp_path):
    from transformers.models.wavlm.configuration_wavlm import WavLMConfig
    from transformers.models.wavlm.modeling_wavlm import WavLMModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    extractor = {"conv_dim": (8,) * 4, "conv_kernel": (40, 9, 4, 2), "conv_stride": (10, 4, 4, 2)}
    positions = {"num_conv_pos_embeddings": 9, "num_conv_pos_embedding_groups": 4}
    stable = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    model = WavLMModel(WavLMConfig(**sizes, **extractor, **positions, **stable))
    HubEncoder(model, normalize=True).save(tmp_path / "encoder")
    config = replace(CONFIG, loop=replace(CONFIG.loop, steps=2))
    made = fit(store, external_encoder(str(tmp_path / "encoder")), tmp_path / "predictor", config)
    predictor = MaskedPredictor.load(made.path, device="cpu")
    wave = store[1][:5000]
    mask = torch.arange(15) % 5 < 2
    with torch.no_grad():
        input_BTD, frames_B = predictor.inputs(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
        found = predictor.hidden(input_BTD, frames_B, mask[None])
        standard = torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7))[None]
        expected = WavLMModel.from_pretrained(tmp_path / "encoder").eval()(standard, mask_time_indices=mask[None])
    np.testing.assert_allclose(found.numpy(), expected.last_hidden_state.numpy(), atol=1e-4)
    assert losspred_matrix(predictor, wave, span=4, gap=6).max() > 0


def test_an_encoder_that_nothing_can_be_hidden_from(store, tmp_path):
    model = SHAPE.build()
    model.config.mask_time_prob = model.config.mask_feature_prob = 0.0
    HubEncoder(type(model)(model.config)).save(tmp_path / "encoder")
    with pytest.raises(FormatError, match="no mask embedding"):
        fit(store, external_encoder(str(tmp_path / "encoder")), tmp_path / "predictor")
    assert not (tmp_path / "predictor").exists()


def test_a_checkpoint_is_known_by_its_content(tmp_path):
    digests = set()
    for content in (b"a", b"b", b"a"):
        (tmp_path / "x.pt").write_bytes(content)
        digests.add(external_encoder(str(tmp_path / "x.pt")).digest)
    assert len(digests) == 2


def test_a_recipe_for_a_teacher_without_a_head(store, encoder, tmp_path):
    loop = LoopConfig(2, batch_seconds=9.0)
    recipe = TokenizerRecipe(
        "x",
        DataConfig((str(tmp_path / "audio"),), min_seconds=0.5),
        codebook=None,  # type: ignore[arg-type]  # never reached
        teacher=str(encoder.path),
        head=Head(LABELS, replace(CONFIG, loop=loop)),
        round=(Round(BoundariesConfig("losspred", rate=5.0, span=6, gap=8), SylBoostConfig(loop=loop, layer=1)),),
    )
    made = train_tokenizer_recipe(recipe, tmp_path / "run", device="cpu", until="losspred")
    assert made.kind == "boundaries" and len(read_boundaries(made)) == 4
    assert (tmp_path / "run/head/predictor/head.safetensors").exists()
    without = replace(recipe, head=None)
    with pytest.raises(FormatError, match="LossPred needs the masked-prediction head"):
        train_tokenizer_recipe(without, tmp_path / "other", device="cpu", until="losspred")
