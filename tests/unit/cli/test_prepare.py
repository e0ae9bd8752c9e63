"""``prepare``: its choices, and open sets of pairs from the command line to a folder, with the real flite."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from syllablelm.cli.app import main
from syllablelm.cli.prepare import EngineName, Kind
from syllablelm.data.corpus import KINDS
from syllablelm.evaluate.lm.cloze import read_cloze
from syllablelm.evaluate.lm.suites import read_lexical, read_syntactic
from syllablelm.tts.engines import ENGINES

pytestmark = pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite on PATH")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["prepare", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def test_wordlist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Codas and onsets have to occur ten times to be legal.
    words = [f"{a}{v}{b}" for a in "bdkmpst" for v in "aeiou" for b in "dknt"]
    vowels = {"a": "AE1", "e": "EH1", "i": "IY1", "o": "OW1", "u": "UW1"}
    lines = [f"{w} {w[0].upper()} {vowels[w[1]]} {w[2].upper()}\n" for i, w in enumerate(words) if i % 3]
    (tmp_path / "my.dict").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "text.txt").write_text("bad " * 7, encoding="utf-8")
    options = ("--dictionary", tmp_path / "my.dict", "--text", tmp_path / "text.txt", "--licence", "mine")
    record = run(
        capsys, "wordlist", "--out", tmp_path / "w", *options, "--limit", 3, "--voices", "kal16,slt", "--workers", 2
    )
    assert (record["pairs"], record["recordings"]) == (3, 12)
    assert record["name"] == "open-wordlist" and "mine" in record["licences"]
    pairs = read_lexical(tmp_path / "w" / "lexical" / "dev")
    assert [len(pair.stems) for pair in pairs] == [2, 2, 2]


def test_minimal_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"linguistics_term": "agreement", "UID": "x", "pairID": "0"}
    good = {"sentence_good": "The cats sleep.", "sentence_bad": "The cats sleeps."}
    same = {"sentence_good": "The dog ran.", "sentence_bad": "the dog ran.", "pairID": "1"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row | good) + "\n" + json.dumps(row | same) + "\n", encoding="utf-8")
    record = run(capsys, "minimal-pairs", tmp_path / "x.jsonl", "--out", tmp_path / "m", "--voices", "kal16")
    assert (record["pairs"], record["left_out"]) == (1, 1)
    assert [pair.labels["phenomenon"] for pair in read_syntactic(tmp_path / "m" / "syntactic" / "dev")] == ["agreement"]


def test_topic_cloze(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, thing in (("one", "cat"), ("two", "ship")):
        text = " ".join(f"The {thing} was seen here {day}." for day in ("today", "again", "at night"))
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    arguments = (tmp_path / "one.txt", tmp_path / "two.txt", "--context", 2, "--voices", "kal16")
    record = run(capsys, "topic-cloze", *arguments, "--out", tmp_path / "c")
    assert (record["pairs"], record["stories"]) == (2, 2)
    assert len(read_cloze(tmp_path / "c" / "cloze")) == 2
    assert run(capsys, "topic-cloze", *arguments, "--out", tmp_path / "c") == record


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wordlist", "--dictionary", "gone"), "gone: no such dictionary"),
        (("wordlist", "--dictionary", "a", "--alignments", "b"), "give one of them"),
        (("wordlist", "--voices", "nobody"), "flite has no voice 'nobody'"),
        (("minimal-pairs", "gone"), "gone: no such file or folder"),
        (("topic-cloze", "gone"), "gone: no such text"),
    ],
)
def test_bad_input(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Without this the third case would need pocketsphinx.
    (tmp_path / "d.dict").write_text("cat K AE1 T\n", encoding="utf-8")
    more = () if arguments[0] != "wordlist" or "--dictionary" in arguments else ("--dictionary", "d.dict")
    assert main(["prepare", *arguments, *more, "--out", "out"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_dictionary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["prepare", "wordlist", "--out", str(tmp_path / "out")]) == 2
    assert "syllablelm[asr]" in capsys.readouterr().err


def test_choices_are_those_of_the_registries() -> None:
    assert get_args(EngineName) == tuple(ENGINES) and get_args(Kind) == KINDS
