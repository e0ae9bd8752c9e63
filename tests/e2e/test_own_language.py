"""A language other than English, as docs/own_language.md does it: text, speech, syllables, units, language model."""

from __future__ import annotations

import ctypes.util
import json
import shutil
from pathlib import Path

import pytest

from helpers.command_line import Run
from syllablelm.data.alignment import read_alignments
from syllablelm.data.manifest import Manifest

# Written for this test.
SPANISH = """\
La abuela prepara una sopa con verduras del huerto. Los ni\u00f1os corren por la playa y recogen piedras blancas.

Cuando llueve, mi hermano escucha m\u00fasica en la cocina. El perro duerme debajo de la mesa grande.

Esta noche vamos a mirar las estrellas desde el monte. \u00bfPor qu\u00e9 no abres la ventana, si hace tanto calor?
"""


@pytest.fixture
def spoken(run: Run, tmp_path: Path) -> Path:
    if shutil.which("espeak-ng") is None or ctypes.util.find_library("espeak-ng") is None:
        pytest.skip("espeak-ng and its library are not installed")
    (tmp_path / "es.txt").write_text(SPANISH, encoding="utf-8")
    speech = ["--engine", "espeak-ng", "--voices", "es,es+f3"]
    ended = run("prepare", "synthetic", tmp_path / "es.txt", *speech, "--out", tmp_path / "es")
    assert ended.status == 0 and ended.result["utterances"] == 6 and ended.result["skipped"] == 0
    return tmp_path / "es"


def test_speech_with_syllables(run: Run, spoken: Path, tmp_path: Path) -> None:
    texts = [recording.text for recording in Manifest.load(spoken / "manifest.jsonl")]
    assert texts[1] == "Los ni\u00f1os corren por la playa y recogen piedras blancas."
    plain, coarse = tmp_path / "plain.jsonl", tmp_path / "coarse.jsonl"
    result = run("prepare", "alignments", spoken / "alignments.jsonl", "--out", plain).result
    assert (result["recordings"], result["skipped"]) == (6, 0)
    # Six sentences have 111 syllables by the rules of Spanish, few of which the synthesiser runs together.
    assert 95 <= result["syllables"] <= 115
    second = next(one for one in read_alignments(plain).values() if one.words[1].label == "ni\u00f1os")
    labels = [one.label for one in second.syllables]
    assert labels[:4] == ["l-o-s", "n-i", "\u0272-o-s", "k-o"]
    assert "p-l-a" in labels and "\u00f0-\u027e-a-s" in labels
    # By other onsets the same phones are divided elsewhere.
    (tmp_path / "onsets.txt").write_text("# single consonants only\n", encoding="utf-8")
    named = ["--onsets", tmp_path / "onsets.txt", "--out", coarse]
    assert run("prepare", "alignments", spoken / "alignments.jsonl", *named).result["syllables"] == result["syllables"]
    assert "\u027e-a-s" in [one.label for one in read_alignments(coarse)[second.id].syllables]


@pytest.mark.slow
def test_units_and_a_language_model(run: Run, spoken: Path, tmp_path: Path) -> None:
    units = tmp_path / "units.jsonl"
    assert run("tokenize", spoken / "manifest.jsonl", "--out", units).status == 0
    assert run("prepare", "alignments", spoken / "alignments.jsonl", "--out", tmp_path / "es.jsonl").status == 0
    scored = run("evaluate", "boundaries", "--units", units, "--alignments", tmp_path / "es.jsonl", "--resamples", "2")
    (row,) = scored.result["rows"]
    # Equal segments reach .58 on two hours of such speech, the model .75.
    assert row["f1@50"] > 0.6
    lines = units.read_text(encoding="utf-8").splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:5]) + "\n", encoding="utf-8")
    (tmp_path / "valid.jsonl").write_text(lines[5] + "\n", encoding="utf-8")
    sizes = ["lm.shape.layers=1", "lm.shape.dim=32", "lm.shape.heads=2", "lm.shape.feed_forward=64", "lm.loop.steps=4"]
    data = [f"units.{name}={json.dumps([str(tmp_path / f'{name}.jsonl')])}" for name in ("train", "valid")]
    changes = [part for change in [*sizes, *data, "lm.batch_tokens=512"] for part in ("--set", change)]
    ended = run("train", "lm", "small_lm", "--out", tmp_path / "lm", "--device", "cpu", *changes)
    assert ended.status == 0 and ended.result["kind"]
