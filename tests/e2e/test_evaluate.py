"""`evaluate`: boundaries, purity and bit rate of models, baselines and files of units."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.random_models import SLOW_SHAPE, small_predictor
from syllablelm import Tokenizer
from syllablelm.quantize import Codebook
from syllablelm.tokenizer.segment_rule import SegmentRule


def scores_of(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A tokenizer's row as that of a file of its units."""
    return {key: value for key, value in row.items() if key != "model"} | {"segmenter": name}


def test_evaluate_boundaries_compares_everything(
    run: Run, units: Path, recordings: Path, alignments: Path, tokenizer_folder: Path, trained: Path
) -> None:
    encoder = trained / "iteration1" / "encoder"
    ended = run(
        "evaluate", "boundaries", recordings, "--alignments", alignments, "--model", tokenizer_folder,
        "--baselines", "even,mel,losspred,similarity,minsum,peaks", "--encoder", encoder, "--layers", "1,2",
        "--units", units, "--against", "even", "--resamples", "50",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    rows = {row["segmenter"]: row for row in ended.result["rows"]}
    expected = [str(tokenizer_folder), "even", "mel", "losspred"]
    expected += ["similarity@1", "similarity@2", "minsum@1", "minsum@2", "peaks@1", "peaks@2", "units"]
    assert list(rows) == expected
    assert ended.result["protocol"]["name"] == "paper"
    assert ended.result["count"] == "reference"
    # Syllables of 0.2 s from the start of the recording: even cuts of the same count must find most of them.
    assert rows["even"]["f1@50"] > 0.85
    assert "gain" not in rows["even"]
    for name, row in rows.items():
        assert row["reference"] == rows["even"]["reference"]
        assert row["f1_low"] <= row["f1@50"] <= row["f1_high"]
        assert name == "units" or row["predicted"] == row["reference"], "as many boundaries as the reference has"
        assert row["count"] == ("own" if name == "units" else "reference")


def test_evaluate_boundaries_of_another_frame_rate(
    run: Run, recordings: Path, alignments: Path, tmp_path: Path
) -> None:
    predictor = small_predictor(shape=SLOW_SHAPE)
    predictor.save(tmp_path / "slow")
    centres = np.random.default_rng(0).standard_normal((12, 32)).astype(np.float32)
    codebook = Codebook(centres, np.arange(12, dtype=np.int32))
    Tokenizer(predictor.encoder, codebook, SegmentRule(rate=5.0)).save(tmp_path / "tokenizer")
    common = [
        "evaluate", "boundaries", recordings, "--alignments", alignments, "--model", tmp_path / "tokenizer",
        "--baselines", "even,mel,losspred,similarity,minsum,peaks,refined,zerosyl,sylber-relative",
        "--encoder", tmp_path / "slow", "--resamples", "10",
    ]  # fmt: skip
    model, *alone = str(tmp_path / "tokenizer"), "even", "mel"
    exact = [model, "minsum@1", "minsum@2", "similarity@1", "similarity@2", "losspred"]
    rows = {row["segmenter"]: row for row in run(*common, "--count", "25").result["rows"]}
    assert {*alone, *exact, "refined@1", "peaks@2", "zerosyl@1", "sylber-relative@2"} < set(rows)
    # A cut every 40 ms leaves no reference without one, if frames are where they belong; 2, 1.5 and 3 s give 160.
    assert {rows[name]["recall"] for name in exact} == {1.0}
    assert {rows[name]["predicted"] for name in exact} == {160 + 3}
    # The others have frames of 20 ms, and are asked for as many a second.
    assert {rows[name]["predicted"] for name in alone} == {round(99 / 2) + round(74 / 2) + round(149 / 2) + 3}
    rows = {row["segmenter"]: row for row in run(*common, "--count", "5").result["rows"]}
    assert {rows[name]["predicted"] for name in [*exact, *alone]} == {10 + 7 + 15 + 3}
    rows = {row["segmenter"]: row for row in run(*common, "--count", "own").result["rows"]}
    run("tokenize", recordings, "--model", tmp_path / "tokenizer", "--out", tmp_path / "units.jsonl")
    by_units = run("evaluate", "boundaries", tmp_path / "units.jsonl", "--alignments", alignments, "--resamples", "10")
    assert by_units.result["rows"][0] == scores_of(rows[model], "units")


def test_evaluate_boundaries_by_the_models_own_count(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    units = tmp_path / "own.parquet"
    run("tokenize", recordings, "--model", tokenizer_folder, "--format", "parquet", "--out", units)
    ended = run(
        "evaluate", "boundaries", recordings, units, "--alignments", alignments, "--model", tokenizer_folder,
        "--baselines", "even", "--count", "own", "--resamples", "10",
    )  # fmt: skip
    model, even, own = ended.result["rows"]
    assert scores_of(model, "own") == own
    assert even["predicted"] == model["predicted"]
    assert (model["count"], even["count"]) == ("own", f"own of {tokenizer_folder}")
    alone = run("evaluate", "boundaries", "--units", units, "--alignments", alignments, "--resamples", "10")
    assert alone.result["rows"] == [own]


def test_evaluate_boundaries_at_a_rate_as_text(run: Run, recordings: Path, alignments: Path) -> None:
    common_part = ["evaluate", "boundaries", recordings, "--alignments", alignments, "--baselines", "even"]
    slow, fast = (run(*common_part, "--count", rate).result["rows"][0]["predicted"] for rate in ("2", "8"))
    assert fast > 3 * slow
    ended = run(*common_part, "--format", "markdown")
    assert ended.out.splitlines()[0].startswith("protocol paper (")
    assert "| even" in ended.out
    with pytest.raises(json.JSONDecodeError):
        json.loads(ended.out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--baselines", "evne"], "unknown segmentation method 'evne'", id="baseline"),
        pytest.param(["--baselines", "even", "--count", "many"], "choose reference, own, or a number", id="count"),
        pytest.param(["--baselines", "even", "--count", "own"], "give --model NAME too", id="own without a model"),
        pytest.param(["--baselines", "even", "--against", "odd"], "'odd'", id="against"),
        pytest.param(["--protocol", "pneg"], "did you mean 'peng'", id="protocol"),
        pytest.param(["--reference", "mora"], "reference 'mora': choose some of", id="reference"),
        pytest.param(["--shift", "0.01"], "--protocol paper: takes no shift", id="shift that nothing takes"),
        pytest.param(["--protocol", "all", "--shift", "0.01"], "score them apart", id="shift of two sides"),
        pytest.param(["--protocol", "peng", "--shift", "0", "--tune", "x"], "not both", id="shift and list"),
        pytest.param(["--protocol", "peng", "--tune", "x"], "give --tune-alignments", id="list without reference"),
        pytest.param(
            ["--baselines", "losspred"], "needs an encoder with its masked-prediction head", id="no predictor"
        ),
    ],
)
def test_evaluate_boundaries_refuses(
    run: Run, recordings: Path, alignments: Path, arguments: list[str], words: str
) -> None:
    ended = run("evaluate", "boundaries", recordings, "--alignments", alignments, *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert words in ended.lines[-1]


def test_a_shift_beyond_those_searched_is_noted(run: Run, recordings: Path, alignments: Path) -> None:
    arguments = ["evaluate", "boundaries", recordings, "--alignments", alignments, "--baselines", "even"]
    ended = run(*arguments, "--protocol", "peng,zerosyl", "--shift", "0.5", "--resamples", "5")
    assert ended.status == 0
    for line, name in zip(ended.lines, ("peng", "zerosyl"), strict=False):
        assert line == f"--shift 0.5: outside the -0.06 to 0.03 s among which {name} searches"
    assert "--shift" not in run(*arguments, "--protocol", "peng", "--shift", "-0.06", "--resamples", "5").err


def test_evaluate_boundaries_says_what_it_leaves_out(
    run: Run, recordings: Path, alignments: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "more"
    shutil.copytree(recordings, folder)
    shutil.copy(recordings / "r0.wav", folder / "unknown.wav")
    (folder / "broken.wav").touch()
    ended = run("evaluate", "boundaries", folder, "--alignments", alignments, "--baselines", "even")
    assert ended.lines[0] == "left out: 1 unusable, 1 without an alignment"
    assert {"recordings": 3, "left_out": 1, "unusable": 1}.items() <= ended.result["data"].items()
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(recordings / "r0.wav", one / "unknown.wav")
    ended = run("evaluate", "boundaries", one, "--alignments", alignments, "--baselines", "even")
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert "no recording has an alignment" in ended.err


def test_evaluate_purity_and_bitrate(
    run: Run, units: Path, recordings: Path, alignments: Path, tokenizer_folder: Path
) -> None:
    by_model = run("evaluate", "purity", recordings, "--alignments", alignments, "--model", tokenizer_folder)
    assert by_model.status == 0
    score = by_model.result
    assert score["recordings"] == 3
    assert score["segments"] == 10 + 7 + 15
    assert 0 < score["cluster_purity_low"] <= score["cluster_purity"] <= score["cluster_purity_high"]
    by_file = run("evaluate", "purity", "--units", units, "--alignments", alignments).result
    source = {"model", "data"}
    assert [row | {"model": None} for row in score.pop("rows")] == by_file.pop("rows")
    assert {k: v for k, v in by_file.items() if k not in source} == {k: v for k, v in score.items() if k not in source}

    rate = run("evaluate", "bitrate", recordings, "--model", tokenizer_folder).result
    assert rate["units"] == 32
    assert rate["bits_per_second"] == pytest.approx(rate["merged_unit_rate"] * np.log2(12))
    by_file = run("evaluate", "bitrate", units, "--num-units", "12").result
    assert {k: v for k, v in by_file.items() if k not in source} == {k: v for k, v in rate.items() if k not in source}
    assert "bits_per_second" not in run("evaluate", "bitrate", units).result
    ended = run("evaluate", "bitrate", units, recordings)
    assert (ended.status, len(ended.lines)) == (2, 1)


def test_purity_and_bitrate_count_what_they_leave_out(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "more"
    shutil.copytree(recordings, folder)
    shutil.copy(recordings / "r0.wav", folder / "unknown.wav")
    (folder / "broken.wav").touch()
    models = ["--model", tokenizer_folder, "--resamples", "5"]
    scored = run("evaluate", "purity", folder, "--alignments", alignments, *models)
    assert {"recordings": 3, "left_out": 1, "unusable": 1}.items() <= scored.result["data"].items()
    assert "left out: 1 unusable, 1 without an alignment" in scored.lines
    rate = run("evaluate", "bitrate", folder, *models)
    assert {"recordings": 4, "left_out": 0, "unusable": 1}.items() <= rate.result["data"].items()


def test_purity_of_every_model_that_is_given(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path
) -> None:
    common_part = ["evaluate", "purity", recordings, "--alignments", alignments, "--resamples", "5"]
    models = [str(tokenizer_folder), "tiny"]
    both = run(*common_part, "--model", models[0], "--model", models[1], "--reference", "syllable,word").result
    assert both["model"] == ", ".join(models)
    assert [(row["model"], row["level"]) for row in both["rows"]] == [
        (model, level) for model in models for level in ("syllable", "word")
    ]
    alone = run(*common_part, "--model", "tiny").result
    assert alone["rows"] == both["rows"][2:3]
    assert alone["data"] == both["data"]


@pytest.mark.parametrize("verb", ["boundaries", "purity"])
def test_a_file_of_units_holds_the_recordings_of_the_reference(
    run: Run, units: Path, verb: str, recordings: Path, alignments: Path, tmp_path: Path
) -> None:
    fewer = change(alignments, tmp_path / "fewer.jsonl", lambda rows: rows.__delitem__(slice(1, None)))
    short = change(units, tmp_path / "short.jsonl", lambda rows: rows.__delitem__(0))
    odd = change(short, tmp_path / "odd.jsonl", lambda rows: rows[1].update(id="zz"))
    for file, reference, words in (
        (units, fewer, "2 recordings without an alignment, such as 'r1'; add --partial to score the 1 that have both"),
        (short, alignments, "1 recording aligned but not in it, such as 'r0'; add --partial"),
    ):
        ended = run("evaluate", verb, file, "--alignments", reference)
        assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1)
        assert words in ended.err
    ended = run("evaluate", verb, odd, "--alignments", alignments, "--partial", "--resamples", "5")
    assert ended.lines[0] == "left out: 1 without an alignment, 2 without units"
    assert {"recordings": 1, "left_out": 1, "without_units": 2}.items() <= ended.result["data"].items()


def test_rows_of_other_recordings_are_not_compared(
    run: Run, units: Path, recordings: Path, alignments: Path, tmp_path: Path
) -> None:
    short = change(units, tmp_path / "short.jsonl", lambda rows: rows.__delitem__(slice(2)))
    for files, words in (
        ((units, short), "short.jsonl: lacks 2 recordings, such as 'r0', that other rows have; rows are compared"),
        ((short, units), "units.jsonl: has 2 recordings, such as 'r0', that other rows lack"),
        ((recordings, short), "short.jsonl: lacks 2 recordings, such as 'r0'"),
    ):
        arguments = ["--alignments", alignments, "--partial", "--against", "short"]
        ended = run("evaluate", "boundaries", *files, *arguments)
        assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1)
        assert words in ended.err
    fewer = change(alignments, tmp_path / "fewer.jsonl", lambda rows: rows.__delitem__(slice(2)))
    ended = run("evaluate", "boundaries", units, short, "--alignments", fewer, "--partial", "--resamples", "5")
    first, second = ended.result["rows"]
    assert first | {"segmenter": ""} == second | {"segmenter": ""}
    assert {"recordings": 1, "left_out": 2, "without_units": 0}.items() <= ended.result["data"].items()


def test_every_protocol_and_reference_in_one_table(
    run: Run, recordings: Path, alignments: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    development = tmp_path / "development"
    development.mkdir()
    renamed = []
    for line in alignments.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        shutil.copy(recordings / f"{row['id']}.wav", development / f"d{row['id']}.wav")
        renamed.append(json.dumps(row | {"id": f"d{row['id']}"}))
    reference = tmp_path / "development.jsonl"
    reference.write_text("\n".join(renamed), encoding="utf-8")
    common_part = [
        "evaluate", "boundaries", recordings, "--alignments", alignments, "--baselines", "even,mel",
        "--resamples", "10", "--protocol", "all", "--reference", "phone", "--reference", "syllable,word",
    ]  # fmt: skip
    plain = run(*common_part).result
    assert list(plain)[:3] == ["evaluation", "model", "data"]
    assert (plain["evaluation"], plain["model"]) == ("boundaries", None)
    assert plain["data"] == {
        "name": str(recordings), "alignments": str(alignments), "recordings": 3, "seconds": pytest.approx(6.5, abs=0.1),
        "left_out": 0, "unusable": 0,
    }  # fmt: skip
    assert "protocol" not in plain and [one["name"] for one in plain["protocols"]][:2] == ["paper", "peng"]
    assert len(plain["rows"]) == 2 * 5 * 3
    assert {(row["shift"], row["tuned"]) for row in plain["rows"]} == {(0.0, False)}
    tuned = run(*common_part, "--tune", development, "--tune-alignments", reference).result
    assert tuned["tuning"]["recordings"] == 3
    assert {row["protocol"] for row in tuned["rows"] if row["tuned"]} == {"peng", "sdhubert", "zerosyl"}
    refused = run(*common_part, "--tune", recordings, "--tune-alignments", alignments)
    assert (refused.status, refused.out, len(refused.lines)) == (2, "", 1)
    assert "3 recordings of the tuning list, such as 'r0'" in refused.err

    units, more = tmp_path / "scored.jsonl", tmp_path / "more.jsonl"
    run("tokenize", recordings, "--model", tokenizer_folder, "--out", units)
    run("tokenize", development, "--model", tokenizer_folder, "--out", more)
    ended = run("evaluate", "boundaries", units, "--alignments", alignments, "--protocol", "zerosyl", "--tune", more,
                "--tune-alignments", reference, "--format", "markdown")  # fmt: skip
    assert ended.status == 0, ended.err
    assert "| scored" in ended.out and "shifts searched on" in ended.out


def test_evaluate_purity_of_every_reference(run: Run, units: Path, alignments: Path) -> None:
    common_part = ["evaluate", "purity", units, "--alignments", alignments, "--reference", "syllable,phone"]
    score = run(*common_part, "--matching", "majority").result
    assert list(score)[:3] == ["evaluation", "model", "data"]
    assert [row["level"] for row in score["rows"]] == ["syllable", "phone"]
    assert score["cluster_purity"] == score["rows"][0]["readings"]["worded"]["syllable_purity"]
    assert score["syllable_purity"] == score["readings"]["worded"]["cluster_purity"]
    assert score["matched"] == score["segments"] == score["token_predicted"]
    assert "unit to reference" in run(*common_part, "--format", "text").out


def change(file: Path, out: Path, edit: Callable[[list[dict[str, Any]]], None]) -> Path:
    """A copy of a jsonl with its rows changed."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    edit(rows)
    out.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return out


@pytest.mark.parametrize("verb", ["boundaries", "purity"])
def test_faults_of_a_list_name_the_first_and_the_count(
    run: Run, units: Path, verb: str, recordings: Path, alignments: Path, tmp_path: Path
) -> None:
    def refused(units: Path, alignments: Path) -> str:
        ended = run("evaluate", verb, units, "--alignments", alignments)
        assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1)
        return ended.err

    empty = change(alignments, tmp_path / "empty.jsonl", lambda rows: [row.update(words=[]) for row in rows[1:]])
    assert "2 recordings without a single syllable, such as 'r1'" in refused(units, empty)
    twice = change(alignments, tmp_path / "twice.jsonl", lambda rows: rows.extend(rows[:2]))
    assert "twice.jsonl:4: id 'r0' appears twice, and 1 more" in refused(units, twice)
    (tmp_path / "none.jsonl").touch()
    assert "holds no alignment" in refused(units, tmp_path / "none.jsonl")
    rates = change(units, tmp_path / "rates.jsonl", lambda rows: rows[2].update(sample_rate=8000))
    assert "1 recording at 8000 Hz with hop 320, such as 'r2'" in refused(rates, alignments)
    wrong = change(units, tmp_path / "wrong.jsonl", lambda rows: [row.update(sample_rate=44_100) for row in rows])
    assert "3 recordings of another length than the alignment, such as 'r0'" in refused(wrong, alignments)


@pytest.mark.parametrize("verb", ["boundaries", "purity"])
def test_one_bad_textgrid_does_not_stop(
    run: Run, units: Path, verb: str, recordings: Path, alignments: Path, tmp_path: Path
) -> None:
    grids = tmp_path / "grids"
    grids.mkdir()
    for line in alignments.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        phones = [phone for word in row["words"] for phone in word["phones"]]
        intervals = "\n".join(f'{start} {end} "{label}"' for label, start, end in phones)
        size = f'0 {row["duration"]} <exists> 1 "IntervalTier" "phones" 0 {row["duration"]} {len(phones)}'
        (grids / f"{row['id']}.TextGrid").write_text(f'"ooTextFile" "TextGrid"\n{size}\n{intervals}\n')
    (grids / "._r0.TextGrid").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    for source in (units, recordings):
        arguments = ["evaluate", verb, source, "--alignments", grids]
        extra = ["--baselines", "even"] if source == recordings and verb == "boundaries" else []
        whole = run(*arguments, *extra)
        assert whole.status == 0 and whole.result["data"]["recordings"] == 3, whole.err
    good = (grids / "r1.TextGrid").read_text()
    for bad in ("", good[:90]):
        (grids / "r1.TextGrid").write_text(bad)
        ended = run("evaluate", verb, units, "--alignments", grids)
        assert ended.status == 0 and ended.result["data"]["recordings"] == 2, ended.err
        assert ended.result["data"]["left_out"] == 1
        assert "r1.TextGrid" in ended.err and f"{grids}: skipped 1 of 3 alignments" in ended.err
    alone = run("evaluate", verb, units, "--alignments", grids / "r1.TextGrid")
    assert (alone.status, alone.out, len(alone.lines)) == (2, "", 1) and "r1.TextGrid" in alone.err
