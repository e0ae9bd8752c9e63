from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.errors import FormatError, InputError, MissingDependencyError
from syllablelm.formats import FORMATS, atomic_path, from_record, open_writer, read_segmentations, to_record
from syllablelm.types import Segmentation

EXACT = ("jsonl", "parquet")
SUFFIX = {"jsonl": "units.jsonl", "parquet": "units.parquet", "textgrid": "grids", "slamkit": "tokens.jsonl"}


@st.composite
def segmentations(draw: st.DrawFn, min_frames: int = 0, with_units: bool | None = None) -> Segmentation:
    num_frames = draw(st.integers(min_frames, 60))
    edges = sorted(draw(st.sets(st.integers(0, num_frames), max_size=8)))
    keep = [draw(st.booleans()) for _ in edges[1:]]
    start = [edge for edge, kept in zip(edges, keep, strict=False) if kept]
    end = [edge for edge, kept in zip(edges[1:], keep, strict=True) if kept]
    units = draw(st.lists(st.integers(0, 2**31 - 1), min_size=len(start), max_size=len(start)))
    has_units = draw(st.booleans()) if with_units is None else with_units
    return Segmentation(start, end, units if has_units else None, num_frames)  # type: ignore[arg-type]


SOME = {
    "one": Segmentation.from_boundaries([0, 3, 10, 12], unit=[7, 0, 7]),
    "folder/gaps": Segmentation(np.array([2, 9]), np.array([5, 11]), np.array([4, 2**31 - 1]), 20, 160, 8_000),
    "no units": Segmentation.from_boundaries([0, 4, 9]),
    "nöthing found": Segmentation(np.array([]), np.array([]), np.array([]), 50),
    "empty": Segmentation(np.array([]), np.array([]), None, 0),
}


def write_all(target, format: str, some: dict[str, Segmentation]) -> None:
    with open_writer(target, format) as writer:
        for name, segmentation in some.items():
            writer.write(name, f"audio/{name}.flac", segmentation)


def files_below(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))


@settings(deadline=None, max_examples=50)
@given(segmentation=segmentations())
def test_record_round_trip_through_json(segmentation: Segmentation) -> None:
    record = to_record("a", Path("b/a.flac"), segmentation)
    assert list(record) == ["id", "path", "sample_rate", "hop", "num_frames", "unit", "start", "end"]
    assert from_record(json.loads(json.dumps(record))) == segmentation
    assert (record["id"], record["path"]) == ("a", "b/a.flac")


def test_record_is_the_documented_one() -> None:
    assert to_record("x", "x.wav", SOME["one"]) == {
        "id": "x",
        "path": "x.wav",
        "sample_rate": 16_000,
        "hop": 320,
        "num_frames": 12,
        "unit": [7, 0, 7],
        "start": [0, 3, 10],
        "end": [3, 10, 12],
    }
    assert to_record("x", "x.wav", SOME["no units"])["unit"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": None}, "start must be a list of integers$"),
        ({"start": [0.0, 3.0, 10.0]}, "start must be a list"),
        ({"unit": [True, False, True]}, "unit must be a list of integers or null"),
        ({"unit": "7 0 7"}, "unit must be a list"),
        ({"unit": [7, 0]}, "same length"),
        ({"unit": [7, 0, -1]}, "must not be negative"),
        ({"unit": [7, 0, 2**31]}, "does not fit 32 bits"),
        ({"end": [3, 9, 13]}, "reaches outside its 12 frames"),
        ({"end": [4, 10, 12]}, "must not overlap"),
        ({"num_frames": 12.0}, "num_frames must be an integer, not 12.0"),
        ({"hop": True}, "hop must be an integer"),
        ({"hop": 0}, "hop >= 1"),
        ({"sample_rate": "16000"}, "sample_rate must be an integer"),
        ({"path": None}, "path must be a string"),
    ],
)
def test_bad_records_are_named(change: dict, message: str) -> None:
    with pytest.raises(FormatError, match=f"record 'x': .*{message}"):
        from_record({**to_record("x", "x.wav", SOME["one"]), **change})


