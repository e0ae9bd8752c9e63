from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.random_segmentations import SOME, segmentations, write_all
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import FormatOptions, read_entries

HOP = FormatOptions(hop=320)


def test_line_has_a_unit_for_every_frame(tmp_path: Path) -> None:
    write_all(tmp_path / "out.txt", "gslm", {"one": SOME["one"]})
    assert (tmp_path / "out.txt").read_text() == "one|7 7 7 0 0 0 0 0 0 0 7 7\n"
    (tmp_path / "out.txt").write_text("one|7 7 7 0 0 0 0 0 0 0 7 7\ntwo|\n5 5\n")
    entries = list(read_entries(tmp_path / "out.txt", "gslm", HOP))
    assert entries[0][:3] == ("one", "", SOME["one"])
    assert [(entry.id, entry.segmentation.num_frames) for entry in entries[1:]] == [("two", 0), ("out-3", 2)]


@settings(deadline=None, max_examples=50)
@given(segmentation=segmentations(with_units=True), gap_unit=st.integers(4, 9))
def test_merged_segmentations_round_trip(tmp_path_factory, segmentation: Segmentation, gap_unit: int) -> None:
    if gap_unit in segmentation.unit:
        return
    merged = segmentation.deduplicate()
    file = tmp_path_factory.mktemp("gslm") / "out.txt"
    options = FormatOptions(hop=320, gap_unit=gap_unit)
    write_all(file, "gslm", {"a": merged}, options)
    (entry,) = read_entries(file, "gslm", options)
    assert entry.segmentation == merged


def test_boundaries_between_equal_units_are_not_lost_in_silence() -> None:
    segmentation = Segmentation.from_boundaries([0, 3, 5, 9], unit=[1, 2, 2])
    with pytest.raises(InputError, match="a: the boundary at frame 5 is between two segments of one unit"):
        write_all(io.StringIO(), "gslm", {"a": segmentation})
    with pytest.raises(InputError, match=r"'a\|b' cannot stand in a line"):
        write_all(io.StringIO(), "gslm", {"a|b": SOME["one"]})


def test_bad_lines_are_named(tmp_path: Path) -> None:
    for line, message in (("b|1 2 x", "'x' is not a unit"), ("b|1 99999999999", "is not a unit")):
        (tmp_path / "out.txt").write_text(f"a|1 2\n{line}\n")
        with pytest.raises(FormatError, match=rf"out.txt:2: .*{message}"):
            list(read_entries(tmp_path / "out.txt", "gslm", HOP))
