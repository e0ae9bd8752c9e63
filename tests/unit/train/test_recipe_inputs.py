"""Every part that a recipe names is made by another recipe, or documented with the command that makes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from syllablelm.core.models import bundled_names
from syllablelm.core.recipes import read_recipe, recipe_kind, recipe_names

DOCS = Path(__file__).parents[3] / "docs"
# Keys of recipes whose values name parts, by the last one or two.
INPUTS = {
    *("teacher", "tokenizer", "data.sources", "voice.sources", "parallel.sources", "parallel.spoken"),
    *("units.train", "units.valid", "encoded.syllables", "encoded.acoustic", "published.path", "text_model"),
    *("boundaries.encoder", "boundaries.artifact", "labels.encoder", "acoustic.encoder", "acoustic.centres"),
    *("acoustic.tokenizer", "encoder.start"),
}
# Folders that a run makes, by kind of recipe.
MADE = {
    "tokenizer": r"tokenizer|round\d+/(boundaries|encoder)|iteration\d+/(labels|encoder)|head/predictor",
    "lm": "lm",
    "vocoder": "vocoder|vocoder_lm|acoustic",
}


def named(table: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, part) of all parts that a recipe names."""
    if isinstance(table, dict):
        for name, value in table.items():
            yield from named(value, f"{key}.{name}")
    elif isinstance(table, (list, tuple)):
        for value in table:
            yield from named(value, key)
    elif isinstance(table, str) and table:
        ends = {key.rpartition(".")[2], ".".join(key.split(".")[-2:])}
        if ends & INPUTS and table not in ("random", "previous"):
            yield key, table


def is_made_by_a_recipe(part: str) -> bool:
    match = re.fullmatch(r"runs/([^/]+)/(.+)", part)
    if match is None or match[1] not in recipe_names():
        return False
    table = read_recipe(match[1])
    folder = MADE[recipe_kind(table)]
    number = re.match(r"(round|iteration)(\d+)", match[2])
    return bool(re.fullmatch(folder, match[2])) and (number is None or int(number[2]) <= len(table[number[1]]))


def documented() -> set[str]:
    """Return the names and patterns in the first column of the table of inputs."""
    text = (DOCS / "train.md").read_text(encoding="utf-8")
    section = text.split("## Inputs of the recipes\n", 1)[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    assert all(row[2].strip() for row in rows), "say where each comes from"
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row[1])}


@pytest.mark.parametrize("recipe", recipe_names())
def test_parts_are_made_or_documented(recipe: str) -> None:
    parts = list(named(read_recipe(recipe)))
    assert parts, "a recipe names data or units at least"
    listed = documented()
    for key, part in parts:
        known = part in bundled_names() or is_made_by_a_recipe(part) or any(fnmatch(part, name) for name in listed)
        assert known, f"{recipe}: {key} = {part!r}: no recipe makes it, and docs/train.md does not list it"


def test_every_documented_input_is_used() -> None:
    used = {part for recipe in recipe_names() for _, part in named(read_recipe(recipe))}
    # Named in comments of recipes, as what may be taken instead.
    optional = {"hubert_base_ls960.pt"}
    unused = {name for name in documented() if not any(fnmatch(part, name) for part in used)} - optional
    assert not unused


def test_the_walk_finds_what_is_missing() -> None:
    table = {
        "units": {"train": ["runs/small/lm"]},
        "round": [{"boundaries": {"artifact": "runs/tiny/round9/boundaries"}}],
    }
    assert [part for _, part in named(table)] == ["runs/small/lm", "runs/tiny/round9/boundaries"]
    assert not is_made_by_a_recipe("runs/small/lm") and not is_made_by_a_recipe("runs/tiny/round9/boundaries")
    assert is_made_by_a_recipe("runs/tiny/round2/boundaries") and not is_made_by_a_recipe("runs/sylboost_833/tokenizer")