def test_incomplete_records_are_named() -> None:
    record = to_record("x", "x.wav", SOME["one"])
    del record["hop"], record["end"]
    with pytest.raises(FormatError, match="record 'x': missing hop, end"):
        from_record(record)
    with pytest.raises(FormatError, match="record without id: missing id"):
        from_record({})
    with pytest.raises(FormatError, match="must be an object"):
        from_record([1, 2])  # type: ignore[arg-type]
    assert from_record({**to_record("x", "x.wav", SOME["one"]), "speaker": 5}) == SOME["one"]


@pytest.mark.parametrize("format", EXACT)
def test_files_round_trip_exactly(tmp_path: Path, format: str) -> None:
    target = tmp_path / "new" / SUFFIX[format]
    write_all(target, format, SOME)
    assert read_segmentations(target) == SOME
    assert list(read_segmentations(target)) == list(SOME)
    assert files_below(tmp_path / "new") == [SUFFIX[format]]
    write_all(target, format, {})
    assert read_segmentations(target) == {}


def test_parquet_has_the_columns_of_the_records(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_all(tmp_path / "units.parquet", "parquet", SOME)
    table = parquet.read_table(tmp_path / "units.parquet")
    assert table.to_pylist() == [to_record(name, f"audio/{name}.flac", seg) for name, seg in SOME.items()]
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["sample_rate"] == kinds["hop"] == kinds["num_frames"] == "int32"
    assert all(kinds[name].startswith("list<") and "int32" in kinds[name] for name in ("unit", "start", "end"))


def test_parquet_keeps_order_over_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syllablelm.formats.ROWS_PER_GROUP", 2)
    write_all(tmp_path / "units.parquet", "parquet", SOME)
    assert list(read_segmentations(tmp_path / "units.parquet").items()) == list(SOME.items())


def test_streams_are_written_and_left_open() -> None:
    text, other, binary = io.StringIO(), io.StringIO(), io.BytesIO()
    write_all(text, "jsonl", SOME)
    write_all(other, "slamkit", {"one": SOME["one"]})
    write_all(binary, "parquet", SOME)
    assert [json.loads(line)["id"] for line in text.getvalue().splitlines()] == list(SOME)
    assert json.loads(other.getvalue())["units"] == [7, 0, 7]
    assert binary.getvalue()[:4] == binary.getvalue()[-4:] == b"PAR1"


def test_jsonl_stream_is_written_line_by_line() -> None:
    stream = io.StringIO()
    with open_writer(stream) as writer:
        writer.write("one", "one.flac", SOME["one"])
        assert from_record(json.loads(stream.getvalue())) == SOME["one"]


def test_slamkit_line_serves_both_of_its_files(tmp_path: Path) -> None:
    write_all(tmp_path / "tokens.jsonl", "slamkit", {"a": SOME["one"], "b": SOME["folder/gaps"]})
    lines = [json.loads(line) for line in (tmp_path / "tokens.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "file_name": "audio/a.flac",
        "units": [7, 0, 7],
        "duration": [3, 7, 2],
        "audio_repr": "<Un7><Un0><Un7>",
    }
    assert (lines[1]["audio_repr"], lines[1]["duration"]) == ("<Un4><Un2147483647>", [3, 2])


def test_slamkit_needs_units() -> None:
    with pytest.raises(InputError, match="no units: the slamkit format needs units"):
        write_all(io.StringIO(), "slamkit", {"no units": SOME["no units"]})


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
    textgrid = pytest.importorskip("praatio.textgrid")
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


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_left_after_a_failure(tmp_path: Path, format: str) -> None:
    target = tmp_path / SUFFIX[format]
    with pytest.raises(ZeroDivisionError), open_writer(target, format) as writer:
        writer.write("one", "one.flac", SOME["one"])
        _ = 1 / 0
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("format", EXACT)
def test_failure_keeps_the_older_file(tmp_path: Path, format: str) -> None:
    target = tmp_path / SUFFIX[format]
    write_all(target, format, {"old": SOME["one"]})
    with pytest.raises(KeyboardInterrupt), open_writer(target, format) as writer:
        writer.write("new", "new.flac", SOME["one"])
        raise KeyboardInterrupt
    assert read_segmentations(target) == {"old": SOME["one"]}
    assert files_below(tmp_path) == [SUFFIX[format]]


@pytest.mark.parametrize("format", FORMATS)
def test_ids_are_unique(tmp_path: Path, format: str) -> None:
    with (
        pytest.raises(InputError, match="two recordings are called 'one'"),
        open_writer(tmp_path / SUFFIX[format], format) as writer,
    ):
        writer.write("one", "a/one.flac", SOME["one"])
        writer.write("one", "b/one.flac", SOME["one"])


def test_writer_refuses_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'json'"):
        open_writer(tmp_path / "a.json", "json")
    with pytest.raises(InputError, match="is a folder"), open_writer(tmp_path):
        pass
    writer = open_writer(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="'with' block"):
        writer.write("one", "one.flac", SOME["one"])
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(("format", "package"), [("parquet", "pyarrow"), ("textgrid", "praatio")])
def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, package: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"pip install {package}"):
        write_all(tmp_path / SUFFIX[format], format, SOME)
    assert files_below(tmp_path) == []


def test_folders_of_shards_are_read(tmp_path: Path) -> None:
    write_all(tmp_path / "b" / "1.parquet", "parquet", {"two": SOME["no units"]})
    write_all(tmp_path / "a.parquet", "parquet", {"one": SOME["one"]})
    assert list(read_segmentations(tmp_path).items()) == [("one", SOME["one"]), ("two", SOME["no units"])]
    write_all(tmp_path / "c.parquet", "parquet", {"one": SOME["one"]})
    with pytest.raises(FormatError, match=r"c\.parquet: record 'one' appears twice"):
        read_segmentations(tmp_path)
    write_all(tmp_path / "d.jsonl", "jsonl", {})
    with pytest.raises(FormatError, match="files of one kind"):
        read_segmentations(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "{", "a.jsonl: not JSON lines"),
        ("a.jsonl", "\n[1]\n", "a.jsonl:2: a record must be an object"),
        ("a.jsonl", '{"id": "q"}', "a.jsonl:1: record 'q': missing path"),
        ("a.jsonl", '{"id": ["q"]}', "a.jsonl:1: record"),
        ("a.parquet", "text", "a.parquet: not a readable Parquet file"),
        ("a.TextGrid", "text", "a.TextGrid: not a readable TextGrid"),
        ("a.csv", "text", "a.csv: cannot tell the format"),
        ("a.jsonl", None, "no such file"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=message):
        read_segmentations(tmp_path / name)


def test_parquet_of_something_else_is_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"id": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(FormatError, match="missing columns path, sample_rate"):
        read_segmentations(tmp_path / "a.parquet")


def test_textgrid_of_something_else_is_named(tmp_path: Path) -> None:
    textgrid = pytest.importorskip("praatio.textgrid")
    for name, tier, label in (("a", "words", "5"), ("b", "units", "hello")):
        grid = textgrid.Textgrid()
        grid.addTier(textgrid.IntervalTier(tier, [(0.0, 1.0, label)], minT=0.0, maxT=1.0))
        grid.save(str(tmp_path / f"{name}.TextGrid"), format="short_textgrid", includeBlankSpaces=True)
    with pytest.raises(FormatError, match="no tier called 'units', only words"):
        read_segmentations(tmp_path / "a.TextGrid")
    with pytest.raises(FormatError, match="does not hold units at 50 Hz"):
        read_segmentations(tmp_path / "b.TextGrid")


def test_atomic_path_leaves_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_path(tmp_path / "made") as temporary:
        temporary.write_text("x")
        assert not (tmp_path / "made").exists() and temporary.parent == tmp_path
    assert os.stat(tmp_path / "made").st_mode == os.stat(tmp_path / "plain").st_mode
