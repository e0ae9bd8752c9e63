from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.random_segmentations import SOME, files_below, segmentations, write_all
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import FormatOptions, read_entries

HOP = FormatOptions(hop=320)
ONE = Segmentation.from_boundaries([0, 1, 4, 6], unit=[71, 12, 57])


def write_pair(folder: Path, units: str, durations: str | None = None) -> Path:
    (folder / "out.units").write_text(units)
    if durations is not None:
        (folder / "out.durations").write_text(durations)
    return folder / "out.units"


@settings(deadline=None, max_examples=30)
@given(segmentation=segmentations(with_units=True), gap_unit=st.integers(4, 9))
@pytest.mark.parametrize(("format", "name"), [("textless", "a.jsonl"), ("textless-lines", "a.units")])
def test_round_trip(tmp_path_factory, format: str, name: str, segmentation: Segmentation, gap_unit: int) -> None:
    if gap_unit in segmentation.unit:
        return
    file = tmp_path_factory.mktemp("textless") / name
    options = FormatOptions(hop=320, gap_unit=gap_unit)
    some = {"a b": segmentation, "2": ONE}
    write_all(file, format, some, options)
    assert {entry.id: entry.segmentation for entry in read_entries(file, format, options)} == some


def test_record_is_that_of_the_speech_encoder(tmp_path: Path) -> None:
    stream = io.StringIO()
    write_all(stream, "textless", {"one": ONE})
    assert json.loads(stream.getvalue()) == {"name": "one", "units": [71, 12, 57], "durations": [1, 3, 2]}
    record = {"units": [71, 12, 57], "durations": [1, 3, 2], "dense": [[0.5]], "f0": [1.0]}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(record)}\n\n{json.dumps({**record, 'file_name': 'x'})}\n")
    entries = list(read_entries(tmp_path / "a.jsonl", "textless", HOP))
    assert [(entry.id, entry.segmentation) for entry in entries] == [("a-1", ONE), ("x", ONE)]
    assert entries[1].place.endswith("a.jsonl:3")


def test_marks_of_beginning_and_end_are_named(tmp_path: Path) -> None:
    # What the library adds with add_bos_eos=True.
    record = {"units": [100, 71, 101], "durations": [0, 4, 0]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    with pytest.raises(FormatError, match=r"a.jsonl:1: unit 100 lasts 0 frames; remove .* start and end marks"):
        list(read_entries(tmp_path / "a.jsonl", "textless", HOP))
    (tmp_path / "a.jsonl").write_text("[1]")
    with pytest.raises(FormatError, match=r"a.jsonl:1: a record must be an object"):
        list(read_entries(tmp_path / "a.jsonl", "textless", HOP))


def test_lines_are_those_of_the_transcribe_tool(tmp_path: Path) -> None:
    write_all(tmp_path / "out", "textless-lines", {"one": ONE, "two": SOME["one"]})
    assert files_below(tmp_path) == ["out.durations", "out.units"]
    assert (tmp_path / "out.units").read_text() == "one\t71 12 57\ntwo\t7 0 7\n"
    assert (tmp_path / "out.durations").read_text() == "one\t1 3 2\ntwo\t3 7 2\n"
    for name in ("out.units", "out.durations"):
        entries = read_entries(tmp_path / name, "textless-lines", HOP)
        assert {entry.id: entry.segmentation for entry in entries} == {"one": ONE, "two": SOME["one"]}
    # Names are not preserved unless the tool is told so; an empty line is an empty recording.
    file = write_pair(tmp_path, "71 12 57\n\n", "1 3 2\n\n")
    entries = [(entry.id, entry.segmentation.num_frames) for entry in read_entries(file, "textless-lines", HOP)]
    assert entries == [("out-1", 6), ("out-2", 0)]


def test_units_alone_need_to_be_told_how_long_they_are(tmp_path: Path) -> None:
    file = write_pair(tmp_path, "one\t71 12 57\n")
    with pytest.raises(InputError, match=r"without the \.durations file.* --unit-frames"):
        list(read_entries(file, "textless-lines", HOP))
    (entry,) = read_entries(file, "textless-lines", FormatOptions(hop=320, unit_frames=2))
    assert entry.segmentation == Segmentation.from_boundaries([0, 2, 4, 6], unit=[71, 12, 57])


@pytest.mark.parametrize(
    ("units", "durations", "message"),
    [
        ("one\t1 2\ntwo\t3\n", "one\t1 2\n", "out.units:2: as many lines as in out.durations"),
        ("one\t1 2\n", "one\t1 2\ntwo\t3\n", "out.units:2: as many lines as in out.durations"),
        ("one\t1 2\n", "two\t1 2\n", "out.units:1: units of 'one' beside durations of 'two'"),
        ("one\t1 2\n", "one\t1\n", "out.units:1: 2 units but 1 durations"),
        ("one\t1 two\n", "one\t1 2\n", "out.units:1: 'two' is not a unit"),
        ("one\t1\none\t1\n", "one\t1\none\t1\n", "out.units:2: record 'one' appears twice"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, units: str, durations: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        list(read_entries(write_pair(tmp_path, units, durations), "textless-lines", HOP))


def test_lines_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    for name in ("", "a\tb", "a\nb"):
        with pytest.raises(InputError, match="cannot stand in a line"):
            write_all(tmp_path / "out", "textless-lines", {name: ONE})
    with pytest.raises(InputError, match="two files: give --out PREFIX"):
        write_all(io.StringIO(), "textless-lines", {"one": ONE})
    for format in ("textless", "textless-lines"):
        with pytest.raises(InputError, match="frames 0 to 2 belong to no segment"):
            write_all(tmp_path / "out", format, {"one": ONE, "folder/gaps": _with_gaps()})
    assert files_below(tmp_path) == []


def _with_gaps() -> Segmentation:
    gaps = SOME["folder/gaps"]
    return Segmentation(gaps.start, gaps.end, gaps.unit, gaps.num_frames)
