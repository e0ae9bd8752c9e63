"""``train``: the chain of a recipe, whole or up to one stage; language models and vocoders by recipes of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.common import Changes, Device, print_json
from syllablelm.core.recipes import read_recipe

if TYPE_CHECKING:
    from syllablelm.core.artifact import Artifact

# As in `syllablelm.train.pipeline`, which is not imported here because it loads torch.
Until = Literal["encoder", "losspred", "sylboost", "codebook"]

RUNS = Path("runs")

app = typer.Typer(
    help="Learn units by a recipe.\n\nFinished stages are skipped, a stopped one resumes.", rich_markup_mode=None
)

_VERBS: dict[str, tuple[Until, str]] = {
    "encoder": ("encoder", "The encoder: every iteration of the recipe."),
    "losspred": ("losspred", "The first boundaries, from the source that round 1 of the recipe names."),
    "sylboost": ("sylboost", "SylBoost: every round of the recipe."),
    "codebook": ("codebook", "The codebook, and with it the tokenizer."),
    "all": ("codebook", "The whole recipe, up to the tokenizer."),
}


RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a .toml file.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Of the run; default runs/NAME.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Instead of the recipe's.")]


def _read(recipe: str, changes: list[str] | None, seed: int | None) -> dict[str, Any]:
    table = read_recipe(recipe, changes or ())
    return table if seed is None else {**table, "seed": seed}


def _print_artifact(artifact: Artifact) -> None:
    from syllablelm.train.processes import is_main

    path, metrics = str(artifact.path), dict(artifact.metrics)
    if is_main():
        print_json({"kind": artifact.kind, "path": path, "digest": artifact.digest, "metrics": metrics})


def _command(until: Until) -> Callable[..., None]:
    def train(
        recipe: RecipePath, out: Out = None, changes: Changes = None, seed: Seed = None, device: Device = "auto"
    ) -> None:
        from syllablelm.core.config import build

        table = _read(recipe, changes, seed)
        from syllablelm.train.pipeline import Recipe, train_all

        resolved = build(Recipe, table, str(recipe))
        _print_artifact(train_all(resolved, out or RUNS / resolved.name, device=device, until=until))

    return train


for _name, (_until, _help) in _VERBS.items():
    app.command(_name, help=_help)(_command(_until))


@app.command()
def lm(
    recipe: RecipePath, out: Out = None, changes: Changes = None, seed: Seed = None, device: Device = "auto"
) -> None:
    """A speech language model of units that ``tokenize`` or ``encode`` wrote."""
    from syllablelm.core.config import build

    table = _read(recipe, changes, seed)
    from syllablelm.train.bundle import LMRecipe, train_lm_recipe

    resolved = build(LMRecipe, table, str(recipe))
    _print_artifact(train_lm_recipe(resolved, out or RUNS / resolved.name, device=device))


@app.command()
def vocoder(
    recipe: RecipePath, out: Out = None, changes: Changes = None, seed: Seed = None, device: Device = "auto"
) -> None:
    """Acoustic units, the unit vocoder of one voice, and the interleaved vocoder LM."""
    from syllablelm.core.config import build

    table = _read(recipe, changes, seed)
    from syllablelm.train.vocoder_recipe import VocoderRecipe, train_vocoder_recipe

    resolved = build(VocoderRecipe, table, str(recipe))
    _print_artifact(train_vocoder_recipe(resolved, out or RUNS / resolved.name, device=device))


@app.command()
def bundle(
    tokenizer: Annotated[Path, typer.Option("--tokenizer", metavar="FOLDER", help="A tokenizer's folder.")],
    lm: Annotated[Path, typer.Option("--lm", metavar="FOLDER", help="Its language model: lm/ of a 'train lm' run.")],
    vocoder: Annotated[Path, typer.Option("--vocoder", metavar="FOLDER", help="The run of 'train vocoder'.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Of the model.")],
    half: Annotated[
        bool, typer.Option("--half", help="Weights of the language models and the vocoder in float16.")
    ] = False,
) -> None:
    """Tokenizer, language model and vocoder in one folder, for --model of every verb."""
    from syllablelm.train.bundle import assemble_model

    path = assemble_model(tokenizer, lm, vocoder, out, half=half)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print_json({"path": str(path), "megabytes": round(size / 1e6, 2)})
