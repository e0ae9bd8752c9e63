"""``train``: tokenizers, language models and vocoders by recipe; ``recipes``: the recipes of this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from syllablelm.cli.options import Changes, Device, TableFormat, print_json
from syllablelm.core.config import to_toml
from syllablelm.core.document import format_table
from syllablelm.core.recipes import list_recipes, read_recipe

if TYPE_CHECKING:
    from syllablelm.core.artifact import Artifact
    from syllablelm.core.recipes import Kind
    from syllablelm.train.tokenizer_recipe import Until

app = typer.Typer(help="Train by recipe.\n\nFinished stages are skipped, a stopped one resumes.", rich_markup_mode=None)
recipes_app = typer.Typer(help="Recipes of this package.", rich_markup_mode=None)

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a recipe (see 'recipes list'), or a .toml file.")
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Output directory (default: runs/NAME).")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Random seed (default: the recipe's).")]

# Name, kind of recipe, last stage, help.
_VERBS: list[tuple[str, Kind, Until, str]] = [
    ("encoder", "tokenizer", "encoder", "Pre-train the encoder: every iteration of the recipe."),
    ("losspred", "tokenizer", "losspred", "Find the boundaries of round 1."),
    ("sylboost", "tokenizer", "sylboost", "Run every SylBoost round of the recipe."),
    ("codebook", "tokenizer", "codebook", "Fit the codebook; the same as 'all'."),
    ("all", "tokenizer", "codebook", "Run the whole recipe of a tokenizer."),
    ("lm", "lm", "codebook", "Train a speech language model on units that 'tokenize' or 'encode' wrote."),
    ("vocoder", "vocoder", "codebook", "Train acoustic units, the unit vocoder of one voice, and the vocoder LM."),
]


def print_artifact(artifact: Artifact) -> None:
    """Print an artifact's kind, path, digest and metrics; of several processes, only in the main one."""
    from syllablelm.train.processes import is_main

    values = {"kind": artifact.kind, "path": str(artifact.path), "digest": artifact.digest}
    if is_main():
        print_json({**values, "metrics": dict(artifact.metrics)})


def _verb(kind: Kind, until: Until) -> Callable[..., None]:
    def train(
        recipe: RecipeName, out: Out = None, changes: Changes = None, seed: Seed = None, device: Device = "auto"
    ) -> None:
        from syllablelm.train.pipeline import train_recipe

        options: Any = {"overrides": changes or (), "seed": seed, "device": device}
        print_artifact(train_recipe(recipe, out, kind=kind, until=until, **options))

    return train


for _name, _kind, _until, _help in _VERBS:
    app.command(_name, help=_help)(_verb(_kind, _until))


@app.command()
def bundle(
    tokenizer: Annotated[Path, typer.Option("--tokenizer", metavar="FOLDER", help="Tokenizer.")],
    vocoder: Annotated[Path, typer.Option("--vocoder", metavar="FOLDER", help="Output of 'train vocoder'.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Output directory.")],
    lm: Annotated[
        Path | None,
        typer.Option(
            "--lm", metavar="FOLDER", help="Language model: lm/ of a 'train lm' run (without: resynthesis only)."
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store language models and vocoder in float16.")] = False,
) -> None:
    """Copy tokenizer, language model and vocoder into one folder, for --model of every verb."""
    from syllablelm.train.assemble import assemble_model

    print_json(assemble_model(tokenizer, lm, vocoder, out, half=half))


@recipes_app.command("list")
def list_(form: TableFormat = "json") -> None:
    """List the recipes: name, kind (tokenizer, lm or vocoder) and description."""
    rows = [recipe.to_dict() for recipe in list_recipes()]
    if form == "json":
        for row in rows:
            print_json(row)
    else:
        print(format_table(rows, style=form))


@recipes_app.command()
def show(
    recipe: RecipeName,
    changes: Changes = None,
    form: Annotated[
        Literal["toml", "json"], typer.Option("--format", metavar="toml|json", help="Output format.")
    ] = "toml",
) -> None:
    """Print a recipe with what it extends, its defaults and its rate filled in."""
    table = read_recipe(recipe, changes or ())
    if form == "json":
        print_json(table)
    else:
        print(to_toml(table), end="")
