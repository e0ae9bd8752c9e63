"""Names of open sets and files; the rest of the module is tested through the verbs, in tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.core.errors import FormatError
from syllablelm.evaluate.lm.zerospeech import list_stems, open_set_name, read_submission, write_submission


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


def test_what_macs_put_beside_recordings_is_passed_over(tmp_path: Path) -> None:
    for name in ("f0A0.wav", "._f0A0.wav", ".DS_Store", "._f0A1.wav"):
        (tmp_path / name).touch()
    assert list_stems(tmp_path) == {"f0A0": tmp_path / "f0A0.wav"}
    (tmp_path / "f0A0.wav").unlink()
    with pytest.raises(FormatError, match="recordings right in this folder"):
        list_stems(tmp_path)


def test_scores_of_any_name_are_read_back(tmp_path: Path) -> None:
    scores = {"caf\udce9": -1.5, "é": 2.0}
    write_submission(tmp_path / "dev.txt", scores)
    assert read_submission(tmp_path / "dev.txt") == scores
