"""Alignments: readers against small hand-written files, faults by name, round trips."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import FormatError, InputError
from syllablelm.data.alignment import (
    Alignment,
    Interval,
    Word,
    is_silence,
    prepare_alignments,
    read_alignments,
    write_alignments,
)

BUTTER = Word(
    "butter",
    0.2,
    0.6,
    (Interval("B", 0.2, 0.3), Interval("AH1", 0.3, 0.4), Interval("T", 0.4, 0.45), Interval("ER0", 0.45, 0.6)),
)
UP = Word("up", 0.6, 0.9, (Interval("AH1", 0.6, 0.8), Interval("P", 0.8, 0.9)))
EXPECTED = Alignment("utt1", 1.0, (BUTTER, UP))

WORDS_CTM = ";; comment\nutt1 1 0.2 0.4 butter 0.99\nutt1 1 0.6 0.3 up\n"
PHONES_CTM = """utt1 1 0.0 0.2 SIL
utt1 1 0.2 0.1 B_B
utt1 1 0.3 0.1 AH1_I
utt1 1 0.4 0.05 T_I
utt1 1 0.45 0.15 ER0_E
utt1 1 0.6 0.2 AH1_B
utt1 1 0.8 0.1 P_E
utt1 1 0.9 0.1 SIL
"""


def textgrid(tiers: dict[str, list[tuple[float, float, str]]], end: float = 1.0) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, entries) in enumerate(tiers.items(), start=1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end}", f"        intervals: size = {len(entries)}"]
        for index, (start, stop, label) in enumerate(entries, start=1):
            lines += [f"        intervals [{index}]:", f"            xmin = {start}", f"            xmax = {stop}"]
            lines += [f'            text = "{label}"']
    return "\n".join(lines) + "\n"


def phone_entries(silence: str) -> list[tuple[float, float, str]]:
    phones = [(phone.start, phone.end, phone.label) for phone in (*BUTTER.phones, *UP.phones)]
    return [(0.0, 0.2, silence), *phones, (0.9, 1.0, silence)]


WORD_ENTRIES = [(0.0, 0.2, ""), (0.2, 0.6, "butter"), (0.6, 0.9, "up"), (0.9, 1.0, "")]


def row(**changes: Any) -> dict[str, Any]:
    words = [{"word": "", "start": 0.0, "end": 0.2, "conf": 0.9, "phones": [["SIL", 0.0, 0.2]]}]
    for word in (BUTTER, UP):
        phones = [[phone.label, phone.start, phone.end] for phone in word.phones]
        words.append({"word": word.label, "start": word.start, "end": word.end, "conf": 1.0, "phones": phones})
    return {"id": "utt1", "duration": 1.0, "missing": [], "words": words} | changes


def one_word(*phones: tuple[str, float, float]) -> dict[str, Any]:
    return {"word": "w", "start": 0.0, "end": 0.5, "phones": [list(phone) for phone in phones]}


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    return path


def test_levels() -> None:
    assert [phone.label for phone in EXPECTED.phones] == ["B", "AH1", "T", "ER0", "AH1", "P"]
    assert EXPECTED.syllables == (Interval("B-AH", 0.2, 0.4), Interval("T-ER", 0.4, 0.6), Interval("AH-P", 0.6, 0.9))
    assert EXPECTED.intervals("word") == (Interval("butter", 0.2, 0.6), Interval("up", 0.6, 0.9))
    np.testing.assert_array_equal(EXPECTED.boundaries(), [0.2, 0.4, 0.6, 0.9])
    np.testing.assert_array_equal(EXPECTED.boundaries("word"), [0.2, 0.6, 0.9])
    np.testing.assert_array_equal(EXPECTED.starts("word"), [0.2, 0.6])
    np.testing.assert_array_equal(EXPECTED.starts("phone"), [0.2, 0.3, 0.4, 0.45, 0.6, 0.8])
    with pytest.raises(InputError, match="level"):
        EXPECTED.boundaries("mora")  # type: ignore[arg-type]


def test_boundaries_merge_rounding_and_keep_gaps() -> None:
    words = (Word("a", 0.1, 0.1 + 0.2, ()), Word("b", 0.3, 0.5, ()), Word("c", 0.52, 0.6, ()))
    np.testing.assert_allclose(Alignment("x", 1.0, words).boundaries("word"), [0.1, 0.3, 0.5, 0.52, 0.6])


def test_silences() -> None:
    assert all(map(is_silence, ["SIL", "sil", "sp", "spn", "pau", "<eps>", "", " "]))
    assert not any(map(is_silence, ["S", "silly", "<unk>"]))
    phones = (Interval("sp", 0.0, 0.1), Interval("AH", 0.1, 0.2))
    assert Alignment("x", 1.0, (Word("a", 0.0, 0.2, phones),)).syllables == (Interval("AH", 0.1, 0.2),)


def test_empty_alignment() -> None:
    silent = Alignment("x", 1.0)
    assert silent.boundaries().shape == silent.starts("phone").shape == (0,)
    assert silent.syllables == ()


def test_jsonl(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", row(), row(id="utt2", words=[]))
    assert read_alignments(path) == {"utt1": EXPECTED, "utt2": Alignment("utt2", 1.0)}


def test_written_jsonl_is_read_back_and_names_the_silences(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_alignments([EXPECTED], path)
    assert read_alignments(path) == {"utt1": EXPECTED}
    words = json.loads(path.read_text())["words"]
    assert [word["word"] for word in words] == ["", "butter", "up", ""]
    assert words[-1]["phones"] == [["SIL", 0.9, 1.0]]
    write_alignments(read_alignments(path), tmp_path / "b.jsonl")
    assert (tmp_path / "b.jsonl").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": [one_word(("AH", 0.0, 0.3), ("T", 0.2, 0.5))]}, "'T' 0.200-0.500 overlaps 'AH' 0.000-0.300"),
        ({"words": [one_word(("AH", 0.3, 0.5), ("T", 0.0, 0.3))]}, "'T' 0.000-0.300 overlaps 'AH'"),
        ({"words": [one_word(("AH", 0.3, 0.1))]}, "'AH' 0.300-0.100 ends before it starts"),
        ({"words": [one_word(("AH", 0.3, 0.7))]}, "'AH' 0.300-0.700 lies outside of 0.000-0.500"),
        ({"words": [one_word(("AH", 0.3, float("nan")))]}, "not a number"),
        ({"words": [one_word(), one_word()]}, "'w' 0.000-0.500 overlaps 'w'"),
        ({"duration": 0.3}, "lies outside"),
        ({"duration": "long"}, "not a row"),
        ({"duration": -1, "words": []}, "duration is -1"),
        ({"words": [{"word": "a", "start": 0}]}, "'phones' is missing"),
        ({"words": 5}, "not a row"),
        ({"duration": 10**400}, "not a row"),
    ],
)
def test_faulty_jsonl_names_file_line_and_interval(
    tmp_path: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "a.jsonl", row(id="utt0"), row(**changes))
    found = read_alignments(path)
    assert list(found) == ["utt0"] and list(found.unusable) == ["utt1"]
    shown, count = capsys.readouterr().err.splitlines()
    assert re.search(message, shown) and shown.startswith(f"skipped: {path}:2: ")
    assert count == f"{path}: skipped 1 of 2 alignments"
    with pytest.raises(FormatError, match=message):
        read_alignments(write_rows(tmp_path / "a.jsonl", row(**changes)))


def test_repeated_ids(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a\.jsonl:2: id 'utt1' appears twice, and 1 more such"):
        read_alignments(write_rows(tmp_path / "a.jsonl", row(), row(words=5), row()))


def test_broken_json_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": \n')
    with pytest.raises(FormatError, match=r"a\.jsonl:1"):
        read_alignments(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="UTF-8"):
        read_alignments(path)


def test_a_mark_of_the_encoding_is_no_text(tmp_path: Path) -> None:
    jsonl = write_rows(tmp_path / "a.jsonl", row())
    ctm = tmp_path / "a.ctm"
    ctm.write_text(PHONES_CTM)
    for path in (jsonl, ctm):
        before = read_alignments(path)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert read_alignments(path) == before and list(before) == ["utt1"]


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> Iterator[Alignment]:
        yield Alignment("other", 2.0)
        raise RuntimeError("half way")

    path = tmp_path / "new" / "a.jsonl"
    write_alignments([EXPECTED], path)
    with pytest.raises(RuntimeError, match="half way"):
        write_alignments(fail(), path)
    assert read_alignments(path) == {"utt1": EXPECTED}
    assert list(path.parent.iterdir()) == [path]


def test_rounding_is_tolerated() -> None:
    phones = (Interval("AH", 0.0, 0.2005), Interval("T", 0.2, 0.5004))
    alignment = Alignment("x", 0.49, (Word("at", 0.0, 0.5, phones),))
    np.testing.assert_allclose(alignment.boundaries("phone"), [0.0, 0.2, 0.5004])


@pytest.mark.parametrize("silence", ["", "sil", "SIL", "sp", "spn"])
def test_textgrid_folder(tmp_path: Path, silence: str) -> None:
    path = tmp_path / "19" / "198" / "utt1.TextGrid"
    path.parent.mkdir(parents=True)
    path.write_text(textgrid({"words": WORD_ENTRIES, "phones": phone_entries(silence)}))
    assert read_alignments(tmp_path) == {"utt1": EXPECTED}
    assert read_alignments(path) == {"utt1": EXPECTED}


def test_textgrid_tier_names_of_the_aligner(tmp_path: Path) -> None:
    path = tmp_path / "utt1.TextGrid"
    path.write_text(textgrid({"anna - words": WORD_ENTRIES, "anna - phones": phone_entries("")}))
    assert read_alignments(path) == {"utt1": EXPECTED}
    path.write_text(textgrid({"anna - phones": phone_entries(""), "bob - phones": phone_entries("")}))
    with pytest.raises(FormatError, match="more than one"):
        read_alignments(path)


def test_textgrid_unknown_word_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(textgrid({"words": [(0.0, 0.4, "<unk>")], "phones": [(0.0, 0.4, "spn")]}, end=0.4))
    assert read_alignments(path)["a"].words == (Word("<unk>", 0.0, 0.4),)
    assert read_alignments(path)["a"].phones == ()


@pytest.mark.parametrize("start", ["-0", "5.551115123125783e-17", "-1e-17", "1e-05", "+0.", "0e5", ".0000"])
def test_textgrid_numbers_of_programs(tmp_path: Path, start: str) -> None:
    path = tmp_path / "utt1.TextGrid"
    text = textgrid({"words": WORD_ENTRIES, "phones": phone_entries("")})
    path.write_text(text.replace("xmin = 0.0\n", f"xmin = {start}\n"))
    assert read_alignments(path) == {"utt1": EXPECTED}
    path.write_text(textgrid({"phones": [(0.0, 0.5, "AA1")]}, end=0.5).replace("xmin = 0.0\n", f"xmin = {start}\n"))
    (phone,) = read_alignments(path)["utt1"].phones
    assert str(phone.start) == ("1e-05" if start == "1e-05" else "0.0")


def test_one_bad_textgrid_does_not_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = textgrid({"words": WORD_ENTRIES, "phones": phone_entries("")})
    (tmp_path / "utt1.TextGrid").write_text(good)
    (tmp_path / "._utt1.TextGrid").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "utt1.TextGrid").write_text(good)
    assert read_alignments(tmp_path) == {"utt1": EXPECTED} and capsys.readouterr().err == ""
    (tmp_path / "absent.TextGrid").write_text(good.replace("<exists>", "<absent>"))
    (tmp_path / "cut.TextGrid").write_text(good[:-80])
    (tmp_path / "empty.TextGrid").touch()
    (tmp_path / "latin.TextGrid").write_bytes(good.replace("butter", "b\u00fctter").encode("latin-1"))
    (tmp_path / "swapped.TextGrid").write_text(good.replace("xmax = 0.3", "xmax = 0.1"))
    (tmp_path / "silent.TextGrid").write_text(textgrid({"phones": []}))
    found = read_alignments(tmp_path)
    assert found == {"utt1": EXPECTED, "silent": Alignment("silent", 1.0)}
    assert sorted(found.unusable) == ["absent", "cut", "empty", "latin", "swapped"]
    err = capsys.readouterr().err
    for words in (
        "absent.TextGrid has no tier 'phones' or 'syllables'; its tiers are none",
        "cut.TextGrid: not a readable TextGrid (it ends before a time)",
        "empty.TextGrid: not a readable TextGrid; save it in Praat as a text file",
        f"latin.TextGrid:{good[: good.index('butter')].count(chr(10)) + 1}: not a text in UTF-8",
        "'B' 0.200-0.100 ends before it starts",
        f"{tmp_path}: skipped 5 of 7 alignments",
    ):
        assert words in err, words
    (tmp_path / "utt1.TextGrid").unlink()
    (tmp_path / "silent.TextGrid").unlink()
    with pytest.raises(FormatError, match="absent"):
        read_alignments(tmp_path)


def test_alignments_without_a_level_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = {"word": "a", "start": 0, "end": 0.5, "phones": [["$", 0, 0.5]]}
    path = write_rows(tmp_path / "a.jsonl", row(), row(id="silent", words=[]), row(id="foreign", words=[foreign]))
    found = read_alignments(path)
    found.leave_out(path, ["phone"])
    assert list(found) == ["utt1", "silent", "foreign"] and capsys.readouterr().err == ""
    found.leave_out(path, ["word", "syllable"])
    assert list(found) == ["utt1", "silent"] and list(found.unusable) == ["foreign"]
    assert f"{path}: skipped 1 of 3 alignments" in capsys.readouterr().err
    only = read_alignments(write_rows(path, row(words=[foreign])))
    with pytest.raises(FormatError, match="ARPAbet"):
        only.leave_out(path, ["syllable"])

    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "utt1.TextGrid").write_text(textgrid({"phones": phone_entries("")}))
    (tmp_path / "grids" / "silent.TextGrid").write_text(textgrid({"phones": []}))
    found = read_alignments(tmp_path / "grids")
    found.leave_out(tmp_path / "grids", ["phone"])
    assert list(found) == ["utt1"] and "alignment of silent: it has no phone" in capsys.readouterr().err


def test_textgrid_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text("no grid")
    with pytest.raises(FormatError, match=r"a\.TextGrid"):
        read_alignments(path)
    path.write_text(textgrid({"words": WORD_ENTRIES}))
    with pytest.raises(FormatError, match="no tier 'phones'"):
        read_alignments(path)
    path.write_text(textgrid({"words": WORD_ENTRIES[:2], "phones": phone_entries("")}))
    with pytest.raises(FormatError, match=r"'AH1' 0\.600-0\.800 lies in no word"):
        read_alignments(path)


def test_ctm_pair_and_folder(tmp_path: Path) -> None:
    words, phones = tmp_path / "words.ctm", tmp_path / "phones.ctm"
    words.write_text(WORDS_CTM)
    phones.write_text(PHONES_CTM)
    assert read_alignments((words, phones)) == {"utt1": EXPECTED}
    assert read_alignments(tmp_path) == {"utt1": EXPECTED}


def test_phone_ctm_alone_makes_words_of_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.ctm"
    path.write_text(PHONES_CTM + "utt2 1 0 0.2 AH\nutt2 1 0.5 0.2 OW\n")
    found = read_alignments(path)
    assert found["utt1"].words == (Word("B-AH1-T-ER0-AH1-P", 0.2, 0.9, (*BUTTER.phones, *UP.phones)),)
    assert [word.label for word in found["utt2"].words] == ["AH", "OW"]


def test_ctm_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.ctm"
    path.write_text("utt1 1 0.0 0.2 B\nutt1 1 0.1 0.2 AH\n")
    with pytest.raises(FormatError, match=r"a\.ctm:2.*'AH' 0\.100-0\.300 overlaps 'B'"):
        read_alignments(path)
    path.write_text(PHONES_CTM + "utt2 1 0.0 0.2 B\nutt2 1 nan 0.2 B\nutt3\n")
    found = read_alignments(path)
    assert list(found) == ["utt1"] and ":10" in str(found.unusable["utt2"]) and ":11" in str(found.unusable["utt3"])
    path.write_text("utt1 1 zero 0.2 B\n")
    with pytest.raises(FormatError, match=r"a\.ctm:1"):
        read_alignments(path)
    words = tmp_path / "words.ctm"
    words.write_text("utt9 1 0 1 w\n")
    path.write_text(PHONES_CTM)
    with pytest.raises(FormatError, match="'utt1' is in one only"):
        read_alignments((words, path))
    words.write_text(WORDS_CTM + "utt9 1 0 1 w\n")
    assert read_alignments((words, path)) == {"utt1": EXPECTED}


def test_unusable_paths(tmp_path: Path) -> None:
    for name in ("missing.jsonl", "missing.ctm"):
        with pytest.raises(InputError, match=name):
            read_alignments(tmp_path / name)
    with pytest.raises(InputError, match="holds no TextGrid"):
        read_alignments(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"a\.txt"):
        read_alignments(tmp_path / "a.txt")


def test_foreign_phones_only_fail_where_syllables_are_asked_for() -> None:
    alignment = Alignment("x", 1.0, (Word("a", 0.0, 0.2, (Interval("$", 0.0, 0.2),)),))
    assert len(alignment.boundaries("phone")) == 2
    with pytest.raises(FormatError, match=r"word 'a'.*ARPAbet"):
        alignment.boundaries()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(10, 90)), max_size=12))
def test_boundaries_are_starts_and_ends(steps: list[tuple[int, int]]) -> None:
    """Times on a 10 ms grid with gaps: the boundaries are the set of starts and ends."""
    words, time, edges = [], 0, set()
    for gap, length in steps:
        start, time = time + gap, time + gap + length
        edges |= {start, time}
        words.append(Word("w", start / 100, time / 100))
    alignment = Alignment("x", time / 100, tuple(words))
    np.testing.assert_allclose(alignment.boundaries("word"), np.array(sorted(edges)) / 100)
    np.testing.assert_allclose(alignment.starts("word"), [word.start for word in words])


METRI = ("m", "e", "t\u032a", "r", "i")


def ipa_row(**changes: Any) -> dict[str, Any]:
    phones = [[label, index / 10, index / 10 + 0.1] for index, label in enumerate(METRI)]
    return {
        "id": "fi",
        "duration": 1.0,
        "words": [{"word": "metri", "start": 0, "end": 0.5, "phones": phones}],
    } | changes


def test_phones_in_ipa_are_divided_by_sonority_or_by_a_file_of_onsets(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ipa_row())
    by_sonority = (Interval("m-e", 0.0, 0.2), Interval("t\u032a-r-i", 0.2, 0.5))
    assert read_alignments(path)["fi"].syllables == by_sonority
    onsets = tmp_path / "onsets.txt"
    onsets.write_text("# no clusters\n")
    result = prepare_alignments(path, tmp_path / "out.jsonl", onsets=onsets)
    assert (result.recordings, result.words, result.syllables, result.skipped) == (1, 1, 2, 0)
    divided = read_alignments(tmp_path / "out.jsonl")
    assert divided["fi"].syllables == (Interval("m-e-t\u032a", 0.0, 0.3), Interval("r-i", 0.3, 0.5))
    # A second time: what the file says stays, and rows without syllables are divided.
    prepare_alignments(tmp_path / "out.jsonl", tmp_path / "again.jsonl")
    assert read_alignments(tmp_path / "again.jsonl") == divided
    prepare_alignments(path, tmp_path / "plain.jsonl")
    assert read_alignments(tmp_path / "plain.jsonl")["fi"].own_syllables == by_sonority


def test_prepared_alignments_of_arpabet_are_as_before(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", row(), row(id="foreign", words=[one_word(("K", 0, 0.2), ("$", 0.2, 0.5))]))
    result = prepare_alignments(path, tmp_path / "out.jsonl")
    assert (result.recordings, result.skipped) == (1, 1)
    assert read_alignments(tmp_path / "out.jsonl")["utt1"].syllables == EXPECTED.syllables
    (tmp_path / "onsets.txt").write_text("t r\n")
    with pytest.raises(FormatError, match="--onsets: alignment of utt1 has phones in ARPAbet"):
        prepare_alignments(path, tmp_path / "b.jsonl", onsets=tmp_path / "onsets.txt")
    with pytest.raises(InputError, match=r"ends in \.jsonl"):
        prepare_alignments(path, tmp_path / "b.json")
    assert not (tmp_path / "b.jsonl").exists()


def test_syllables_of_the_annotation_count(tmp_path: Path) -> None:
    own = [(0.0, 0.1, ""), (0.1, 0.35, "me"), (0.35, 0.5, "tri"), (0.5, 1.0, "")]
    path = tmp_path / "fi.TextGrid"
    path.write_text(textgrid({"Syllables": own}))
    expected = (Interval("me", 0.1, 0.35), Interval("tri", 0.35, 0.5))
    alone = read_alignments(path)["fi"]
    assert alone.syllables == expected and [word.label for word in alone.words] == ["me", "tri"]
    path.write_text(textgrid({"words": WORD_ENTRIES, "phones": phone_entries(""), "syllable": own}))
    both = read_alignments(path)["fi"]
    assert both.syllables == expected and len(both.phones) == 6 and both.words == EXPECTED.words
    overlapping = ipa_row(syllables=[["me", 0.0, 0.3], ["tri", 0.2, 0.5]])
    with pytest.raises(FormatError, match=r"syllable 'tri' 0\.200-0\.500 overlaps 'me'"):
        read_alignments(write_rows(tmp_path / "a.jsonl", overlapping))


def test_words_are_composed_letters() -> None:
    assert Word("e\u0301l", 0.0, 0.1).label == "\u00e9l"
