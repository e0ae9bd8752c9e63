from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.cli.app import main
from syllablelm.cli.options import read_numbers
from syllablelm.core.errors import InputError
from syllablelm.core.recipes import read_recipe


def test_numbers_of_an_option() -> None:
    assert read_numbers("1e6, 4", "--tokens") == [1e6, 4.0]
    for text in ("", "1,", "1;2", "many"):
        with pytest.raises(InputError, match=f"^--tokens '{text}': must be numbers with commas"):
            read_numbers(text, "--tokens")


def test_changes_of_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('name = "a"\n[lm.loop]\nsteps = 3\n', encoding="utf-8")
    assert read_recipe(path) == {"name": "a", "lm": {"loop": {"steps": 3}}}
    assert read_recipe(path, ["lm.loop.steps=5", "seed=1"]) == {"name": "a", "seed": 1, "lm": {"loop": {"steps": 5}}}


@pytest.mark.parametrize("seed", [-1, 2**32])
@pytest.mark.parametrize("verb", [("continue", "a.wav", "--out", "o"), ("evaluate", "resynthesis", "a.wav")])
def test_a_seed_out_of_range_is_refused_at_once(capsys: pytest.CaptureFixture[str], verb: tuple, seed: int) -> None:
    assert main([*verb, "--seed", str(seed)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert said.err.startswith("error: Invalid value for '--seed': ")
