"""Recipes by name: what they extend, their defaults and rate, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.core.config import read_toml, to_toml
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.recipes import (
    FOLDER,
    RecipeSummary,
    find_recipe,
    list_recipes,
    merge_tables,
    read_recipe,
    recipe_kind,
    recipe_names,
)

BASE = """
# A base.
name = "base"
rate = 5.0
widths = [1, 2]
[defaults.round.sylboost]
layer = 9
[defaults.round.sylboost.loop]
steps = 7
[[round]]
boundaries = { source = "losspred" }
[[round]]
boundaries = { source = "minsum" }
[round.sylboost]
layer = 3
[codebook]
units = 4
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path / "base.toml", BASE)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_and_rate_reach_every_place_that_says_nothing_else(base: Path) -> None:
    first, second = read_recipe(base)["round"]
    assert first == {"boundaries": {"source": "losspred", "rate": 5.0}, "sylboost": {"layer": 9, "loop": {"steps": 7}}}
    assert second["sylboost"] == {"layer": 3, "loop": {"steps": 7}}
    assert read_recipe(base)["codebook"] == {"units": 4, "rule": {"rate": 5.0}}
    assert not {"rate", "defaults"} & read_recipe(base).keys()
    changed = read_recipe(base, ["rate=6", "defaults.round.sylboost.layer=1", "round.1.sylboost.loop.steps=2"])
    assert [step["sylboost"]["layer"] for step in changed["round"]] == [1, 3]
    assert [step["sylboost"]["loop"]["steps"] for step in changed["round"]] == [2, 7]
    assert {changed["codebook"]["rule"]["rate"], *(step["boundaries"]["rate"] for step in changed["round"])} == {6}


def test_a_child_says_what_differs(base: Path, tmp_path: Path) -> None:
    child = write(
        tmp_path / "child.toml",
        """extends = "base.toml"
        rate = 6.25
        widths = [3]
        [defaults.round.sylboost]
        layer = 11
        [[round]]
        [[round]]
        boundaries = { layer = 2 }
        [[round]]
        boundaries = { source = "peaks" }
        """,
    )
    table = read_recipe(child)
    assert (table["name"], table["widths"], table["codebook"]["rule"]["rate"]) == ("child", [3], 6.25)
    assert [step["boundaries"].get("source") for step in table["round"]] == ["losspred", "minsum", "peaks"]
    assert table["round"][1]["boundaries"]["layer"] == 2
    assert [step["sylboost"]["layer"] for step in table["round"]] == [11, 3, 11]
    grandchild = write(tmp_path / "grandchild.toml", 'extends = "child.toml"\nround = []\nname = "own"')
    assert (read_recipe(grandchild)["round"], read_recipe(grandchild)["name"]) == ([], "own")


def test_a_file_of_the_user_extends_a_recipe_of_the_package(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.toml", 'extends = "tiny"\n[data]\nsources = ["recordings"]')
    expected = read_recipe("tiny")
    table = read_recipe(mine)
    assert table.pop("name") == "mine" and table.pop("data")["sources"] == ["recordings"]
    assert table == {key: value for key, value in expected.items() if key not in ("name", "data")}


def test_merging_does_not_change_its_inputs() -> None:
    base, change = {"a": {"b": [{"c": 1}]}, "d": [1]}, {"a": {"b": [{"e": 2}, {"c": 3}]}, "d": []}
    assert merge_tables(base, change) == {"a": {"b": [{"c": 1, "e": 2}, {"c": 3}]}, "d": []}
    assert base == {"a": {"b": [{"c": 1}]}, "d": [1]} and change["d"] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "mine.toml"', r"mine\.toml: recipes extend one another in a circle: mine -> mine"),
        ('extends = "other.toml"', r"in a circle: mine -> other -> mine"),
        ('extends = "nowhere"', r"mine\.toml: extends: nowhere: no such recipe; give a \.toml file or one of"),
        ("extends = 3", r"mine\.toml: extends: expected the name of a recipe, got 3"),
        (
            'extends = "base.toml"\n[codebook.rule]\nrate = 4.5',
            r"codebook\.rule\.rate 4\.5 disagrees with the .* rate 5\.0",
        ),
        ("rate = 5.0\n[codebook]\n[[round]]\nboundaries = {rate = 4.0}", r"round\.1\.boundaries\.rate 4\.0 disagrees"),
        ("[defaults.round]\nx = 1", r"defaults\.round: must be a table, with defaults of the members of \[\[round\]\]"),
    ],
)
def test_refused(base: Path, tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "other.toml", 'extends = "mine.toml"')
    with pytest.raises((FormatError, InputError), match=message):
        read_recipe(write(tmp_path / "mine.toml", text))


def test_an_equal_rate_at_a_place_is_no_contradiction(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.toml", "rate = 5\n[codebook.rule]\nrate = 5.0")
    assert read_recipe(mine)["codebook"]["rule"]["rate"] == 5.0
    # A recipe without a place for a rate does not lose it: building reports an unknown key.
    assert read_recipe(write(tmp_path / "lm.toml", "rate = 5\n[units]"))["rate"] == 5


def test_recipes_of_the_package_are_found_by_name_and_listed() -> None:
    assert find_recipe("tiny") == FOLDER / "tiny.toml" and find_recipe(FOLDER / "tiny.toml") == FOLDER / "tiny.toml"
    listed = {recipe.name: recipe for recipe in list_recipes()}
    assert list(listed) == recipe_names() and {recipe.kind for recipe in listed.values()} == {
        "tokenizer",
        "lm",
        "vocoder",
    }
    for recipe in listed.values():
        assert recipe.description and RecipeSummary.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(InputError, match="needs one of the tables"):
        recipe_kind({"name": "x"})
    assert recipe_kind({}, "lm") == "lm"


@pytest.mark.parametrize("name", recipe_names())
def test_a_shown_recipe_is_the_same_recipe(tmp_path: Path, name: str) -> None:
    shown = write(tmp_path / f"{name}.toml", to_toml(read_recipe(name)))
    assert read_toml(shown) == read_recipe(shown) == read_recipe(name)
