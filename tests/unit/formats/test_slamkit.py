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
from syllablelm.formats import FormatOptions, open_writer, read_entries

# The beginning of the two lines of one recording in github.com/slp-rl/slamkit/tree/main/example_data.
FEATURES = {"units": [3, 49, 7, 254, 30], "duration": [1, 1, 1, 1, 2], "file_name": "../example_data/audio/audio2.flac"}
TOKENS = {"file_name": "../example_data/audio/audio2.flac", "audio_repr": "<Un3><Un49><Un7><Un254><Un30>"}


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_published_lines_are_read_and_written_back(tmp_path: Path) -> None:
    (entry,) = read_entries(write_lines(tmp_path / "f.jsonl", FEATURES), "slamkit", FormatOptions(hop=640))
    assert (entry.id, entry.path) == ("audio2", FEATURES["file_name"])
    assert entry.segmentation == Segmentation.from_boundaries([0, 1, 2, 3, 4, 6], unit=FEATURES["units"], hop=640)
    for format, record in (("slamkit", FEATURES), ("slamkit-tokens", TOKENS)):
        stream = io.StringIO()
        with open_writer(stream, format) as writer:
            writer.write(entry.id, entry.path, entry.segmentation)
        assert json.loads(stream.getvalue()) == record
        assert list(json.loads(stream.getvalue())) == list(record)
    (made_up,) = read_entries(
        write_lines(tmp_path / "t.jsonl", TOKENS), "slamkit-tokens", FormatOptions(hop=640, unit_frames=2)
    )
    assert made_up.segmentation == Segmentation.from_boundaries([0, 2, 4, 6, 8, 10], unit=FEATURES["units"], hop=640)


@settings(deadline=None, max_examples=50)
@given(segmentation=segmentations(with_units=True, hop=640), gap_unit=st.integers(4, 9))
def test_features_round_trip(tmp_path_factory, segmentation: Segmentation, gap_unit: int) -> None:
    if gap_unit in segmentation.unit:
        return
    file = tmp_path_factory.mktemp("slamkit") / "f.jsonl"
    options = FormatOptions(hop=640, gap_unit=gap_unit)
    write_all(file, "slamkit", {"a": segmentation}, options)
    assert [entry[:3] for entry in read_entries(file, "slamkit", options)] == [("a", "audio/a.flac", segmentation)]


@settings(deadline=None, max_examples=50)
@given(units=st.lists(st.integers(0, 2**31 - 1), max_size=9), frames=st.integers(1, 5))
def test_tokens_round_trip_where_all_units_are_of_one_length(tmp_path_factory, units: list[int], frames: int) -> None:
    file = tmp_path_factory.mktemp("slamkit") / "t.jsonl"
    edges = list(range(0, frames * len(units) + 1, frames))
    segmentation = Segmentation.from_boundaries(edges, unit=units)
    write_all(file, "slamkit-tokens", {"a": segmentation})
    (entry,) = read_entries(file, "slamkit-tokens", FormatOptions(hop=320, unit_frames=frames))
    assert entry.segmentation == segmentation


def test_gaps_and_missing_units_are_not_lost_in_silence() -> None:
    for format in ("slamkit", "slamkit-tokens"):
        with pytest.raises(InputError, match=f"no units: the {format} format needs units"):
            write_all(io.StringIO(), format, {"no units": SOME["no units"]})
    with pytest.raises(InputError, match="folder/gaps: frames 0 to 2 belong to no segment"):
        write_all(io.StringIO(), "slamkit", {"folder/gaps": SOME["folder/gaps"]})
    stream = io.StringIO()
    write_all(stream, "slamkit-tokens", {"folder/gaps": SOME["folder/gaps"]}, FormatOptions(gap_unit=1))
    assert json.loads(stream.getvalue())["audio_repr"] == "<Un1><Un4><Un1><Un2147483647><Un1>"


def test_one_output_has_one_grid(tmp_path: Path) -> None:
    some = {"one": SOME["one"], "other": Segmentation.from_boundaries([0, 2], unit=[1], hop=640)}
    with pytest.raises(InputError, match="other: frames of 640 samples at 16000 Hz after some of"):
        write_all(tmp_path / "f.jsonl", "slamkit", some)
    assert files_below(tmp_path) == []


def test_ids_are_stems_unless_two_would_be_the_same(tmp_path: Path) -> None:
    def ids(*names: str) -> list[str]:
        file = write_lines(tmp_path / "f.jsonl", *({**FEATURES, "file_name": name} for name in names))
        return [entry.id for entry in read_entries(file, "slamkit", FormatOptions(hop=320))]

    assert ids("a/1.flac", "b/2.flac") == ["1", "2"]
    assert ids("a/1.flac", "b/1.flac") == ["a/1", "b/1"]
    with pytest.raises(FormatError, match=r"f.jsonl:2: record '1' appears twice"):
        ids("a/1.flac", "a/1.flac")


@pytest.mark.parametrize(
    ("format", "change", "message"),
    [
        ("slamkit", {"units": "3 49"}, "'units' is a list of integers"),
        ("slamkit", {"duration": [1, 1, 1, 1, 2.0]}, "'duration' must be a list of integers"),
        ("slamkit", {"duration": [1]}, "5 units but 1 durations"),
        ("slamkit", {"duration": [1, 1, 1, 1, -2]}, "unit 30 lasts -2 frames"),
        ("slamkit", {"units": [3, 49, 7, 254, -1]}, "does not fit"),
        ("slamkit", {"units": [3, 49, 7, 254, 2**40]}, "does not fit"),
        ("slamkit", {"file_name": 3}, "'file_name' names an audio file"),
        ("slamkit", {"file_name": ""}, "'file_name' names an audio file"),
        ("slamkit-tokens", {"audio_repr": "<Un3>hello<Un4>"}, "must be a string of <Un...> tokens"),
        ("slamkit-tokens", {"audio_repr": "<Un9999999999>"}, "does not fit"),
        ("slamkit-tokens", {"audio_repr": None}, "must be a string of <Un...> tokens"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, format: str, change: dict, message: str) -> None:
    good = {**FEATURES, **TOKENS, "file_name": "good.wav"}
    file = write_lines(tmp_path / "f.jsonl", good, {**FEATURES, **TOKENS, **change})
    with pytest.raises(FormatError, match=rf"f.jsonl:2: .*{message}"):
        list(read_entries(file, format, FormatOptions(hop=320, unit_frames=1)))


def test_what_the_files_do_not_say_must_be_told(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "f.jsonl", {**FEATURES, **TOKENS})
    with pytest.raises(InputError, match="slamkit files do not hold the length of a frame: give --hop"):
        list(read_entries(file, "slamkit"))
    with pytest.raises(InputError, match="slamkit-tokens files hold no durations: give --unit-frames"):
        list(read_entries(file, "slamkit-tokens", FormatOptions(hop=320)))
