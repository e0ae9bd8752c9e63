"""``syllablelm convert`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.random_segmentations import SOME, files_below, write_all
from helpers.released_lms import write_twist
from syllablelm.cli.app import main
from syllablelm.core.errors import FormatError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import FORMATS, read_segmentations
from syllablelm.lm.speech_lm import SpeechLM


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capfd.readouterr()
    return (main(["convert", *map(str, arguments)]), *capfd.readouterr())


def test_help_loads_nothing_heavy() -> None:
    script = """
import sys
from syllablelm.cli.app import main
assert main(["convert", "--help"]) == 0
loaded = {"torch", "transformers", "numpy", "pyarrow"} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--gap-unit" in done.stdout
    assert all(name in "".join(done.stdout.split()) for name in FORMATS)


def test_a_released_language_model(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_twist(tmp_path / "TWIST", "350M", vocab=13, offset=3)
    out = tmp_path / "twist"
    settings = ("--set", "num_units=10", "--set", "hop=640", "--set", "rate=19.5")
    status, printed, _ = run(capfd, tmp_path / "TWIST", "--to", "lm", "--out", out, *settings)
    assert status == 0
    result = json.loads(printed)
    assert [result[key] for key in ("from", "to", "units", "first", "bos", "unused")] == ["folder", "lm", 10, 3, -1, 3]
    lm = SpeechLM.load(out, device="cpu")
    seg = Segmentation.from_boundaries([0, 1, 3], unit=[4, 2], hop=640)
    assert lm.score(seg) < 0 and lm.generate(seg, seconds=0.2).num_frames == 5
    for arguments, message in (
        ((tmp_path / "TWIST", "--to", "lm", "--hop", 640), "with --out and --set alone"),
        ((tmp_path / "a.jsonl", "--to", "jsonl", "--set", "bos=1"), "--set is for language models: --to lm"),
        ((tmp_path / "TWIST", "--to", "lm", *settings, "--set", "first=9"), "13 tokens, but units from row 9"),
    ):
        status, printed, err = run(capfd, *arguments, "--out", tmp_path / "x")
        assert (status, printed, err.count("\n")) == (2, "", 1) and message in err
    with pytest.raises(FormatError, match="'convert --to lm' wrote"):
        SpeechLM.load(tmp_path / "TWIST")


def test_there_and_back(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_all(tmp_path / "a.jsonl", "jsonl", {"one": SOME["one"]})
    status, out, err = run(capfd, tmp_path / "a.jsonl", "--to", "slamkit", "--out", tmp_path / "b.jsonl")
    assert status == 0
    result = json.loads(out)
    assert (result["recordings"], result["segments"], result["out"]) == (1, 3, str(tmp_path / "b.jsonl"))
    assert err == (
        "1 recording, 3 segments; slamkit does not hold: id (the audio file's name), hop and sample rate, "
        "gaps (need a gap unit)\n"
    )
    back = ("--to", "jsonl", "--out", tmp_path / "c.jsonl")
    status, out, err = run(capfd, tmp_path / "b.jsonl", *back)
    assert (status, out) == (2, "")
    assert err.startswith("error: slamkit files do not hold the length of a frame: give --hop")
    status, out, err = run(capfd, tmp_path / "b.jsonl", *back, "--hop", 320)
    assert (status, err) == (0, "1 recording, 3 segments\n")
    assert read_segmentations(tmp_path / "c.jsonl") == {"one": SOME["one"]}


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("{}\n", ("--to", "jsonl"), "a.jsonl: the first record has the keys of no known format; give the format"),
        ('{"audio_repr": "x"}\n', ("--to", "jsonl", "--hop", 320), "files hold no durations: give --unit-frames"),
        ('{"units": [], "durations": []}\n{"units": 3}\n', ("--to", "jsonl", "--hop", 320), "a.jsonl:2: a record must"),
        ("{}\n", ("--to", "jsonl", "--from", "jsonl"), "a.jsonl:1: record without id: missing id"),
        ("{}\n", ("--to", "jsonl", "--hop", 0), "--hop 0: must be from 1"),
        ("{}\n", ("--to", "jsonl", "--delta", 0.1), "--delta is for released tokenizers"),
        ("{}\n", ("--to", "tokenizer", "--hop", 320), "are for units, not for tokenizers"),
        ("{}\n", ("--to", "xml"), "xml"),
        ("{}\n", (), "--to"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, text: str, arguments: tuple, message: str
) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    status, out, err = run(capfd, tmp_path / "a.jsonl", *arguments, "--out", tmp_path / "b.jsonl")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and message in err
    assert files_below(tmp_path) == ["a.jsonl"]
