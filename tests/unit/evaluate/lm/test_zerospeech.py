"""Names of open sets; the rest of the module is tested through the verbs, in tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.evaluate.lm.zerospeech import open_set_name


@pytest.mark.parametrize("place", ["lexical/dev", "cloze", "."])
def test_a_folder_of_a_set_has_its_name(tmp_path: Path, place: str) -> None:
    (tmp_path / "settings.json").write_text('{"name": "open-pairs", "voices": ["awb"]}', encoding="utf-8")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    assert open_set_name(tmp_path / place) == "open-pairs"


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"name": "mine"}', '{"voices": []}', '{"name": 3, "voices": []}', "{ // c"]
)
def test_other_settings_name_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text, encoding="utf-8")
    assert open_set_name(tmp_path) is None


def test_the_set_is_not_looked_for_far_away(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"name": "open-pairs", "voices": ["awb"]}', encoding="utf-8")
    place = tmp_path / "a" / "lexical" / "dev"
    place.mkdir(parents=True)
    assert open_set_name(place) is None
