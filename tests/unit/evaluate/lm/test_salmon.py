"""SALMon's folders: parts, names, and what is no pair."""

from __future__ import annotations

from pathlib import Path

import pytest

from syllablelm.core.errors import FormatError
from syllablelm.evaluate.lm.salmon import PARTS, read_salmon


def make(root: Path, part: str, *names: str) -> Path:
    (root / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / part / f"{name}.wav").touch()
    return root


def test_pairs_of_all_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in PARTS[:3]:
        # Numbers are no order: 10 comes before 2 by name.
        make(tmp_path, part, "sample_10_1", "sample_10_0", "sample_2_0", "sample_2_1")
        (tmp_path / part / "metadata.json").touch()
    make(tmp_path, "raw", "speech")
    pairs, files = read_salmon(tmp_path)
    assert [pair.labels["part"] for pair in pairs] == [part for part in PARTS[:3] for _ in range(2)]
    for pair in pairs:
        ((right, wrong),) = pair.stems
        assert right == f"{pair.name.replace('/', '/sample_')}_0" and wrong == right.removesuffix("0") + "1"
        assert files[right] == tmp_path / f"{right}.wav"
    assert len(files) == 12
    assert f"without {', '.join(PARTS[3:])}" in capsys.readouterr().err
    alone, files = read_salmon(tmp_path / PARTS[1])
    assert alone == [pair for pair in pairs if pair.labels["part"] == PARTS[1]]
    assert {file.parent for file in files.values()} == {tmp_path / PARTS[1]}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("sample_0_0",), "without its other recording"),
        (("sample_0_0", "sample_1_1"), "without its other recording"),
        (("sample_0_0", "sample_0_1", "sample_0_2"), "a pair with more than two recordings"),
        (("sample_0_0", "sample_0_1", "speech"), "a name that is not sample_NUMBER_OPTION: speech (1 in all)"),
        (("sample_0_a", "sample_0_1"), "a name that is not sample_NUMBER_OPTION: sample_0_a (1 in all)"),
        ((), "no .wav or .flac recordings"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(FormatError) as error:
        read_salmon(make(tmp_path, "bg_alignment", *names))
    assert words in str(error.value)


def test_no_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no part of SALMon in it; give the folder that holds bg_alignment"):
        read_salmon(tmp_path)
