"""From result files to the report's folder."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from helpers.evaluation_results import RESULTS, SET, boundary_result, boundary_row, write, write_all
from syllablelm.core.document import Picture
from syllablelm.core.errors import InputError
from syllablelm.core.results import Estimate
from syllablelm.core.segmentation import Segmentation
from syllablelm.evaluate.boundaries.run import BoundaryResult
from syllablelm.evaluate.lists import ScoredData
from syllablelm.evaluate.lm.pairs import LMSize, PairsData
from syllablelm.evaluate.speech.continuation import ContinuationResult
from syllablelm.evaluate.units.stability import CONDITIONS
from syllablelm.report.build import NO_FIGURES, WARNING, Report, make_report, write_report
from syllablelm.report.figures import Sample
from syllablelm.report.paper_tables import Column, Row, Table, Value, same_model, short_count, short_name

GIVEN = "number of segments: the reference's"
BOUNDARIES = RESULTS["boundaries"]
assert isinstance(BOUNDARIES, BoundaryResult)
VOID = {"meta", "br", "img", "source", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and gathers texts, links and what would be loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            if name in ("src", "srcset", "href", "data", "action"):
                (self.links if tag == "a" else self.loads).append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second; only the tests of figures draw."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("syllablelm.report.build.has_matplotlib", lambda: False)


@pytest.fixture
def drawn() -> None:
    """Asks for figures."""
    pytest.importorskip("matplotlib")


def rows_of(report: Report, table: str) -> dict[str, Row]:
    (found,) = [one for one in report.tables if one.id == table]
    return {f"{row.name} | {row.protocol}": row for row in found.ours}


def name_of(figure: Picture) -> str:
    return Path(figure.file).stem


def cells(row: Row) -> dict[str, float | None]:
    return {key: value.number for key, value in row.values.items()}


def test_every_result_finds_its_cells(tmp_path: Path) -> None:
    report = make_report([write_all(tmp_path)])
    assert report.num_results == len(RESULTS)
    first = rows_of(report, "1")
    assert list(first) == [
        "tiny | ",
        f"tiny | protocol paper, no shift; {GIVEN}",
        f"even | protocol paper, no shift; {GIVEN}",
        f"losspred of hubert | protocol paper, no shift; {GIVEN}",
        f"tiny | protocol peng, shift tuned; {GIVEN}",
    ]
    purity, tiny, *_, tuned = first.values()
    # The cuts that a given number of segments makes are not those of the units whose purity was measured.
    assert cells(purity) == pytest.approx({"cluster_purity": 21, "syllable_purity": 32, "nmi": 70})
    assert (purity.detail, tiny.detail, tuned.detail) == ("purities by overlap matching", "", "shift -15 ms")
    assert cells(tiny) == pytest.approx(
        {"f1_50": 68.41, "f1_20": 34.205, "precision": 61, "recall": 59, "r_value": 65, "token_f1": 40}
    )
    assert (tiny.values["f1_50"].low, tiny.values["f1_50"].high) == pytest.approx((66.41, 69.91))
    assert tiny.data == "our/dev.csv (35 recordings, 7.0 min)"
    second = list(rows_of(report, "2").values())
    parts = ["tiny", "tiny, predicted durations", "tiny, vocoder only (bound)", "tiny, original recordings"]
    assert [row.name for row in second] == [*parts, "tiny", *parts[2:]]
    assert "recogniser pocketsphinx, " in second[0].protocol and "by the rule 'english'" in second[0].protocol
    assert "recogniser whisper (beam 5), " in second[4].protocol
    assert cells(second[0]) == pytest.approx(
        {"hz": 4.9, "units": 1024, "bps": 49, "length_bps": 17.3, "wer": 90, "cer": 60}
    )
    assert {row.data for row in second} == {"our/read.csv (20 recordings, 2.0 min)"}
    assert second[0].detail == "rate on our/dev.csv (35 recordings, 7.0 min)"
    assert cells(second[1]) == pytest.approx({"wer": 95, "cer": 70})
    assert cells(second[2]) == pytest.approx({"wer": 50, "cer": 30})
    assert cells(second[4]) == pytest.approx(cells(second[0]) | {"wer": 80, "cer": 50})
    (third,) = rows_of(report, "3").values()
    assert third.name == "runs/x/lm on tiny"
    assert cells(third) == pytest.approx(
        {
            "params": 1_234_567, "units": 1024, "tokens": 250_000, "hz": 4.9, "bps": 49,
            "swuggy_all": 55, "swuggy_iv": 57, "swuggy_oov": 50, "sblimp": 52, "tsc": 53.5,
        }
    )  # fmt: skip
    assert [row.name for row in rows_of(report, "4").values()] == ["losspred of hubert"]
    fifth = rows_of(report, "5")[f"tiny | protocol paper, no shift; {GIVEN}"]
    # The rate would be the reference's.
    assert cells(fifth) == pytest.approx({"phone": 50.2, "syllable": 68.41, "word": 61.1})
    (sixth,) = rows_of(report, "6").values()
    assert cells(sixth) == pytest.approx({"hz": 4.9, "units": 1024, "swuggy_all": 55, "sblimp": 52})
    (seventh,) = rows_of(report, "7").values()
    assert cells(seventh) == {"ppx": 812.3}, "what was not reached stays empty"
    assert (seventh.values["ppx"].low, seventh.values["ppx"].high) == pytest.approx((772.3, 852.3))
    assert seventh.detail == "no VERT: oracle below the reachable range"
    assert "text model a.txt (3-gram)" in seventh.protocol and "recogniser pocketsphinx" in seventh.protocol
    ninth, mincut, minsum = rows_of(report, "9").values()
    assert [cells(row) for row in (ninth, mincut, minsum)] == [{"speed": 127.3}, {"speed": 40.0}, {"speed": 80.0}]
    assert minsum.protocol == "a CPU, 2 threads; float32, miniature size, clips of 4 s, a/folder weights, encoding"
    assert ninth.protocol.startswith("a CPU, 2 threads; float32")


def test_stability_has_a_table_with_a_column_for_each_condition(tmp_path: Path) -> None:
    report = make_report([write(tmp_path / "s.json", RESULTS["stability"])])
    table = report.tables[-1]
    assert (table.id, table.published) == ("S", ())
    assert [column.key for column in table.columns] == [*CONDITIONS, "mean"]
    assert [row.name for row in table.ours] == ["tiny", "small", "tiny", "small"]
    assert [told for told, _ in table.groups] == [
        "unit edit distance in %; seed 0",
        "F1 in % of boundaries at 20 ms; seed 0",
    ]
    first, *_, last = table.ours
    assert cells(first) == pytest.approx({"mp3": 12, "noise20": 30, "mean": 21})
    assert (first.values["mp3"].low, first.values["mp3"].high) == pytest.approx((6, 24))
    assert cells(last) == pytest.approx({"mp3": 90, "noise20": 90, "mean": 90})
    assert first.detail == "mean of noise20, mp3"
    text = report.markdown
    assert "## Table S. Stability: the same recordings, distorted\n\nOurs: units of distorted" in text
    page = report.html
    assert 'href="#table-s"' in page and page.count("Published: ") == 8


def test_without_stability_there_is_no_such_table(tmp_path: Path) -> None:
    report = make_report([write(tmp_path / "a.json", RESULTS["speed"])])
    assert [table.id for table in report.tables] == [*"1234567", "9"]


def test_protocols_and_references_of_one_file_find_their_tables(tmp_path: Path) -> None:
    """As ``--protocol strict,paper --reference phone,syllable,word`` prints it: by reference, then protocol."""
    scores = {("phone", "strict"): 0.1, ("phone", "paper"): 0.2, ("syllable", "strict"): 0.3}
    scores |= {("syllable", "paper"): 0.4, ("word", "strict"): 0.5, ("word", "paper"): 0.6}
    rows = [boundary_row("tiny", f1, level=level, protocol=name, count="4.5") for (level, name), f1 in scores.items()]
    write(tmp_path / "boundaries.json", boundary_result(*rows, count="4.5"))
    write(tmp_path / "purity.json", RESULTS["purity"])
    report = make_report([tmp_path])
    first = rows_of(report, "1")
    # The published rows' protocol before others.
    names = [f"tiny | protocol {name}, no shift; number of segments: 4.5 a second" for name in ("paper", "strict")]
    assert list(first) == ["tiny | ", *names]
    assert [cells(first[name])["f1_50"] for name in names] == pytest.approx([40, 30])
    fifth = rows_of(report, "5")
    assert list(fifth) == names
    assert [cells(row)["hz"] for row in fifth.values()] == pytest.approx([4.9, 4.9])
    for row, expected in zip(fifth.values(), ([20, 40, 60], [10, 30, 50]), strict=True):
        found = cells(row)
        assert [found[level] for level in ("phone", "syllable", "word")] == pytest.approx(expected)
    assert not rows_of(report, "4")


def own_count() -> BoundaryResult:
    """As ``--model tiny --count own --method even`` prints it."""
    rows = (
        boundary_row("tiny", 0.73, model="tiny", count="own"),
        boundary_row("even", 0.42, method="even", count="own of tiny"),
        boundary_row("tiny", 0.5, model="tiny", level="phone", count="own"),
    )
    return boundary_result(*rows, model="tiny", count="own")


def test_a_count_of_its_own_comes_first_and_takes_the_purities(tmp_path: Path) -> None:
    """Whatever the order of the files."""
    results = {"boundaries": BOUNDARIES, "own": own_count(), "purity": RESULTS["purity"]}
    paths = {name: write(tmp_path / f"{name}.json", value) for name, value in results.items()}
    for order in (paths, reversed(paths)):
        report = make_report([paths[name] for name in order])
        (table,) = [one for one in report.tables if one.id == "1"]
        (told, ours), *others = table.groups
        assert table.shared == "our/dev.csv (35 recordings, 7.0 min)"
        assert told == "protocol paper, no shift; number of segments: tiny's own"
        assert [row.name for row in ours] == ["tiny", "even"]
        assert [row.given_count for row in ours] == [False, True]
        assert cells(ours[0]) == pytest.approx(
            {
                "f1_50": 73, "f1_20": 36.5, "precision": 61, "recall": 59, "r_value": 65, "token_f1": 40,
                "cluster_purity": 21, "syllable_purity": 32, "nmi": 70,
            }
        )  # fmt: skip
        assert all("nmi" not in row.values for _, rows in others for row in rows)
        assert all(GIVEN in told for told, _ in others)


def test_whose_number_of_segments_a_row_has() -> None:
    rows = [
        boundary_row("tiny", model="tiny", count="own"),
        boundary_row("even", method="even", count="own of tiny"),
        boundary_row("sylber@4", method="sylber", model="hubert", layer=4, count="own"),
        boundary_row("units", count="own"),
        boundary_row("mel", method="mel", count="reference"),
        boundary_row("envelope", method="envelope", count="4.5"),
    ]
    found = rows_of(make_report([boundary_result(*rows)]), "1")
    counts = {row.name: (row.protocol.partition("segments: ")[2], row.given_count) for row in found.values()}
    assert counts == {
        "tiny": ("tiny's own", False),
        "even": ("tiny's own", True),
        "sylber@4 of hubert": ("its own", False),
        "units": ("its own", False),
        "mel": ("the reference's", True),
        "envelope": ("4.5 a second", True),
    }


def test_rounds_and_first_boundaries_stand_in_table_4_by_their_method() -> None:
    """Whatever their rows are called."""
    rows = [
        boundary_row("losspred", model="round1 encoder", method="minsum", layer=4),
        boundary_row("similarity", method="even"),
        boundary_row("x", model="hubert", method="similarity", layer=9),
        boundary_row("round2"),
    ]
    found = rows_of(make_report([boundary_result(*rows)]), "4")
    assert [row.name for row in found.values()] == ["minsum@4 of round1 encoder", "similarity@9 of hubert"]


@pytest.mark.parametrize(("shift", "told"), [(-0.0101, "-10"), (0.03, "+30"), (0.0, "0"), (1e-6, "0"), (-1e-6, "0")])
def test_a_tuned_shift_is_the_rows_own(tmp_path: Path, shift: float, told: str) -> None:
    row = boundary_row("tiny", protocol="peng", shift=shift, tuned=True)
    result = boundary_result(row, tuning=ScoredData(name="/x/a/tune.jsonl", recordings=4, seconds=9.0))
    (row,) = rows_of(make_report([write(tmp_path / "a.json", result)]), "1").values()
    assert row.detail == f"shift {told} ms"
    assert row.protocol == f"protocol peng, shift tuned on a/tune.jsonl; {GIVEN}"


def test_open_sets_are_named_in_the_cell_and_never_share_a_row_with_others(tmp_path: Path) -> None:
    size = LMSize(3_100_000, 1024, None)
    lexical, syntactic, cloze = (replace(RESULTS[name], lm_info=size) for name in ("lexical", "syntactic", "cloze"))
    lexical = replace(lexical, data=PairsData("our/words", "open-lexical", 80))
    cloze = replace(cloze, data=PairsData("our/stories", "open-cloze", 80))
    report = make_report([lexical, syntactic, cloze])
    (table,) = [one for one in report.tables if one.id == "3"]
    ours, official = table.ours
    assert ours.data == (
        "lexical: open-lexical, our/words (80 recordings); cloze: open-cloze, our/stories (80 recordings)"
    )
    assert set(ours.values) == {"swuggy_all", "swuggy_iv", "swuggy_oov", "tsc", "params", "units"}
    assert [ours.values[key].on for key in ("swuggy_iv", "tsc", "params")] == ["open-lexical", "open-cloze", ""]
    assert official.data == "our/sentences (80 recordings)" and official.values["sblimp"].on == ""
    (sixth,) = [one for one in report.tables if one.id == "6"]
    assert [set(row.values) for row in sixth.ours] == [{"swuggy_all", "units"}, {"sblimp", "units"}]
    text = report.markdown
    assert "| **3.1M** | **1k** |" in text and "[54.0, 61.0] open-lexical</small>" in text
    page = report.html
    assert "<small>[54.0, 61.0]</small><small>open-lexical</small>" in page


def test_files_of_units_stand_beside_the_name(tmp_path: Path) -> None:
    results = [replace(RESULTS[name], model=None, units=f"u/{name}.jsonl") for name in ("lexical", "syntactic")]
    report = make_report(results)
    (row,) = rows_of(report, "3").values()
    assert (row.name, row.detail) == ("runs/x/lm", "units: lexical.jsonl, syntactic.jsonl")


def test_what_evaluations_keep_beside_their_results_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "speed.json", RESULTS["speed"])
    kept = write(tmp_path / "scores" / "lexical" / "dev.json", {"key": "x", "stems": 3})
    report = make_report([tmp_path])
    assert report.num_results == 1
    assert any("1 file that no evaluation printed" in note and str(kept) in note for note in report.notes)


def test_other_likelihoods_are_rows_of_their_own() -> None:
    rows = tuple(replace(row, summed=Estimate(0.6, 0.5, 0.7)) for row in RESULTS["lexical"].rows)
    protocol = {"score": "mean", "summed": "summed log-probability", "ties": "half"}
    report = make_report([replace(RESULTS["lexical"], rows=rows, protocol=protocol)])
    found = {row.protocol: row.values["swuggy_all"].number for row in rows_of(report, "3").values()}
    assert found == {
        "mean, ties count half": pytest.approx(55),
        "summed log-probability, ties count half": pytest.approx(60),
    }


def test_scores_on_other_sets_have_rows_of_their_own() -> None:
    other = replace(RESULTS["lexical"], data=PairsData("other/words", None, 80))
    purity = replace(RESULTS["purity"], data=ScoredData(name="other/dev.csv", recordings=35, seconds=420.0))
    report = make_report([RESULTS["lexical"], other, purity, BOUNDARIES])
    table = next(table for table in report.tables if table.id == "3")
    assert [row.data for row in table.ours] == ["our/words (80 recordings)", "other/words (80 recordings)"]
    first = next(table for table in report.tables if table.id == "1")
    assert all(("f1_50" in row.values) != ("nmi" in row.values) for row in first.ours), "two sets in one row"


def test_a_rate_alone_gives_no_row_of_a_language_model() -> None:
    report = make_report([RESULTS["bitrate"]])
    assert {table.id: len(table.ours) for table in report.tables if table.ours} == {"2": 1}


def test_no_gold_list_gives_no_number() -> None:
    (row,) = rows_of(make_report([replace(RESULTS["lexical"], rows=None)]), "3").values()
    assert set(row.values) == {"params", "units", "tokens"}


def test_the_same_result_twice_is_no_conflict_and_another_is(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", RESULTS["boundaries"])
    same = write(tmp_path / "same.json", RESULTS["boundaries"])
    assert len(rows_of(make_report([one, same, one]), "1")) == 4
    changed = replace(BOUNDARIES, rows=(boundary_row("tiny", 0.7, model="tiny"), *BOUNDARIES.rows[1:]))
    other = write(tmp_path / "other.json", changed)
    with pytest.raises(InputError, match=r"one\.json and .*other\.json disagree on 'f1_50' of tiny .*68\.41 and 70"):
        make_report([one, other])


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path, drawn: None) -> None:
    report = make_report([write_all(tmp_path / "results")])
    folder = write_report(report, tmp_path / "report")
    page = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert all(link.startswith("data:image/png;base64,") for link in page.loads)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    style = (folder / "index.html").read_text(encoding="utf-8")
    assert "url(" not in style and "@import" not in style and "<script" not in style
    assert "prefers-color-scheme: dark" in style and 'name="viewport"' in style
    assert WARNING in page.text
    for number in "12345679":
        assert f"Table {number}. " in page.text
    text = (folder / "report.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert sorted(pictures) == sorted(f"figures/{path.name}" for path in (folder / "figures").iterdir())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_golden_lines_of_the_markdown(tmp_path: Path) -> None:
    report = make_report([write_all(tmp_path)])
    lines = report.markdown.splitlines()
    assert "| SD-HuBERT | 66.1 | 32.2 | 64.9 | 67.4 | 70.7 | 43.2 | 45.0 |  |  | published |" in lines
    assert (
        "| **tiny** | **68.4** <small>[66.4, 69.9]</small> | **34.2** | **61.0** | **59.0** | **65.0** "
        "|  |  | **40.0** <small>[38.0, 43.0]</small> |  | b |"
    ) in lines
    assert (
        "| **tiny** <small>purities by overlap matching</small> |  |  |  |  |  "
        "| **21.0** <small>[20.0, 22.0]</small> | **32.0** <small>[30.0, 34.0]</small> "
        "|  | **70.0** <small>[69.0, 71.0]</small> | a |"
    ) in lines
    place = lines.index("- Ours: our/dev.csv (35 recordings, 7.0 min)")
    assert lines[place + 1 : place + 3] == ["- **a**: other measures", f"- **b**: protocol paper, no shift; {GIVEN}"]
    assert "| TWIST 300M | 205 <small>±24</small> | 24.0 <small>±1.0</small> |" in "\n".join(lines)
    assert any(
        line.startswith(
            "| **runs/x/lm on tiny** <small>rate on our/dev.csv (35 recordings, 7.0 min)</small> "
            "| **1.2M** | **1k** | **4.90** | **49** | **250k** |  |"
        )
        for line in lines
    )
    assert sum("Ours: nothing was run." in line for line in lines) == 0
    widths = {line.count("|") for line in lines if line.startswith("|")}
    assert len(widths) == len({len(table.columns) for table in report.tables})


def test_tables_without_results_say_so(tmp_path: Path) -> None:
    report = make_report([write(tmp_path / "a.json", RESULTS["speed"])])
    text = report.markdown
    assert text.count("Ours: nothing was run.") == 7
    assert text.count("**tiny**") == 1


def test_continuations_of_units_alone_have_no_cell_and_the_report_says_so(tmp_path: Path) -> None:
    whole = RESULTS["continuation"]
    assert isinstance(whole, ContinuationResult)
    texts = ("ppx_at_oracle_vert", "vert_at_oracle_ppx", "oracle", "recognizer", "text_lm")
    rows = tuple(replace(row, summary=None) for row in whole.temperatures)
    units = replace(whole, temperatures=rows, **dict.fromkeys(texts))
    report = make_report([write(tmp_path / "units.json", units)])
    assert not any(table.ours for table in report.tables)
    assert any("units.json" in note for note in report.notes)


def test_figures_are_drawn_only_where_there_is_data(
    tmp_path: Path, drawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syllablelm.report.figures._draw", lambda draw, theme, height: b"")

    def names(*results: str) -> list[str]:
        folder = tmp_path / "_".join(results)
        for name in results:
            write(folder / f"{name}.json", RESULTS[name])
        return [name_of(figure) for figure in make_report([folder]).figures]

    assert names("speed", "resynthesis") == []
    assert names("bitrate", "resynthesis") == ["errors_by_bitrate"]
    # A rate that was given says nothing of a system.
    assert names("boundaries", "continuation") == ["perplexity_by_diversity"]
    path = write(tmp_path / "own" / "own.json", own_count())
    (figure,) = make_report([path]).figures
    assert name_of(figure) == "f1_by_rate" and "tiny's own" in figure.caption


def test_pictures_and_a_recording(tmp_path: Path, drawn: None) -> None:
    features_TD = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    segmentation = Segmentation.from_boundaries([0, 10, 30, 50], unit=[1, 2, 3], hop=320, sample_rate=16_000)
    report = make_report(
        [write(tmp_path / "a.json", RESULTS["speed"])], Sample("a.flac", "tiny", features_TD, segmentation)
    )
    (figure,) = report.figures
    assert name_of(figure) == "similarity" and "a.flac" in figure.caption and "1.0 s" in figure.caption
    assert figure.image != figure.dark
    picture = tmp_path / "mine.png"
    picture.write_bytes(figure.image)
    again = make_report([tmp_path / "a.json", picture])
    assert [(one.file, one.title, one.image) for one in again.figures] == [
        ("figures/picture1.png", "mine", figure.image)
    ]


def test_names_are_escaped() -> None:
    data = replace(SET, name="<script>alert('x')</script> | & `b`")
    report = make_report([boundary_result(boundary_row("<b>&amp;|*evil*</b>"), data=data)])
    page = report.html
    assert "<script" not in page and "<b>" not in page
    assert "<b>&amp;|*evil*</b>" in Page(page).text
    text = report.markdown
    assert "<script" not in text and "<b>" not in text
    (line,) = [line for line in text.splitlines() if "evil" in line]
    assert line.replace("\\|", "").count("|") == 12


def test_an_earlier_report_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    report = make_report([write(tmp_path / "a.json", RESULTS["speed"])])
    out = tmp_path / "report"
    write_report(report, out)
    (out / "index.html").write_text("old", encoding="utf-8")
    write_report(report, out)
    assert (out / "index.html").read_text(encoding="utf-8") != "old"
    (out / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        write_report(report, out)
    assert (out / "thesis.txt").read_text(encoding="utf-8") == "mine"
    with pytest.raises(InputError, match="is a file"):
        write_report(report, tmp_path / "a.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "report"]


def test_a_failure_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = make_report([write(tmp_path / "a.json", RESULTS["speed"])])
    out = write_report(report, tmp_path / "report")
    before = (out / "index.html").read_bytes()

    def fail(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("syllablelm.report.build.to_markdown", fail)
    with pytest.raises(OSError, match="No space"):
        write_report(report, out)
    assert (out / "index.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "report"]


def test_without_matplotlib_there_are_no_figures_and_the_page_says_so(
    tmp_path: Path, drawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report = make_report([write_all(tmp_path / "results")])
    assert report.figures == ()
    folder = write_report(report, tmp_path / "report")
    assert NO_FIGURES in Page((folder / "index.html").read_text(encoding="utf-8")).text
    assert NO_FIGURES in (folder / "report.md").read_text(encoding="utf-8")
    assert not (folder / "figures").exists()


def test_numbers_are_shown_with_the_columns_digits() -> None:
    column = Column("x", "X", digits=1)
    assert column.show(None) == ("", "")
    assert column.show(Value(None)) == ("", "")
    assert column.show(Value(12.345)) == ("12.3", "")
    assert column.show(Value(12.345, 11.04, 13.06)) == ("12.3", "[11.0, 13.1]")
    assert column.show(Value(20.0, 18.8, 21.2, bar=True)) == ("20.0", "±1.2")
    assert Column("n", "N", digits=0).show(Value(34700.0)) == ("34,700", "")
    counts = {7: "7", 500: "500", 1024: "1k", 2048: "2k", 16384: "16k", 90e6: "90M", 1.24e9: "1.2B", 999_999: "1M"}
    assert {number: short_count(number) for number in counts} == counts


def test_paths_are_the_same_model() -> None:
    assert same_model("tiny", "tiny")
    assert same_model("/a/runs/x/tokenizer", "runs/x/tokenizer")
    assert same_model("runs/x", "/a/runs/x")
    assert not same_model("/a/tiny", "tiny")
    assert not same_model("/a/runs/x/lm", "runs/y")
    assert not same_model("/a/b/c", "/d/b/c")
    assert short_name("/home/me/data/dev.csv") == "data/dev.csv"
    assert short_name("/home/me/open-pairs/syntactic/dev") == "open-pairs/syntactic/dev"
    assert short_name("runs/deep/in/here") == "runs/deep/in/here"


def test_a_table_knows_whose_rows_it_has() -> None:
    rows = (Row("a", "s", "p", {}), Row("b", "s", "p", {"x": Value(1.0, 0.5, 1.5)}, ours=True))
    table = Table("1", "t", "s", "p", (Column("x", "X"),), rows)
    assert [row.name for row in table.published] == ["a"]
    assert [row.name for row in table.ours] == ["b"]
