"""Every recipe that is shipped is one that a verb takes, and those of one comparison differ in their units alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.data2vec2_checkpoints import write_data2vec2
from helpers.fairseq_checkpoints import Shape
from helpers.fairseq_checkpoints import random_weights as hubert_weights
from helpers.random_models import noise, small_corpus
from syllablelm.core.artifact import open_artifact
from syllablelm.core.config import apply_overrides, build, read_toml
from syllablelm.core.errors import InputError
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.train.bundle import LMRecipe
from syllablelm.train.pipeline import Recipe, train_all
from syllablelm.train.vocoder_recipe import VocoderRecipe

RECIPES = Path(__file__).resolve().parents[2] / "src" / "syllablelm" / "recipes"
COMPARED = sorted(RECIPES.glob("compare_*.toml"))


def kind_of(table: dict) -> type | None:
    """By the table that only this kind has; others have tests of their own."""
    kinds = {"codebook": Recipe, "voice": VocoderRecipe, "units": LMRecipe}
    return next((kind for key, kind in kinds.items() if key in table), None)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipe_parses(path: Path) -> None:
    table = read_toml(path)
    kind = kind_of(table)
    if kind is not None:
        build(kind, table, path.name)


def test_compared_models_differ_in_their_units_alone() -> None:
    found = [build(LMRecipe, read_toml(path), path.name) for path in COMPARED]
    assert len(found) >= 8 and len({recipe.units.tokenizer for recipe in found}) == len(found)
    for path, recipe in zip(COMPARED, found, strict=True):
        assert recipe.name == path.stem
        assert replace(recipe, name="", units=found[0].units) == replace(found[0], name="")


@pytest.mark.parametrize("name", ["hubert_500", "speechlm_base_500", "small_vocoder"])
@pytest.mark.parametrize("seed", [-1, 99_999_999_999])
def test_a_seed_that_no_generator_takes_is_refused(name: str, seed: int) -> None:
    table = read_toml(RECIPES / f"{name}.toml")
    kind = kind_of(table)
    assert kind is not None
    with pytest.raises(InputError, match=f"seed {seed}: must be a whole number from 0"):
        build(kind, {**table, "seed": seed}, name)


# Units of a tokenizer of the paper by unit rate.
DATA2VEC2 = {"833": (8.33, 2048), "625": (6.25, 8192), "500": (5.0, 16_384)}


def small_data2vec2_recipe(rate: str, folder: Path, *overrides: str) -> Recipe:
    """A shipped recipe with all that it needs: small random models of the true layouts, and noise to train on."""
    small_corpus(folder / "audio", [24_000, 16_000, 32_000])
    write_data2vec2(folder / "base_libri.pt")
    shape = Shape()
    torch.save({"model": hubert_weights(shape), "cfg": shape.config}, folder / "hubert_base_ls960.pt")
    sizes = [f"round.{number}.sylboost.loop.{key}" for number in (1, 2) for key in ("steps=2", "batch_seconds=5.0")]
    changes = [
        *sizes,
        f'data.sources=["{(folder / "audio").as_posix()}"]',
        f'teacher="{(folder / "base_libri.pt").as_posix()}"',
        f'round.1.boundaries.encoder="{(folder / "hubert_base_ls960.pt").as_posix()}"',
        'round.1.boundaries.vad="none"',
        "codebook.units=6",
    ]
    table = apply_overrides(read_toml(RECIPES / f"d2v2_{rate}.toml"), [*changes, *overrides])
    return build(Recipe, table, rate)


@pytest.mark.parametrize("rate", DATA2VEC2)
def test_data2vec2_recipes_are_those_of_the_paper(rate: str) -> None:
    hertz, units = DATA2VEC2[rate]
    recipe = build(Recipe, read_toml(RECIPES / f"d2v2_{rate}.toml"), rate)
    assert (recipe.name, recipe.teacher) == (f"d2v2_{rate}", "base_libri.pt")
    assert (recipe.codebook.units, recipe.codebook.rule.rate) == (units, hertz)
    first, second = recipe.round
    assert (first.boundaries.source, first.boundaries.encoder) == ("losspred", "hubert_base_ls960.pt")
    assert (second.boundaries.source, second.boundaries.encoder, second.boundaries.layer) == ("minsum", "", 11)
    for step in recipe.round:
        assert step.boundaries.rate == hertz
        assert (step.sylboost.layer, step.sylboost.student, step.sylboost.train_cnn) == (11, "teacher", False)
        # Five epochs of 100 hours.
        assert step.sylboost.loop.steps * step.sylboost.loop.batch_seconds == 5 * 100 * 3600
    # HuBERT's recipe differs in its models and layers alone.
    hubert = build(Recipe, read_toml(RECIPES / f"hubert_{rate}.toml"), rate)
    assert (recipe.data, recipe.codebook) == (hubert.data, hubert.codebook)
    for step, other in zip(recipe.round, hubert.round, strict=True):
        assert replace(step.boundaries, encoder="", layer=other.boundaries.layer) == other.boundaries
        assert replace(step.sylboost, layer=other.sylboost.layer) == other.sylboost


@pytest.mark.parametrize("rate", DATA2VEC2)
def test_data2vec2_recipes_run(tmp_path: Path, rate: str) -> None:
    recipe = small_data2vec2_recipe(rate, tmp_path)
    tokenizer = Tokenizer.load(train_all(recipe, tmp_path / "run", device="cpu").path, device="cpu")
    assert isinstance(tokenizer.encoder, Data2Vec2Encoder)
    assert (tokenizer.encoder.layer, tokenizer.encoder.normalize) == (11, True)
    segments = tokenizer.encode(noise(48_000, 7))
    assert len(segments.start) == round(3 * recipe.codebook.rule.rate)
    assert segments.unit is not None and np.all((segments.unit >= 0) & (segments.unit < 6))


def test_boundaries_of_another_run_are_reused(tmp_path: Path) -> None:
    found = train_all(small_data2vec2_recipe("833", tmp_path), tmp_path / "a", device="cpu", until="losspred")
    overrides = ('round.1.boundaries.encoder=""', f'round.1.boundaries.artifact="{found.path.as_posix()}"')
    recipe = small_data2vec2_recipe("833", tmp_path, *overrides)
    train_all(recipe, tmp_path / "b", device="cpu", until="sylboost")
    first = open_artifact(tmp_path / "b" / "round1" / "encoder")
    assert first.record["parents"]["boundaries"] == found.digest
    assert not (tmp_path / "b" / "round1" / "boundaries").exists()


def test_another_teacher_than_the_recipe_wants(tmp_path: Path) -> None:
    small_corpus(tmp_path / "audio", [18_000])
    write_data2vec2(tmp_path / "teacher.pt")
    table = apply_overrides(read_toml(RECIPES / "d2v2_833.toml"), [f'data.sources=["{tmp_path / "audio"}"]'])
    wanted = {**table, "teacher": str(tmp_path / "teacher.pt"), "teacher_sha256": "ab12"}
    with pytest.raises(InputError, match=r"SHA-256 [0-9a-f]{64}, the recipe wants ab12: it is another model"):
        train_all(build(Recipe, wanted, "d2v2_833"), tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()
