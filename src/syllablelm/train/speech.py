"""The recipes of speech: a language model of units, and the vocoder that speaks them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from syllablelm.artifact import Artifact
from syllablelm.train.lm import LMConfig, train_lm
from syllablelm.train.processes import join
from syllablelm.train.tokens import UnitsConfig, make_tokens, tokenizer_info


@dataclass(frozen=True)
class LMRecipe:
    """Everything that ``train lm`` does: units to token stores to a language model."""

    name: str
    units: UnitsConfig
    lm: LMConfig
    seed: int = 0


def train_lm_recipe(recipe: LMRecipe, out: Path, *, device: str = "auto") -> Artifact:
    """Run the stages of a language model's recipe below ``out``; finished ones are skipped."""
    join(device)
    info = tokenizer_info(recipe.units.tokenizer)
    train = make_tokens(recipe.units.train, info, out / "train")
    valid = make_tokens(recipe.units.valid, info, out / "valid") if recipe.units.valid else None
    return train_lm(recipe.lm, train, out / "lm", valid=valid, seed=recipe.seed, device=device)
