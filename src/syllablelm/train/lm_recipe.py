"""The language model's recipe: units to packed tokens to a speech language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from syllablelm.core.artifact import Artifact
from syllablelm.core.config import check_seed
from syllablelm.train.lm_stage import LMConfig, train_lm
from syllablelm.train.processes import join
from syllablelm.train.token_stage import UnitsConfig, make_tokens, tokenizer_info


@dataclass(frozen=True)
class LMRecipe:
    """The stages of ``train lm``, in their order.

    Args:
        name: name of the output folder below runs/.
        units: units to train on, and those held out.
        lm: language model and its training.
        seed: random seed.
    """

    name: str
    units: UnitsConfig
    lm: LMConfig
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)


def make_token_stores(units: UnitsConfig, out: Path) -> tuple[Artifact, Artifact | None]:
    """Pack the units of a recipe into ``out``/train and, where some are held out, ``out``/valid."""
    info = tokenizer_info(units.tokenizer)
    train = make_tokens(units.train, info, out / "train", without=units.valid)
    return train, make_tokens(units.valid, info, out / "valid") if units.valid else None


def train_lm_recipe(recipe: LMRecipe, out: Path, *, device: str = "auto") -> Artifact:
    """Run the stages of a language model's recipe below ``out``; finished ones are skipped."""
    join(device)
    train, valid = make_token_stores(recipe.units, out)
    return train_lm(recipe.lm, train, out / "lm", valid=valid, seed=recipe.seed, device=device)
