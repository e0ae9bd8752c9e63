"""Recipes by name: TOML files of this package or of the user's own, which may extend one another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar

from syllablelm.core.config import apply_overrides, build, read_toml
from syllablelm.core.errors import FormatError, InputError, located
from syllablelm.core.results import Record

T = TypeVar("T")
FOLDER = Path(__file__).resolve().parents[1] / "recipes"
Kind = Literal["tokenizer", "lm", "vocoder"]
# Tables that only one kind of recipe has.
_KIND_OF_TABLE: dict[str, Kind] = {
    **dict.fromkeys(("vocoder_lm", "voice", "published"), "vocoder"),
    "units": "lm",
    "codebook": "tokenizer",
}


@dataclass(frozen=True)
class RecipeSummary(Record):
    """A recipe of this package: its name, what it trains, and the first comment line of its file."""

    name: str
    kind: Kind
    description: str


def recipe_names() -> list[str]:
    """Return the names of the recipes of this package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def list_recipes() -> list[RecipeSummary]:
    """Return name, kind and description of every recipe of this package."""
    names = recipe_names()
    firsts = [find_recipe(name).read_text(encoding="utf-8").split("\n", 1)[0] for name in names]
    about = [line[1:].strip() if line.startswith("#") else "" for line in firsts]
    return [RecipeSummary(name, recipe_kind(read_recipe(name)), said) for name, said in zip(names, about, strict=True)]


def find_recipe(name: str | Path, folder: Path = Path()) -> Path:
    """Return the file of a recipe, or InputError.

    `name` is a path of a TOML file, relative to `folder`, or the name of a recipe of this package.
    """
    path, names = folder / name, recipe_names()
    # A name that is too long for a file is none, without asking the system.
    if max(map(len, path.parts), default=0) < 256 and path.is_file():
        return path
    if str(name) in names:
        return FOLDER / f"{name}.toml"
    near = difflib.get_close_matches(str(name), names) or ["small", "tiny"]
    raise InputError(
        f"{name}: no such recipe; give a .toml file or one of those that `syllablelm recipes list` shows, "
        f"such as {', '.join(near)}"
    )


def read_recipe(name: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read the resolved table of a recipe.

    Four keys are resolved here:

    - ``extends`` names another recipe, or a path relative to the file. Its tables are merged with this recipe's key by
      key; members of arrays of tables (``[[round]]``) are merged by position, and further members are appended. Every
      other value, an empty array included, replaces the inherited one.
    - ``name`` is by default the file's name; it is never inherited.
    - ``defaults.ARRAY`` holds what every member of the array of tables ARRAY takes unless it says otherwise.
    - ``rate`` of a tokenizer's recipe is the rate in Hz of every ``round.boundaries`` and of ``codebook.rule``.

    Args:
        name: as in `find_recipe`.
        overrides: changes such as "lm.loop.steps=100", applied before defaults and rate.
    """
    path = find_recipe(name)
    table = apply_overrides({"name": path.stem, **_read_extended(path)}, overrides)
    with located(path):
        return _spread_rate(_fill_members(table))


def build_recipe(cls: type[T], name: str | Path, overrides: Sequence[str] = ()) -> T:
    """Build the dataclass of a recipe; see `read_recipe` and `config.build`."""
    return build(cls, read_recipe(name, overrides), str(name))


def recipe_kind(table: Mapping[str, Any], default: Kind | None = None, where: str = "recipe") -> Kind:
    """Return what a recipe trains, by the tables that it has; `default`, or else InputError, if it has none of them."""
    for key, kind in _KIND_OF_TABLE.items():
        if key in table:
            return kind
    if default is not None:
        return default
    tables = ", ".join(f"[{key}] ({kind})" for key, kind in _KIND_OF_TABLE.items())
    raise InputError(f"{where}: needs one of the tables {tables}")


def merge_tables(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``change``, merged as ``extends`` does."""
    result = dict(base)
    for key, value in change.items():
        old: Any = base.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            result[key] = merge_tables(old, value)
        elif _is_array_of_tables(value) and _is_array_of_tables(old):
            result[key] = [merge_tables(one, other) for one, other in zip_longest(old, value, fillvalue={})]
        else:
            result[key] = value
    return result


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _read_extended(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    chain = (*children, path.resolve())
    if path.resolve() in children:
        raise FormatError(f"{path}: recipes extend one another in a circle: {' -> '.join(p.stem for p in chain)}")
    table = read_toml(path)
    parent = table.pop("extends", None)
    if parent is None:
        return table
    try:
        if not isinstance(parent, str):
            raise InputError(f"expected the name of a recipe, got {parent!r}")
        base = _read_extended(find_recipe(parent, path.parent), chain)
    except InputError as error:
        raise FormatError(f"{path}: extends: {error}") from None
    base.pop("name", None)
    return merge_tables(base, table)


def _fill_members(table: dict[str, Any]) -> dict[str, Any]:
    """Apply ``[defaults]``."""
    defaults = table.pop("defaults", {})
    if not isinstance(defaults, Mapping):
        raise InputError(f"defaults: expected a table, got {defaults!r}")
    for key, values in defaults.items():
        members = table.get(key)
        if (
            not isinstance(values, Mapping)
            or not isinstance(members, list)
            or not (members == [] or _is_array_of_tables(members))
        ):
            raise InputError(f"defaults.{key}: must be a table, with defaults of the members of [[{key}]]")
        table[key] = [merge_tables(values, member) for member in members]
    return table


def _spread_rate(table: dict[str, Any]) -> dict[str, Any]:
    """Apply the top-level ``rate``; in recipes that have no place for one it stays, as an unknown key."""
    codebook, rounds = table.get("codebook"), table.get("round", [])
    # Tables of other types are left to the check of types.
    if "rate" not in table or not isinstance(codebook, dict) or not (rounds == [] or _is_array_of_tables(rounds)):
        return table
    rate = table.pop("rate")
    places = {f"round.{number}.boundaries": step.setdefault("boundaries", {}) for number, step in enumerate(rounds, 1)}
    for where, place in [*places.items(), ("codebook.rule", codebook.setdefault("rule", {}))]:
        if not isinstance(place, dict):
            raise InputError(f"{where}: expected a table, got {place!r}")
        if place.setdefault("rate", rate) != rate:
            raise InputError(
                f"{where}.rate {place['rate']} disagrees with the recipe's rate {rate}; change the top-level rate "
                "(--set rate=...), or replace it by a rate at every place"
            )
    return table
