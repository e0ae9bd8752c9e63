"""What the tests of the command line share: a way to run it, bad recordings, and a finished training run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Ended, Run
from helpers.micro_recipe import write_recipe
from helpers.micro_speech_recipes import bundle_options, train_parts
from syllablelm.cli.app import main
from syllablelm.data.audio import save_audio


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Ended:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Ended(status, *capfd.readouterr())

    return call


@pytest.fixture
def bad_files(tmp_path: Path, recordings: Path) -> Path:
    """A folder with one good recording between four that cannot be used."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a_empty.wav").touch()
    (folder / "b_text.flac").write_text("not audio at all", encoding="utf-8")
    shutil.copy(recordings / "r0.wav", folder / "c_good.wav")
    save_audio(folder / "d_silent.wav", np.zeros(8000, dtype=np.float32))
    whole = (recordings / "r2.wav").read_bytes()
    (folder / "e_cut.wav").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="session")
def recipe(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "micro.toml", recordings)


@pytest.fixture(scope="session")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "micro"
    assert main(["train", "all", str(recipe), "--out", str(out), "--device", "cpu"]) == 0
    return out


@pytest.fixture(scope="session")
def parts(tokenizer_folder: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lm/ and vocoder/: finished runs on the units of the small tokenizer."""
    folder = tmp_path_factory.mktemp("parts")
    train_parts(folder, tokenizer_folder, recordings)
    return folder


@pytest.fixture(scope="session")
def speaking(tokenizer_folder: Path, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that can speak, for tests that only read it."""
    out = tmp_path_factory.mktemp("speaking") / "model"
    assert main(bundle_options(tokenizer_folder, parts, out)) == 0
    return out


@pytest.fixture(scope="session")
def units(tokenizer_folder: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """units.jsonl of the recordings by the small tokenizer."""
    out = tmp_path_factory.mktemp("units") / "units.jsonl"
    assert main(["tokenize", str(recordings), "--model", str(tokenizer_folder), "--out", str(out)]) == 0
    return out
