"""What `resynthesize` and `continue` write where, on a stand-in for the models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.random_models import noise
from syllablelm.cli.app import main
from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.data.corpus import SkippedFile
from syllablelm.vocoder import speech_files
from syllablelm.vocoder.speech_files import ContinuedFile, ResynthesizedFile
from syllablelm.vocoder.speech_model import SpeechModel

RATE = 8000


class Model:
    """A unit for each whole second; speaks a unit as a second of its number, and no recording of 3 units."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.tokenizer = SimpleNamespace(window_seconds=60.0, encode=self.encode)
        self.resynthesizer = SimpleNamespace(sample_rate=RATE, decode_many=self.decode_many)

    def encode(self, waves: list[np.ndarray]) -> list[Segmentation]:
        counts = [len(wave) // 16_000 for wave in waves]
        return [Segmentation.from_boundaries(50 * np.arange(n + 1), unit=np.arange(n)) for n in counts]

    def decode_many(self, units: list[Segmentation], seeds: list[int], **sampling: float) -> list[np.ndarray]:
        self.batches.append(len(units))
        if any(len(one) == 3 for one in units):
            raise InputError("three")
        assert set(seeds) == {7}
        return [np.full(len(one) * RATE, len(one) / 10, dtype=np.float32) for one in units]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    monkeypatch.setattr(SpeechModel, "load", lambda name, device, context: made)
    return made


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    for seconds, name in ((1, "a/b"), (2, "a_b"), (4, "c"), (0.5, "short")):
        save_audio(tmp_path / "audio" / f"{name}.wav", noise(round(seconds * 16_000)))
    return tmp_path / "audio"


def speak(*arguments: object) -> int:
    return main(["resynthesize", *map(str, arguments), "--seed", "7"])


def test_subfolders_are_kept(model: Model, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert speak(audio, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    records = {record["id"]: record for record in map(json.loads, said.out.splitlines())}
    assert list(records) == ["a/b", "a_b", "c"]
    for id, units in (("a/b", 1), ("a_b", 2), ("c", 4)):
        assert records[id]["path"] == str(tmp_path / "out" / f"{id}.wav")
        assert (records[id]["units"], records[id]["seconds"]) == (units, units)
        assert np.median(load_audio(records[id]["path"])) == pytest.approx(units / 10, abs=1e-3)
    assert said.err == "skipped short: 0.50 s are shorter than one unit; give at least a second\n"
    assert model.batches == [3]


def test_one_that_fails_does_not_take_its_batch_with_it(
    model: Model, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_audio(audio / "b.wav", noise(48_000))
    assert speak(audio, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == ["a/b", "a_b", "c"]
    assert "skipped b: three" in said.err.splitlines()
    assert model.batches == [4, 1, 1, 1, 1]
    monkeypatch.setattr(speech_files, "BATCH_RECORDINGS", 2)
    model.batches.clear()
    assert speak(audio, "--out", tmp_path / "out", "--overwrite") == 0
    assert model.batches == [2, 2, 1, 1], "batches are bounded"


def test_what_is_there_is_replaced_on_demand_only(
    model: Model, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "out" / "a" / "b.wav"
    save_audio(there, noise(800))
    before = there.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(SpeechModel, "load", lambda name, device, context: pytest.fail("a model was opened"))
        assert speak(audio, "--out", tmp_path / "out") == 2
        said = capsys.readouterr()
        assert (said.out, said.err) == (
            "",
            f"error: {there}: exists; choose another --out, or give --overwrite to replace it\n",
        )
        assert there.read_bytes() == before and not (tmp_path / "out" / "c.wav").exists()
        # Not even on demand is a recording replaced by what is made of it.
        assert speak(audio, "--out", audio, "--overwrite") == 2
        assert f"{audio / 'a' / 'b.wav'}: is an input of this run, and 3 more such" in capsys.readouterr().err
    assert speak(audio, "--out", tmp_path / "out", "--overwrite") == 0
    assert there.read_bytes() != before


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (("../x", "y"), "'../x' cannot name a wav file"),
        (("/x", "y"), "'/x' cannot name a wav file"),
        (("//x", "y"), "'//x' cannot name a wav file"),
        (("x/y", "x//y"), "'x//y' cannot name a wav file"),
    ],
)
def test_ids_that_name_no_files_of_their_own(
    model: Model, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ids: tuple[str, ...], words: str
) -> None:
    manifest = tmp_path / "m.jsonl"
    rows: list[dict[str, Any]] = [{"id": id, "path": str(audio / "c.wav")} for id in ids]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert speak(manifest, "--out", tmp_path / "out") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_ids_behind_a_link_are_not_one_file(
    model: Model, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.jsonl"
    rows = [{"id": id, "path": str(audio / "c.wav")} for id in ("a/x", "b/x")]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "b").symlink_to("a")
    assert speak(manifest, "--out", tmp_path / "out") == 2
    assert "b/x.wav: would hold two recordings" in capsys.readouterr().err


def test_no_link_leads_out_of_the_folder(
    model: Model, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    assert speak(audio, "--out", tmp_path / "out") == 2
    assert "a link in" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_nothing_that_can_be_spoken(
    model: Model, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(audio / "a")
    for name in ("a_b", "c"):
        (audio / f"{name}.wav").unlink()
    save_audio(audio / "silent.wav", np.zeros(16_000, dtype=np.float32))
    assert speak(audio, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert said.out == "" and "(and 1 other recordings failed too)" in said.err
    assert not (tmp_path / "out").exists()


def test_one_recording_may_name_its_file(
    model: Model, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "spoken.wav"
    assert speak(audio / "c.wav", "--out", out) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(out) and len(load_audio(out)) > 0
    assert speak(audio, "--out", tmp_path / "all.wav") == 2
    assert "all.wav: one file for 4 recordings; give a folder as --out" in capsys.readouterr().err


def test_records(model: Model, audio: Path, tmp_path: Path) -> None:
    skipped: list[SkippedFile] = []
    records = list(speech_files.resynthesize_files(audio, tmp_path / "out", seed=7, skipped=skipped))
    assert [record.id for record in records] == ["a/b", "a_b", "c"]
    assert [ResynthesizedFile.from_dict(record.to_dict()) for record in records] == records
    assert [item.path.name for item in skipped] == ["short"]
    spoken: dict[str, Any] = {"id": "a", "path": "a.wav", "seconds": 1.0, "took_seconds": 0.5, "dbfs": -20.0}
    spoken |= {"clipped_share": 0.0, "prompt_units": 2, "prompt_dbfs": None, "unit": [3, 4]}
    continued = ContinuedFile(**spoken | {"unit": (3, 4)})
    assert continued.to_dict() == spoken and list(continued.to_dict()) == list(spoken)
    assert ContinuedFile.from_dict(continued.to_dict()) == continued
