"""Recipes by name: the TOML files of this package, or files of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syllablelm.core.config import apply_overrides, read_toml
from syllablelm.core.errors import InputError

FOLDER = Path(__file__).resolve().parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Return the names of the recipes of this package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_recipe(name: str | Path) -> Path:
    """Return the file of a recipe.

    Args:
        name: path of a TOML file, or the name of a recipe of this package.

    Raises:
        InputError: neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    packaged = FOLDER / f"{name}.toml"
    if len(path.parts) == 1 and packaged.is_file():
        return packaged
    raise InputError(f"{name}: no such recipe; give a .toml file or one of {', '.join(recipe_names())}")


def read_recipe(name: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read the table of a recipe and apply overrides such as ``lm.loop.steps=100``.

    Raises:
        InputError: no such recipe, or an override that does not fit it.
        FormatError: not TOML.
    """
    return apply_overrides(read_toml(find_recipe(name)), overrides)
