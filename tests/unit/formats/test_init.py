from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.random_segmentations import SOME, files_below, write_all
from syllablelm.core.errors import FormatError, InputError, MissingDependencyError
from syllablelm.formats import (
    FORMATS,
    TOKENIZE_FORMATS,
    FormatOptions,
    detect_format,
    open_writer,
    read_entries,
    read_segmentations,
)

EXACT = ("jsonl", "parquet")
OUT = {
    "jsonl": "units.jsonl",
    "parquet": "units.parquet",
    "textgrid": "grids",
    "slamkit": "features.jsonl",
    "slamkit-tokens": "tokens.jsonl",
    "textless": "records.jsonl",
    "textless-lines": "lines.units",
    "gslm": "units.txt",
    "discophon": "units.jsonl",
    "sdhubert": "segments",
}
ALL = pytest.mark.parametrize("format", FORMATS)


def test_every_format_is_tested_here() -> None:
    assert set(OUT) == set(FORMATS) and set(TOKENIZE_FORMATS) < set(FORMATS)


def test_the_registry_loads_no_format() -> None:
    script = "import sys, syllablelm.formats; sys.exit(len({'numpy', 'pyarrow', 'praatio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@ALL
def test_a_plain_segmentation_survives_every_format(tmp_path: Path, format: str) -> None:
    target = tmp_path / "new" / OUT[format]
    write_all(target, format, {"one": SOME["one"]})
    assert detect_format(target) == format
    assert detect_format(tmp_path / "new") == format
    if format == "slamkit-tokens":
        return
    for place in (target, tmp_path / "new"):
        (entry,) = read_entries(place, format, FormatOptions(hop=320))
        assert entry.segmentation == SOME["one"]
        assert entry.id in ("one", "grids/one", "segments/one")
        assert entry.place.startswith(str(tmp_path))


@pytest.mark.parametrize("format", EXACT)
def test_files_round_trip_exactly(tmp_path: Path, format: str) -> None:
    target = tmp_path / "new" / OUT[format]
    write_all(target, format, SOME)
    assert read_segmentations(target) == SOME
    assert list(read_segmentations(target)) == list(SOME)
    assert [entry.path for entry in read_entries(target, format)] == [f"audio/{name}.flac" for name in SOME]
    assert files_below(tmp_path / "new") == [OUT[format]]
    write_all(target, format, {})
    assert read_segmentations(target) == {}


def test_streams_are_written_and_left_open() -> None:
    text, other, binary = io.StringIO(), io.StringIO(), io.BytesIO()
    write_all(text, "jsonl", SOME)
    write_all(other, "slamkit", {"one": SOME["one"]})
    write_all(binary, "parquet", SOME)
    assert [json.loads(line)["id"] for line in text.getvalue().splitlines()] == list(SOME)
    assert json.loads(other.getvalue())["units"] == [7, 0, 7]
    assert binary.getvalue()[:4] == binary.getvalue()[-4:] == b"PAR1"


@ALL
def test_nothing_is_left_after_a_failure(tmp_path: Path, format: str) -> None:
    with pytest.raises(ZeroDivisionError), open_writer(tmp_path / OUT[format], format) as writer:
        writer.write("one", "one.flac", SOME["one"])
        _ = 1 / 0
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("format", EXACT)
def test_failure_keeps_the_older_file(tmp_path: Path, format: str) -> None:
    target = tmp_path / OUT[format]
    write_all(target, format, {"old": SOME["one"]})
    with pytest.raises(KeyboardInterrupt), open_writer(target, format) as writer:
        writer.write("new", "new.flac", SOME["one"])
        raise KeyboardInterrupt
    assert read_segmentations(target) == {"old": SOME["one"]}
    assert files_below(tmp_path) == [OUT[format]]


@ALL
def test_ids_are_unique(tmp_path: Path, format: str) -> None:
    with (
        pytest.raises(InputError, match="two recordings are called 'one'"),
        open_writer(tmp_path / OUT[format], format) as writer,
    ):
        writer.write("one", "a/one.flac", SOME["one"])
        writer.write("one", "b/one.flac", SOME["one"])


