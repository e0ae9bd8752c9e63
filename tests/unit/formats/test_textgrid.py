from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.random_segmentations import SOME, files_below, segmentations, write_all
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import FormatOptions, read_entries, read_segmentations
from syllablelm.formats.textgrid import read_textgrid

textgrid = pytest.importorskip("praatio.textgrid")


def save_tier(path: Path, label: str, end: float, tier: str = "units") -> None:
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier(tier, [(0.0, end, label)], minT=0.0, maxT=1.0))
    grid.save(str(path), format="short_textgrid", includeBlankSpaces=True)


def test_textgrids_round_trip(tmp_path: Path) -> None:
    some = {name: seg for name, seg in SOME.items() if seg.num_frames and seg.hop == 320}
    write_all(tmp_path / "grids", "textgrid", some)
    assert read_segmentations(tmp_path / "grids") == {**some, "nöthing found": SOME["nöthing found"]}
    other = SOME["folder/gaps"]
    write_all(tmp_path / "other", "textgrid", {"folder/gaps": other})
    assert files_below(tmp_path / "other") == ["folder", "folder/gaps.TextGrid"]
    assert read_segmentations(tmp_path / "other", hop=160, sample_rate=8_000) == {"folder/gaps": other}
    assert read_segmentations(tmp_path / "other/folder/gaps.TextGrid", hop=160, sample_rate=8_000) == {"gaps": other}


def test_textgrid_tier_covers_the_whole_recording(tmp_path: Path) -> None:
    write_all(tmp_path / "grids", "textgrid", {"a": Segmentation(np.array([10]), np.array([20]), np.array([3]), 50)})
    tier = textgrid.openTextgrid(str(tmp_path / "grids" / "a.TextGrid"), includeEmptyIntervals=True).getTier("units")
    assert [tuple(entry) for entry in tier.entries] == [(0.0, 0.2, ""), (0.2, 0.4, "3"), (0.4, 1.0, "")]


@settings(deadline=None, max_examples=50)
@given(segmentation=segmentations(min_frames=1), hop=st.sampled_from([160, 320, 441]))
def test_textgrid_seconds_lead_back_to_the_same_frames(tmp_path_factory, segmentation: Segmentation, hop: int) -> None:
    folder = tmp_path_factory.mktemp("grids") / "out"
    units = None if segmentation.unit is None or len(segmentation) == 0 else segmentation.unit
    unit = np.zeros(0, dtype=np.int32) if len(segmentation) == 0 else units
    expected = Segmentation(segmentation.start, segmentation.end, unit, segmentation.num_frames, hop, 22_050)
    write_all(folder, "textgrid", {"a": expected})
    assert read_segmentations(folder, hop=hop, sample_rate=22_050) == {"a": expected}


def test_one_output_has_one_grid(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder/gaps: frames of 160 samples at 8000 Hz after some of"):
        write_all(tmp_path / "grids", "textgrid", {"one": SOME["one"], "folder/gaps": SOME["folder/gaps"]})
    assert files_below(tmp_path) == []


def test_reading_needs_the_hop(tmp_path: Path) -> None:
    write_all(tmp_path / "grids", "textgrid", {"one": SOME["one"]})
    with pytest.raises(InputError, match="TextGrid files do not hold the length of a frame: give --hop"):
        list(read_entries(tmp_path / "grids", "textgrid"))
    (entry,) = read_entries(tmp_path / "grids", "textgrid", FormatOptions(hop=320))
    assert entry[:3] == ("one", "", SOME["one"])
    assert entry.place.endswith("one.TextGrid")


def test_times_between_frames_are_not_rounded_in_silence(tmp_path: Path) -> None:
    save_tier(tmp_path / "a.TextGrid", "5", 0.3725)
    with pytest.raises(
        FormatError, match=r"a\.TextGrid: .* 0\.3725 s is between two frames of 320 samples at 16000 Hz"
    ):
        read_segmentations(tmp_path)
    assert read_segmentations(tmp_path, hop=1)["a"].end.tolist() == [5960]
    # Three printed digits of 26 whole frames, 0.37732... s.
    save_tier(tmp_path / "a.TextGrid", "5", 0.377)
    assert read_segmentations(tmp_path, hop=320, sample_rate=22_050)["a"].end.tolist() == [26]


@pytest.mark.parametrize("id", ["../a", "/a", "", "a/../../b"])
def test_textgrid_ids_stay_in_the_folder(tmp_path: Path, id: str) -> None:
    with pytest.raises(InputError, match="cannot name a TextGrid"):
        write_all(tmp_path / "grids", "textgrid", {id: SOME["one"]})
    assert files_below(tmp_path) == []


def test_textgrid_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --out FOLDER"):
        write_all(io.StringIO(), "textgrid", SOME)
    with pytest.raises(InputError, match="empty: a TextGrid cannot hold"):
        write_all(tmp_path / "grids", "textgrid", {"empty": SOME["empty"]})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        write_all(tmp_path / "full", "textgrid", {"one": SOME["one"]})
    assert files_below(tmp_path) == ["full", "full/kept.txt"]
    (tmp_path / "free").mkdir()
    write_all(tmp_path / "free", "textgrid", {"one": SOME["one"]})
    assert files_below(tmp_path / "free") == ["one.TextGrid"]


def test_textgrid_of_something_else_is_named(tmp_path: Path) -> None:
    save_tier(tmp_path / "a.TextGrid", "5", 1.0, tier="words")
    save_tier(tmp_path / "b.TextGrid", "hello", 1.0)
    (tmp_path / "c.TextGrid").write_text("text")
    for name, message in (
        ("a", "no tier called 'units', only words"),
        ("b", "does not hold units at 50 Hz"),
        ("c", "c.TextGrid: not a readable TextGrid"),
    ):
        with pytest.raises(FormatError, match=message):
            read_segmentations(tmp_path / f"{name}.TextGrid")


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)
# praatio does not write intervals of next to no length.
TIMES = st.lists(st.integers(1, 9_000_000), min_size=2, max_size=12, unique=True).map(
    lambda ticks: [tick / 10_000 for tick in sorted(ticks)]
)


