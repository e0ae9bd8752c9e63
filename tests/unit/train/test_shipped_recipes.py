"""Every recipe of the package builds; those of the paper have its numbers, compared ones the same training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.hubert.configuration_hubert import HubertConfig
from transformers.models.hubert.modeling_hubert import HubertModel

from helpers.data2vec2_checkpoints import write_data2vec2
from helpers.fairseq_checkpoints import Shape
from helpers.fairseq_checkpoints import random_weights as hubert_weights
from helpers.random_models import noise, small_corpus
from syllablelm.core.artifact import Artifact, open_artifact
from syllablelm.core.config import build
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.recipes import build_recipe, list_recipes, read_recipe, recipe_kind, recipe_names
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.train.boundary_stage import read_boundaries
from syllablelm.train.lm_stage import LMRecipe
from syllablelm.train.pipeline import train_recipe
from syllablelm.train.tokenizer_recipe import TokenizerRecipe, Until, train_tokenizer_recipe
from syllablelm.train.vocoder_recipe import VocoderRecipe

CLASSES = {"tokenizer": TokenizerRecipe, "lm": LMRecipe, "vocoder": VocoderRecipe}
COMPARED = [name for name in recipe_names() if name.startswith("compare_")]
# Layers, dimensions, feed-forward, updates of warm-up, GPUs.
TABLE_8 = {"base": (12, 768, 3072, 8000, 2), "large": (24, 1024, 4096, 16_000, 4)}


def test_every_recipe_builds() -> None:
    for summary in list_recipes():
        recipe = build_recipe(CLASSES[summary.kind], summary.name)
        assert (recipe.name, recipe.seed) == (summary.name, 0)
        assert summary.description.count("; for ") == 1, f"{summary.name}: say on which machine it runs"


def test_a_tokenizer_has_one_rate_or_rates_at_every_place() -> None:
    for name in ("hubert_625", "small"):
        recipe = build_recipe(TokenizerRecipe, name)
        rates = [step.boundaries.rate for step in recipe.round], recipe.codebook.rule.rate
        assert rates == {"hubert_625": ([6.25, 6.25], 6.25), "small": ([4.7, 4.2], 4.6)}[name]


def test_compared_models_differ_in_their_units_alone() -> None:
    found = [build_recipe(LMRecipe, name) for name in COMPARED]
    assert len(found) >= 8 and len({recipe.units.tokenizer for recipe in found}) == len(found)
    for recipe in found:
        assert replace(recipe, name="", units=found[0].units) == replace(found[0], name="")


@pytest.mark.parametrize("rate", ["833", "625", "500"])
@pytest.mark.parametrize("size", list(TABLE_8))
def test_speech_language_models_are_those_of_table_8(size: str, rate: str) -> None:
    recipe = build_recipe(LMRecipe, f"speechlm_{size}_{rate}")
    layers, dim, feed_forward, warmup, gpus = TABLE_8[size]
    shape, loop = recipe.lm.shape, recipe.lm.loop
    assert (shape.layers, shape.dim, shape.feed_forward, shape.dropout) == (layers, dim, feed_forward, 0.1)
    assert (loop.steps, loop.lr, loop.beta1, loop.beta2, loop.weight_decay) == (200_000, 2e-4, 0.9, 0.98, 0.01)
    assert (loop.schedule, loop.final_lr, round(loop.warmup * loop.steps)) == ("linear", 0.0, warmup)
    rows = recipe.lm.batch_tokens // recipe.lm.row_tokens
    assert rows * recipe.lm.row_tokens * loop.accumulate * gpus == 80_000
    assert recipe.lm.crop_seconds == 25.0
    # The paper's language models read units of Data2Vec2.
    assert (recipe.name, recipe.units.tokenizer) == (f"speechlm_{size}_{rate}", f"runs/d2v2_{rate}/tokenizer")


@pytest.mark.parametrize("name", ["hubert_500", "speechlm_base_500", "small_vocoder"])
@pytest.mark.parametrize("seed", [-1, 99_999_999_999])
def test_a_seed_that_no_generator_takes_is_refused(name: str, seed: int) -> None:
    table = read_recipe(name, [f"seed={seed}"])
    with pytest.raises(InputError, match=f"seed {seed}: must be a whole number from 0"):
        build(CLASSES[recipe_kind(table)], table, name)


# Units of a tokenizer of the paper by unit rate.
PAPER = {"833": (8.33, 2048), "625": (6.25, 8192), "500": (5.0, 16_384), "430": (4.3, 16_384)}


def small_recipe(name: str, folder: Path, *overrides: str) -> TokenizerRecipe:
    """A shipped recipe at small size: random models of the true layouts, and noise to train on."""
    if not (folder / "audio").exists():
        small_corpus(folder / "audio", [24_000, 16_000, 32_000])
        write_data2vec2(folder / "base_libri.pt")
        shape = Shape()
        torch.save({"model": hubert_weights(shape), "cfg": shape.config}, folder / "hubert_base_ls960.pt")
        # As transformers writes HuBERT-base, which has no masked-prediction head.
        torch.manual_seed(0)
        HubertModel(HubertConfig(**SMALL_HUBERT)).save_pretrained(folder / "hubert-base-ls960")
    loops = [f"round.{number}.sylboost.loop" for number in (1, 2)] + ["head.fit.loop"]
    teacher = {"hubert": "hubert-base-ls960", "d2v2": "base_libri.pt"}[name.partition("_")[0]]
    return build_recipe(
        TokenizerRecipe,
        name,
        [
            *(f"{loop}.{key}" for loop in loops for key in ("steps=2", "batch_seconds=5.0")),
            f'data.sources=["{(folder / "audio").as_posix()}"]',
            f'teacher="{(folder / teacher).as_posix()}"',
            "head.labels.num_labels=5",
            "codebook.units=6",
            *overrides,
        ],
    )


SMALL_HUBERT = {
    "hidden_size": 32,
    "num_hidden_layers": 10,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def run(name: str, folder: Path, *overrides: str, until: Until = "codebook") -> Artifact:
    """Run a small recipe in ``folder``/runs/NAME."""
    recipe = small_recipe(name, folder, *overrides)
    return train_tokenizer_recipe(recipe, folder / "runs" / name, device="cpu", until=until)


@pytest.mark.parametrize("rate", PAPER)
def test_tokenizers_are_those_of_the_paper(rate: str) -> None:
    hertz, units = PAPER[rate]
    recipe, hubert = (build_recipe(TokenizerRecipe, f"{encoder}_{rate}") for encoder in ("d2v2", "hubert"))
    assert (recipe.teacher, hubert.teacher) == ("base_libri.pt", "facebook/hubert-base-ls960")
    assert (recipe.codebook.units, recipe.codebook.rule.rate) == (units, hertz)
    first, second = recipe.round
    # Data2Vec2 learns from the boundaries that HuBERT's recipe finds.
    assert (hubert.round[0].boundaries.source, hubert.round[0].boundaries.artifact) == ("losspred", "")
    assert first.boundaries.artifact == f"runs/{hubert.name}/round1/boundaries"
    assert (second.boundaries.source, second.boundaries.encoder, second.boundaries.layer) == ("minsum", "", 11)
    for step in recipe.round:
        assert step.boundaries.rate == hertz
        assert (step.sylboost.layer, step.sylboost.student, step.sylboost.train_cnn) == (11, "teacher", False)
        # Five epochs of 100 hours.
        assert step.sylboost.loop.steps * step.sylboost.loop.batch_seconds == 5 * 100 * 3600
    assert (recipe.data, recipe.codebook) == (hubert.data, hubert.codebook)
    for step, other in zip(recipe.round, hubert.round, strict=True):
        assert replace(step.boundaries, artifact="", layer=other.boundaries.layer) == other.boundaries
        assert replace(step.sylboost, layer=other.sylboost.layer) == other.sylboost


@pytest.mark.parametrize("rate", PAPER)
def test_tokenizer_recipes_run_as_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(f"hubert_{rate}", tmp_path, until="losspred")
    assert found.record["parents"]["encoder"] == open_artifact(f"runs/hubert_{rate}/head/predictor").digest
    tokenizer = Tokenizer.load(run(f"d2v2_{rate}", tmp_path).path, device="cpu")
    first = open_artifact(f"runs/d2v2_{rate}/round1/encoder")
    assert first.record["parents"]["boundaries"] == found.digest
    assert not any(Path(f"runs/d2v2_{rate}", name).exists() for name in ("round1/boundaries", "head"))
    assert isinstance(tokenizer.encoder, Data2Vec2Encoder)
    assert (tokenizer.encoder.layer, tokenizer.encoder.normalize) == (11, True)
    segments = tokenizer.encode(noise(48_000, 7))
    assert len(segments.start) == round(3 * PAPER[rate][0])
    assert segments.unit is not None and np.all((segments.unit >= 0) & (segments.unit < 6))


def test_another_codebook_size_reuses_the_encoder(tmp_path: Path) -> None:
    first = run("hubert_833", tmp_path)
    stages = [tmp_path / "runs/hubert_833" / name for name in ("head", "round1", "round2")]
    before = {file: file.stat().st_mtime_ns for stage in stages for file in stage.rglob("*") if file.is_file()}
    second = run("hubert_833", tmp_path, "codebook.units=4")
    assert (first.path.name, second.path.name) == ("tokenizer", "tokenizer_4")
    assert [open_artifact(made.path).metrics["units_used"] for made in (first, second)] == [6, 4]
    assert second.record["parents"]["encoder"] == first.record["parents"]["encoder"]
    assert before == {file: file.stat().st_mtime_ns for stage in stages for file in stage.rglob("*") if file.is_file()}
    assert run("hubert_833", tmp_path).digest == first.digest and run("hubert_833", tmp_path, "codebook.units=4").digest
    with pytest.raises(InputError, match="tokenizer"):
        run("hubert_833", tmp_path, "codebook.kmeans=lloyd", "codebook.rule.drop_edges=false")


def test_the_head_of_fairseqs_checkpoint_is_read_instead_of_a_fitted_one(tmp_path: Path) -> None:
    found = run(
        "hubert_833",
        tmp_path,
        f'round.1.boundaries.encoder="{(tmp_path / "hubert_base_ls960.pt").as_posix()}"',
        until="losspred",
    )
    assert len(read_boundaries(found)) == 3
    assert not (tmp_path / "runs/hubert_833/head").exists()


def test_a_teacher_without_a_head_says_how_to_get_one(tmp_path: Path) -> None:
    recipe = replace(small_recipe("hubert_833", tmp_path), head=None)
    with pytest.raises(FormatError, match=r"\[head\], as in the recipe hubert_500\), or name fairseq's"):
        train_tokenizer_recipe(recipe, tmp_path / "run", device="cpu")


def test_another_teacher_than_the_recipe_wants(tmp_path: Path) -> None:
    small_corpus(tmp_path / "audio", [18_000])
    write_data2vec2(tmp_path / "teacher.pt")
    changes = [f'data.sources=["{tmp_path / "audio"}"]', f"teacher={tmp_path / 'teacher.pt'}", "teacher_sha256=ab12"]
    with pytest.raises(InputError, match=r"SHA-256 [0-9a-f]{64}, the recipe wants ab12: it is another model"):
        train_recipe("d2v2_833", tmp_path / "out", overrides=changes, device="cpu")
    assert not (tmp_path / "out").exists()