@ALL
def test_broken_names_are_refused(tmp_path: Path, format: str) -> None:
    # What Python makes of a file name in another encoding.
    broken = os.fsdecode(b"gr\xfc\xdfe")
    if OUT[format].endswith(".jsonl"):
        with open_writer(tmp_path / OUT[format], format) as writer:
            writer.write(broken, f"{broken}.wav", SOME["one"])
        (entry,) = read_entries(tmp_path / OUT[format], format, FormatOptions(hop=320, unit_frames=1))
        assert entry.id == broken, "JSON has escapes"
        return
    with (
        pytest.raises(InputError, match="a name that is not valid UTF-8 cannot be written as"),
        open_writer(tmp_path / OUT[format], format) as writer,
    ):
        writer.write("one", f"{broken}.wav", SOME["one"])
    assert files_below(tmp_path) == []


def test_writer_refuses_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'json'"):
        open_writer(tmp_path / "a.json", "json")
    with pytest.raises(InputError, match="is a folder"), open_writer(tmp_path):
        pass
    writer = open_writer(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="'with' block"):
        writer.write("one", "one.flac", SOME["one"])
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("format", "package", "remedy"),
    [("parquet", "pyarrow", "pip install pyarrow"), ("textgrid", "praatio", r"pip install 'syllablelm\[textgrid\]'")],
)
def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, package: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=remedy):
        write_all(tmp_path / OUT[format], format, SOME)
    assert files_below(tmp_path) == []


def test_folders_of_shards_are_read(tmp_path: Path) -> None:
    write_all(tmp_path / "b" / "1.parquet", "parquet", {"two": SOME["no units"]})
    write_all(tmp_path / "a.parquet", "parquet", {"one": SOME["one"]})
    assert list(read_segmentations(tmp_path).items()) == [("one", SOME["one"]), ("two", SOME["no units"])]
    write_all(tmp_path / "c.parquet", "parquet", {"one": SOME["one"]})
    with pytest.raises(FormatError, match=r"c\.parquet: record 'one' appears twice$"):
        read_segmentations(tmp_path)
    write_all(tmp_path / "d.parquet", "parquet", {"one": SOME["one"], "two": SOME["one"], "three": SOME["one"]})
    with pytest.raises(FormatError, match=r"c\.parquet: record 'one' appears twice, and 2 more such$"):
        read_segmentations(tmp_path)
    write_all(tmp_path / "e.jsonl", "jsonl", {})
    with pytest.raises(FormatError, match="holds files of several formats"):
        read_segmentations(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"), [("a.csv", "text", "a.csv: unknown suffix"), ("a.jsonl", None, "no such file")]
)
def test_bad_names_are_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    for read in (read_segmentations, detect_format):
        with pytest.raises(FormatError, match=message):
            read(tmp_path / name)


# Telling formats apart


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ('\n{"unit": null, "start": [], "end": []}', "jsonl"),
        ('{"units": [1], "duration": [2], "file_name": "a"}', "slamkit"),
        ('{"units": [1], "durations": [2], "dense": []}', "textless"),
        ('{"file_name": "a", "audio_repr": ""}', "slamkit-tokens"),
        ("", "jsonl"),
    ],
)
def test_jsonl_is_told_by_its_keys(tmp_path: Path, text: str, format: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    assert detect_format(tmp_path / "a.jsonl") == format


@pytest.mark.parametrize("text", ["{", "[1]", '{"id": "a"}', "\udcff"])
def test_other_jsonl_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text, errors="surrogateescape")
    with pytest.raises(FormatError, match=r"a\.jsonl: the first record .* give the format"):
        detect_format(tmp_path / "a.jsonl")


def test_folders_are_of_one_format(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no .* file below this folder"):
        detect_format(tmp_path)
    np.save(tmp_path / "a.npy", np.array([[0, 1]]))
    np.savez(tmp_path / "b.npz", segments=np.array([[0, 1]]))
    assert detect_format(tmp_path) == "sdhubert"
    (tmp_path / "c.jsonl").write_text("{}")
    with pytest.raises(FormatError, match="holds files of several formats"):
        detect_format(tmp_path)