@settings(deadline=None, max_examples=60)
@given(times=TIMES, labels=st.lists(TEXT, min_size=12, max_size=12), names=st.lists(TEXT, max_size=3, unique=True))
@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_grids_of_praatio_are_read(tmp_path_factory, form, encoding, times, labels, names) -> None:
    file = tmp_path_factory.mktemp("grid") / "a.TextGrid"
    grid = textgrid.Textgrid()
    names = [name for name in names if name.strip() and name == name.strip()]
    entries = [
        (start, end, label) for start, end, label in zip(times, times[1:], labels, strict=False) if label.strip()
    ]
    for name in names:
        grid.addTier(textgrid.IntervalTier(name, entries, minT=0.0, maxT=1000.0))
    grid.addTier(textgrid.PointTier("points 1", [(times[0], "p")], minT=0.0, maxT=1000.0), reportingMode="silence")
    grid.save(str(file), format=form, includeBlankSpaces=True)
    file.write_text(file.read_text(encoding="utf-8"), encoding=encoding)
    found = read_textgrid(file)
    assert found.end == 1000.0 and [tier.name for tier in found.tiers] == [*names, "points 1"]
    expected = [(start, end, label.strip()) for start, end, label in entries]
    for tier in found.tiers[:-1]:
        assert tier.intervals is not None
        assert [interval for interval in tier.intervals if interval.label] == expected
    assert found.tiers[-1].intervals is None


def test_what_is_read_of_a_grid_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "a.TextGrid"
    head = '"ooTextFile"\n"TextGrid"\n0 ! the start\n1\n<exists>\n1\n'
    for text, message in (
        (head + '"IntervalTier"\n"units"\n0\n1\n1\n0\nnan\n"5"', r'a.TextGrid:14: .* \("5" instead of a time\)'),
        (head + '"IntervalTier"\n"units"\n0\n1\n9\n0\n1\n"5"', "it ends before a time"),
        (head + '"IntervalTier"\n5', r"a.TextGrid:8: .* \(5 instead of the name of a tier\)"),
        (head + '"TextTier"\n"units"\n0\n1\n1\n0.5\n"5"', "no tier called 'units', only units"),
        (head.replace("<exists>", "<absent>"), "no tier called 'units', only none"),
        (head.replace("1\n<", "1e999\n<") + '"IntervalTier"\n"units"\n0\n1\n0', "not finite"),
        ("ooBinaryFile\x08TextGrid", "save it in Praat as a text file"),
        ("", "save it in Praat as a text file"),
    ):
        file.write_text(text)
        with pytest.raises(FormatError, match=message):
            read_segmentations(file)


def test_one_bad_grid_of_a_folder_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path / "grids", "textgrid", {"one": SOME["one"]})
    (tmp_path / "grids" / "._one.TextGrid").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert read_segmentations(tmp_path / "grids") == {"one": SOME["one"]} and capsys.readouterr().err == ""
    save_tier(tmp_path / "grids" / "bad.TextGrid", "hello", 1.0)
    assert read_segmentations(tmp_path / "grids") == {"one": SOME["one"]}
    shown, count = capsys.readouterr().err.splitlines()
    assert "bad.TextGrid" in shown and count == f"{tmp_path / 'grids'}: skipped 1 of 2 files"
