"""The example that compares first boundaries: its pieces, and the whole with a tiny random encoder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from helpers.random_models import small_corpus, small_predictor
from syllablelm.core.errors import InputError
from syllablelm.data.alignment import Alignment, Interval, Word, write_alignments
from syllablelm.data.corpus import Manifest
from syllablelm.data.manifest import Recording

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "compare_bootstraps.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_bootstraps", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def align(recording: Recording) -> Alignment:
    """A syllable every fifth of a second."""
    times = [n / 5 for n in range(int(recording.seconds * 5))]
    words = [Word("a", t, t + 0.2, (Interval("AA1", t, t + 0.2),)) for t in times]
    return Alignment(recording.id, recording.seconds, tuple(words))


def manifest_of(count: int) -> Manifest:
    return Manifest(Recording(f"r{n}", Path(f"r{n}.wav"), 32_000, 16_000) for n in range(count))


@pytest.mark.parametrize("every", [1, 2, 4, 9, 28])
def test_nothing_is_scored_that_was_trained_on(script: ModuleType, every: int) -> None:
    manifest = manifest_of(60)
    references = {recording.id: align(recording) for recording in manifest}
    if every == 1:
        with pytest.raises(InputError, match="none is left to score on"):
            script.split(manifest, references, every)
        return
    training, held_out = script.split(manifest, references, every)
    assert [r.id for r in training] == [f"r{n}" for n in range(0, 60, every)]
    assert [r.id for r in held_out] == [f"r{n}" for n in (4, 13, 22, 31, 40, 49, 58) if n % every]
    references.pop(held_out[0].id)
    assert held_out[0] not in script.split(manifest, references, every)[1]


def test_alignments_of_other_recordings_are_an_error(script: ModuleType) -> None:
    with pytest.raises(InputError, match="60 recordings, 0 alignments"):
        script.split(manifest_of(60), {}, 9)


def test_a_cell_holds_the_score_and_its_interval(script: ModuleType) -> None:
    row = SimpleNamespace(f1_50=0.62849, f1_low=0.6, f1_high=1.0)
    assert script.cell(row) == ".628 (.600 to 1.000)"


def test_only_first_rounds_differ_in_their_source(script: ModuleType) -> None:
    settings = script.Settings(layer=3, rate=5.0, gap=50, steps=7)
    found = {source: settings.boundaries(source) for source in script.SOURCES}
    assert {(c.rate, c.layer, c.gap) for c in found.values()} == {(5.0, 3, 50)}
    assert [c.source for c in found.values()] == list(script.SOURCES)
    assert [settings.sylboost(number).student for number in (1, 2, 3)] == ["teacher", "previous", "previous"]
    assert settings.sylboost(1).loop == settings.sylboost(2).loop


def test_bad_input_is_one_line(script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = small_corpus(tmp_path / "audio", [32_000] * 6)
    write_alignments([align(recording) for recording in corpus], tmp_path / "a.jsonl")
    common = ["--manifest", str(tmp_path / "audio"), "--alignments", str(tmp_path / "a.jsonl"), "--out", str(tmp_path)]
    (tmp_path / "empty").mkdir()
    assert script.main(["--encoder", str(tmp_path / "empty"), *common, "--every", "3"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("error: ") and len(err.splitlines()) == 1
    with pytest.raises(SystemExit) as ended:
        script.main(["--encoder", "x", *common, "--sources", "losspred,magic"])
    assert ended.value.code == 2


@pytest.mark.slow
def test_whole(script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = small_corpus(tmp_path / "audio", [24_000, 32_000, 16_000, 28_000, 32_000, 30_000])
    write_alignments([align(recording) for recording in corpus], tmp_path / "a.jsonl")
    (tmp_path / "encoder").mkdir()
    small_predictor().save(tmp_path / "encoder")
    arguments = ["--encoder", tmp_path / "encoder", "--manifest", tmp_path / "audio", "--out", tmp_path / "out"]
    arguments += ["--alignments", tmp_path / "a.jsonl", "--every", 3, "--steps", 2, "--rounds", 2, "--gap", 30]
    arguments += ["--layer", 2, "--batch-seconds", 3, "--crop-seconds", 1.5, "--device", "cpu"]
    command = [str(argument) for argument in arguments]
    assert script.main(command) == 0
    first = capfd.readouterr()
    lines = first.out.splitlines()
    assert lines[0].startswith("Boundary F1 at 50 ms; trained on 2 recordings (3 s), students scored on 1 others")
    heading, _, teacher, *rows = [[part.strip() for part in line.strip("|").split("|")] for line in lines[2:]]
    assert heading == ["first boundaries", "itself"] + [f"round {n}, {c}" for n in (1, 2) for c in ("MinSum", "peaks")]
    assert [row[0] for row in rows] == list(script.SOURCES)
    assert teacher[1] == teacher[4] == "-"
    for row in rows:
        for text in row[1:]:
            value, low, high = (
                float(part) for part in text.replace("(", "").replace(")", "").replace("to", "").split()
            )
            assert low <= value <= high

    assert script.main(command) == 0
    again = capfd.readouterr()
    assert again.out == first.out
    # Boundaries and student of five sources and two rounds.
    assert again.err.count("is finished, skipped") == 20
    assert script.main([*command, "--lr", "1e-4"]) == 2
    assert "another recipe, seed or inputs" in capfd.readouterr().err
