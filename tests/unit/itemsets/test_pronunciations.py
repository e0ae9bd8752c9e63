"""Pronouncing dictionaries and word counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syllablelm.core.errors import FormatError, InputError
from syllablelm.itemsets.pronunciations import count_words, read_dictionary, read_spoken_dictionary, to_ear


def test_merged_vowels_are_homophones() -> None:
    assert to_ear(("K", "AO1", "T")) == to_ear(("K", "AA1", "T")) != to_ear(("K", "AE1", "T"))


def test_dictionary_file(tmp_path: Path) -> None:
    path = tmp_path / "cmu.dict"
    path.write_text(";;; notes\nCAT  K AE1 T\ncat(2) K AA1 T\na.b EY1 B IY1 # abbreviation\n", encoding="utf-8")
    lexicon = read_dictionary(path)
    assert lexicon.entries == {"cat": (("K", "AE1", "T"), ("K", "AA1", "T")), "a.b": (("EY1", "B", "IY1"),)}
    assert lexicon.spellings[("K", "AA", "T")] == ("cat",)


@pytest.mark.parametrize(
    ("line", "fault"), [("cat", ":1: not a line"), ("cat K XX T", ":1: phone 'XX'"), ("", "empty")]
)
def test_bad_dictionary(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "bad.dict"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(FormatError, match=fault):
        read_dictionary(path)
    with pytest.raises(InputError, match="no such dictionary"):
        read_dictionary(tmp_path / "gone")


def test_dictionary_of_a_corpus(tmp_path: Path) -> None:
    def word(label: str, *phones: str) -> dict:
        return {"word": label, "start": 0.0, "end": 1.0, "phones": [[phone, 0.0, 0.1] for phone in phones]}

    said = [[word("The", "DH", "IY")], [word("the", "DH", "AH")], [word("the", "DH", "AH")], [word("", "SIL")]]
    rows = [{"id": str(i), "duration": 1.0, "words": words} for i, words in enumerate(said)]
    for row in rows:
        for item in row["words"]:
            item["phones"] = [[p, 0.1 * i, 0.1 * (i + 1)] for i, (p, _, _) in enumerate(item["phones"])]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read_spoken_dictionary(path).entries == {"the": (("DH", "AH"), ("DH", "IY"))}


def test_word_counts_skip_ids(tmp_path: Path) -> None:
    (tmp_path / "a.trans.txt").write_text("CAT-1-0000 THE CAT\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("The dog's\ncat.", encoding="utf-8")
    assert count_words([tmp_path]) == {"the": 2, "cat": 2, "dog's": 1}
    with pytest.raises(InputError, match="no such text"):
        count_words([tmp_path / "gone"])
