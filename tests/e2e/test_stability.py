"""`evaluate stability` and the table of `evaluate bitrate`, with `tiny` on the bundled recording."""

from __future__ import annotations

from pathlib import Path

import pytest

import syllablelm as sl
from helpers.command_line import Run
from syllablelm.data.audio import save_audio
from syllablelm.evaluate.units.stability import CONDITIONS

SAMPLE = Path(sl.__file__).parent / "bundled" / "sample.flac"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three seconds of speech."""
    path = tmp_path / "clip.flac"
    save_audio(path, sl.load_audio(SAMPLE)[:48_000])
    return path


def test_stability_prints_one_object(run: Run, clip: Path, tokenizer_folder: Path) -> None:
    models = ["--model", "tiny", "--model", tokenizer_folder]
    ended = run("evaluate", "stability", clip, *models, "--resamples", "20")
    assert ended.status == 0, ended.err
    result = ended.result
    assert list(result)[:3] == ["evaluation", "model", "data"]
    assert result["data"] == {"name": str(clip), "recordings": 1, "seconds": 3.0, "unusable": 0}
    assert result["conditions"] == list(CONDITIONS)
    names = [*CONDITIONS, "mean"]
    assert [(row["model"], row["condition"]) for row in result["rows"]] == [
        (model, name) for model in ("tiny", str(tokenizer_folder)) for name in names
    ]
    rows = {row["condition"]: row for row in result["rows"][: len(names)]}
    assert len({row["units"] for name, row in rows.items() if name != "mean"}) == 1
    assert rows["mp3"]["f1@50"] > 0.8
    assert rows["noise10"]["unit_edit_distance"] > rows["mp3"]["unit_edit_distance"]
    again = run("evaluate", "stability", clip, *models[:2], "--resamples", "20", "--conditions", "reverb,noise10")
    assert again.result["rows"][:2] == [rows["noise10"], rows["reverb"]]


def test_stability_as_a_table(run: Run, recordings: Path, tokenizer_folder: Path) -> None:
    common = ["evaluate", "stability", recordings, "--model", tokenizer_folder, "--resamples", "5"]
    ended = run(*common, "--conditions", "gain-6", "--limit", "2", "--format", "markdown")
    assert ended.status == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].endswith("2 recordings, seed 0")
    assert [line.split("|")[2].strip() for line in lines[2:]][2:] == ["gain-6", "mean"]


def test_stability_of_bad_input_is_one_line(run: Run, clip: Path, tmp_path: Path) -> None:
    ended = run("evaluate", "stability", clip, "--conditions", "telefone")
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1)
    assert "unknown condition 'telefone': did you mean 'telephone'?" in ended.err
    ended = run("evaluate", "stability", tmp_path / "none.wav")
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1)


def test_stability_counts_what_it_leaves_out(run: Run, bad_files: Path, tokenizer_folder: Path) -> None:
    common = ["--model", tokenizer_folder, "--conditions", "gain-6", "--resamples", "5"]
    ended = run("evaluate", "stability", bad_files, *common)
    assert ended.status == 0, ended.err
    data = ended.result["data"]
    assert data["unusable"] > 0 and data["recordings"] + data["unusable"] == 5
    assert f"left out: {data['unusable']} unusable" in ended.lines


def test_bitrate_as_a_table(run: Run, recordings: Path, tokenizer_folder: Path) -> None:
    common = ["evaluate", "bitrate", recordings, "--model", tokenizer_folder, "--resamples", "5"]
    result = run(*common).result
    both = result["entropy_rate"] + result["length_entropy_rate"]
    assert result["timed_entropy_rate"] == pytest.approx(both)
    assert result["timed_entropy_rate_low"] <= result["timed_entropy_rate"] <= result["timed_entropy_rate_high"]
    ended = run(*common, "--format", "text")
    assert ended.status == 0, ended.err
    table = ended.out.splitlines()
    assert "bits/s of lengths" in table[2]
    assert f"{result['timed_entropy_rate']:.2f}" in table[4] and table[4].startswith("deduplicated")
    assert f"{result['unmerged_timed_entropy_rate']:.2f}" in table[5]
