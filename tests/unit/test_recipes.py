"""Every recipe that is shipped is one that a verb takes, and those of one comparison differ in their units alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from syllablelm.config import build, read_toml
from syllablelm.errors import InputError
from syllablelm.train.pipeline import Recipe
from syllablelm.train.speech import LMRecipe
from syllablelm.train.vocoder import VocoderRecipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
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


@pytest.mark.parametrize("name", ["hubert_500", "speechlm_base_500", "tiny_vocoder"])
@pytest.mark.parametrize("seed", [-1, 99_999_999_999])
def test_a_seed_that_no_generator_takes_is_refused(name: str, seed: int) -> None:
    table = read_toml(RECIPES / f"{name}.toml")
    kind = kind_of(table)
    assert kind is not None
    with pytest.raises(InputError, match=f"seed {seed}: must be a whole number from 0"):
        build(kind, {**table, "seed": seed}, name)
