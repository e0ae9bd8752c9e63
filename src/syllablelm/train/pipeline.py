"""Training by recipe: one call for every kind of recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from syllablelm.core.artifact import Artifact
from syllablelm.core.config import build
from syllablelm.core.errors import InputError
from syllablelm.core.files import file_below
from syllablelm.core.recipes import Kind, read_recipe, recipe_kind
from syllablelm.train.lm_stage import LMRecipe, train_lm_recipe
from syllablelm.train.tokenizer_recipe import TokenizerRecipe, Until, train_tokenizer_recipe
from syllablelm.train.vocoder_recipe import VocoderRecipe, train_vocoder_recipe

RUNS = Path("runs")


def train_recipe(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str = "auto",
    kind: Kind | None = None,
    until: Until = "codebook",
) -> Artifact:
    """Run the stages of a recipe; finished ones are skipped, a stopped one resumes.

    Args:
        recipe: name of a recipe of this package, or path of a TOML file.
        out: output folder (default: runs/NAME).
        overrides: changes such as "lm.loop.steps=100".
        seed, device: random seed (default: the recipe's); "auto", "cpu" or "cuda".
        kind: required kind of recipe (default: any).
        until: last stage of a tokenizer's recipe: "encoder", "losspred" (the boundaries of round 1), "sylboost", or
            "codebook" (everything).

    Returns:
        the artifact of the last stage.

    Raises:
        InputError: no such recipe, one of another kind, or a value out of range.
        FormatError: a recipe that is not TOML, has an unknown key, or a value of the wrong type.
    """
    table, where = read_recipe(recipe, overrides), str(recipe)
    if seed is not None:
        table["seed"] = seed
    found = recipe_kind(table, kind, where)
    if kind not in (None, found):
        verb = "all" if found == "tokenizer" else found
        raise InputError(f"{where}: a recipe of kind {found}, not {kind}; use `train {verb}`")
    classes: dict[str, type[LMRecipe | VocoderRecipe | TokenizerRecipe]]
    classes = {"lm": LMRecipe, "vocoder": VocoderRecipe, "tokenizer": TokenizerRecipe}
    built = build(classes[found], table, where)
    folder = file_below(RUNS, built.name, "") if out is None else Path(out)
    if isinstance(built, LMRecipe):
        return train_lm_recipe(built, folder, device=device)
    if isinstance(built, VocoderRecipe):
        return train_vocoder_recipe(built, folder, device=device)
    return train_tokenizer_recipe(built, folder, device=device, until=until)
