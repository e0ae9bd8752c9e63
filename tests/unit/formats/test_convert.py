from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.random_segmentations import SOME, files_below, segmentations, write_all
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import FORMATS, FormatOptions, read_entries, read_segmentations
from syllablelm.formats.convert import UnitsConversion, convert_units

DOCS = Path(__file__).resolve().parents[3] / "docs" / "convert.md"
# Everything but the tokens, which have no times.
TIMED = [name for name in FORMATS if name != "slamkit-tokens"]
OUT = {
    "textgrid": "grids",
    "sdhubert": "segments",
    "textless-lines": "a.units",
    "gslm": "a.txt",
    "parquet": "a.parquet",
}


@settings(deadline=None, max_examples=10)
@given(
    some=st.lists(segmentations(min_frames=1, with_units=True), min_size=1, max_size=3),
    path=st.lists(st.sampled_from(TIMED), min_size=1, max_size=4),
)
def test_any_chain_of_formats_leads_back(tmp_path_factory, some: list[Segmentation], path: list[str]) -> None:
    """From our jsonl through other formats and back: the same segments of the same ids."""
    folder = tmp_path_factory.mktemp("chain")
    gap_unit = 2**31 - 1
    expected = {
        f"r{number}": segmentation.deduplicate()
        for number, segmentation in enumerate(some)
        if gap_unit not in segmentation.unit and len(segmentation)
    }
    if not expected:
        return
    options = FormatOptions(hop=320, gap_unit=gap_unit)
    place = folder / "first.jsonl"
    write_all(place, "jsonl", expected)
    for number, format in enumerate(path):
        out = folder / str(number) / OUT.get(format, "a.jsonl")
        # The format of the source is told by its content.
        result = convert_units(place, out, to=format, options=options)
        assert (result.to, result.recordings) == (format, len(expected))
        place = out
    convert_units(place, folder / "last.jsonl", to="jsonl", options=options)
    assert read_segmentations(folder / "last.jsonl") == expected


def test_report_counts_and_names_what_is_lost(tmp_path: Path) -> None:
    write_all(tmp_path / "a.jsonl", "jsonl", {"one": SOME["one"], "two": SOME["one"]})
    result = convert_units(tmp_path / "a.jsonl", tmp_path / "b.jsonl", to="slamkit")
    assert UnitsConversion.from_dict(result.to_dict()) == result
    assert result.to_dict() == {
        "from": "jsonl",
        "to": "slamkit",
        "recordings": 2,
        "segments": 6,
        "grids": [[320, 16_000]],
        "loses": list(FORMATS["slamkit"].loses),
    }


def test_repeats_are_merged_on_demand(tmp_path: Path) -> None:
    repeated = Segmentation.from_boundaries([0, 3, 5, 9], unit=[1, 2, 2])
    write_all(tmp_path / "a.jsonl", "jsonl", {"one": repeated})
    with pytest.raises(FormatError, match=r"a.jsonl:1: one: the boundary at frame 5 .* --deduplicate"):
        convert_units(tmp_path / "a.jsonl", tmp_path / "b.txt", to="gslm")
    convert_units(tmp_path / "a.jsonl", tmp_path / "b.txt", to="gslm", deduplicate=True)
    (entry,) = read_entries(tmp_path / "b.txt", "gslm", FormatOptions(hop=320))
    assert entry.segmentation == repeated.deduplicate()


@pytest.mark.parametrize("to", [name for name in FORMATS if "gaps (need a gap unit)" in FORMATS[name].loses])
def test_gaps_are_an_error_that_leaves_nothing(tmp_path: Path, to: str) -> None:
    gaps = SOME["folder/gaps"]
    write_all(
        tmp_path / "a.jsonl", "jsonl", {"one": SOME["one"], "gaps": Segmentation(gaps.start, gaps.end, gaps.unit, 20)}
    )
    with pytest.raises(FormatError, match=r"a.jsonl:2: gaps: frames 0 to 2 belong to no segment"):
        convert_units(tmp_path / "a.jsonl", tmp_path / "new" / "b", to=to)
    assert files_below(tmp_path) == ["a.jsonl", "new"]


def test_bad_input_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    write_all(tmp_path / "a.jsonl", "jsonl", {"one": SOME["one"]})
    with open(tmp_path / "a.jsonl", "a", encoding="utf-8") as file:
        file.write('{"id": "two"\n')
    (tmp_path / "b.txt").write_text("mine")
    with pytest.raises(FormatError, match=r"a.jsonl:2: not valid JSON"):
        convert_units(tmp_path / "a.jsonl", tmp_path / "b.txt", to="gslm")
    assert (tmp_path / "b.txt").read_text() == "mine"
    assert files_below(tmp_path) == ["a.jsonl", "b.txt"]


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(FormatError, match=r"a.jsonl: holds no recording"):
        convert_units(tmp_path / "a.jsonl", tmp_path / "b.jsonl", to="jsonl")
    with pytest.raises(InputError, match="is an input of this run"):
        convert_units(tmp_path / "a.jsonl", tmp_path / "." / "a.jsonl", to="jsonl")
    with pytest.raises(InputError, match="unknown format 'xml'"):
        convert_units(tmp_path / "a.jsonl", tmp_path / "b.xml", to="xml")
    with pytest.raises(FormatError, match="no such file or folder"):
        convert_units(tmp_path / "gone.jsonl", tmp_path / "b.jsonl", to="jsonl")
    assert files_below(tmp_path) == ["a.jsonl"]


def test_documented_table_is_that_of_the_registry() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|(.*)\|(.*)\|.*\|$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    documented = {name: tuple(part.strip() for part in lost.split(";") if part.strip()) for name, _, lost in rows}
    assert documented == {name: format.loses for name, format in FORMATS.items()}


def test_documented_saving_anew_makes_a_readable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "segments" / "61").mkdir(parents=True)
    segments = np.array([[2, 5], [5, 9]])
    np.save(tmp_path / "segments" / "61" / "a.npy", {"segments": segments, "length": 12})  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match="a pickled dictionary"):
        convert_units("segments", "units.jsonl", to="jsonl")
    exec(code)
    convert_units("segments", "units.jsonl", to="jsonl")
    record = json.loads(Path("units.jsonl").read_text())
    assert (record["id"], record["start"], record["num_frames"], record["unit"]) == ("61/a", [2, 5], 12, None)
