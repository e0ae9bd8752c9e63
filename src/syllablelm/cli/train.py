"""``train``: the chain of a recipe, whole or up to one stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from syllablelm.cli.common import Device, print_json

# As in `syllablelm.train.pipeline`, which is not imported here because it loads torch.
Until = Literal["encoder", "losspred", "sylboost", "codebook"]

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


def _command(until: Until) -> Callable[..., None]:
    def train(
        recipe: Annotated[
            Path, typer.Argument(metavar="RECIPE", help="A .toml file; folders in it are relative to the current one.")
        ],
        out: Annotated[
            Path | None, typer.Option("--out", metavar="FOLDER", help="Of the run; default runs/NAME.")
        ] = None,
        changes: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: round.2.sylboost.layer=4; repeatable."),
        ] = None,
        seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Instead of the recipe's.")] = None,
        device: Device = "auto",
    ) -> None:
        from syllablelm.config import apply_overrides, build, read_toml

        table = apply_overrides(read_toml(recipe), changes or [])
        if seed is not None:
            table["seed"] = seed
        from syllablelm.train.pipeline import Recipe, train_all

        resolved = build(Recipe, table, str(recipe))
        artifact = train_all(resolved, out or Path("runs") / resolved.name, device=device, until=until)
        print_json(
            {
                "kind": artifact.kind,
                "path": str(artifact.path),
                "digest": artifact.digest,
                "metrics": dict(artifact.metrics),
            }
        )

    return train


for _name, (_until, _help) in _VERBS.items():
    app.command(_name, help=_help)(_command(_until))
