"""The paper's way back to sound from parts that others published: an encoder, its centres, a unit HiFi-GAN."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.micro_speech_recipes import LM_TABLE
from helpers.published_hifigan import TINY, random_weights, write
from helpers.random_models import SLOW_SHAPE, small_predictor
from syllablelm.data.audio import load_audio
from syllablelm.encoders import load_encoder
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.resynthesizer import Resynthesizer

pytestmark = pytest.mark.slow

RECIPE = f"""
name = "published"
tokenizer = "TOKENIZER"
[data]
sources = ["AUDIO"]
[acoustic]
encoder = "ENCODER"
layer = 1
normalize = false
pad = 40
centres = "CENTRES"
units = 7
[published]
path = "PUBLISHED"
[vocoder_lm]
{LM_TABLE}"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An encoder of 25 frames a second, 7 centres of its first layer, and a vocoder of 7 units of 40 ms."""
    folder = tmp_path_factory.mktemp("published")
    small_predictor(seed=5, shape=SLOW_SHAPE).save(folder / "encoder")
    centres = np.random.default_rng(1).standard_normal((7, 32)).astype(np.float32)
    np.save(folder / "centres.npy", centres)
    write(folder / "vocoder", TINY, random_weights(TINY))
    return {"ENCODER": folder / "encoder", "CENTRES": folder / "centres.npy", "PUBLISHED": folder / "vocoder"}


def write_recipe(path: Path, tokenizer: Path, recordings: Path, published: dict[str, Path]) -> Path:
    text = RECIPE
    for name, value in {"TOKENIZER": tokenizer, "AUDIO": recordings, **published}.items():
        text = text.replace(name, str(value))
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer_folder: Path,
    recordings: Path,
    published: dict[str, Path],
    parts: Path,
) -> Path:
    """All of it as one model."""
    from syllablelm.cli.app import main

    folder = tmp_path_factory.mktemp("runs")
    recipe = write_recipe(folder / "recipe.toml", tokenizer_folder, recordings, published)
    assert main(["train", "vocoder", str(recipe), "--out", str(folder / "run"), "--device", "cpu"]) == 0
    bundle = ["train", "bundle", "--tokenizer", tokenizer_folder, "--lm", parts / "lm/lm", "--vocoder", folder / "run"]
    assert main([*map(str, bundle), "--out", str(folder / "model")]) == 0
    return folder / "model"


def test_the_units_are_those_of_the_published_parts(model: Path, published: dict[str, Path], recordings: Path) -> None:
    wave = load_audio(recordings / "r0.wav")
    encoder = load_encoder(published["ENCODER"], 1, normalize=False, pad=40, device="cpu")
    expected = Tokenizer.from_parts(encoder, published["CENTRES"]).encode(wave)
    voice = Resynthesizer.load(model, device="cpu")
    assert voice.acoustic is not None and voice.acoustic.encode(wave) == expected
    assert (expected.hop, voice.vocoder.num_units, voice.sample_rate) == (640, 7, 16_000)
    digests = {voice.vocoder_lm.stream.acoustic_units, voice.vocoder.acoustic, voice.acoustic.digest}
    assert len(digests) == 1 and digests != {""}


def test_speaks_and_continues(run: Run, model: Path, recordings: Path, tmp_path: Path) -> None:
    ended = run("resynthesize", recordings / "r0.wav", "--model", model, "--out", tmp_path / "a", "--device", "cpu")
    assert ended.status == 0 and ended.result["seconds"] == pytest.approx(2.0, abs=0.08)
    ended = run(
        *("continue", recordings / "r0.wav", "--model", model, "--out", tmp_path / "b"),
        *("--seconds", 1.0, "--device", "cpu"),
    )
    assert ended.status == 0 and ended.result["seconds"] == pytest.approx(1.0, abs=0.08)


def test_acoustic_units_that_do_not_belong_together(run: Run, model: Path, recordings: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    described = copy / "vocoder" / "vocoder.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"acoustic": "0123456789abcdef"}))
    ended = run("resynthesize", recordings, "--model", copy, "--out", tmp_path / "no", "--device", "cpu")
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1)
    assert "different acoustic units" in ended.err and "vocoder 0123456789abcdef" in ended.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("acoustic.units=8", "7 centres, but acoustic.units is 8"),
        ('acoustic.source="mfcc"', "acoustic.encoder: cepstra need none"),
        ('voice.sources=["AUDIO"]', "a table [voice] where it trains a vocoder, and only there"),
        ('published.path="nowhere"', "nowhere"),
        ('acoustic.centres="nowhere.npy"', "nowhere.npy"),
    ],
)
def test_parts_that_do_not_fit(
    run: Run,
    tokenizer_folder: Path,
    recordings: Path,
    published: dict[str, Path],
    tmp_path: Path,
    change: str,
    words: str,
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", tokenizer_folder, recordings, published)
    change = change.replace("AUDIO", str(recordings))
    ended = run("train", "vocoder", recipe, "--out", tmp_path / "run", "--set", change, "--device", "cpu")
    assert ended.status == 2 and words in ended.lines[-1]
    assert not (tmp_path / "run" / "vocoder_lm").exists()


def test_another_encoder_of_the_same_name(
    run: Run, tokenizer_folder: Path, recordings: Path, published: dict[str, Path], tmp_path: Path
) -> None:
    own = {**published, "ENCODER": shutil.copytree(published["ENCODER"], tmp_path / "encoder")}
    recipe = write_recipe(tmp_path / "recipe.toml", tokenizer_folder, recordings, own)
    options = ("train", "vocoder", recipe, "--out", tmp_path / "run", "--device", "cpu")
    assert run(*options).status == 0
    small_predictor(seed=6, shape=SLOW_SHAPE).save(shutil.rmtree(own["ENCODER"]) or own["ENCODER"])
    ended = run(*options)
    assert ended.status == 2 and "made with another recipe, seed or inputs" in ended.lines[-1]


def test_a_vocoder_of_other_frames(
    run: Run, tokenizer_folder: Path, recordings: Path, published: dict[str, Path], tmp_path: Path
) -> None:
    short = {**TINY, "upsample_rates": [8, 10, 4], "upsample_kernel_sizes": [16, 16, 8], "code_hop_size": 320}
    other = {**published, "PUBLISHED": write(tmp_path / "short", short, random_weights(short))}
    recipe = write_recipe(tmp_path / "recipe.toml", tokenizer_folder, recordings, other)
    ended = run("train", "vocoder", recipe, "--out", tmp_path / "run", "--device", "cpu")
    assert ended.status == 2
    assert "speaks 7 units in frames of 20 ms; the acoustic units are 7 in frames of 40 ms" in ended.lines[-1]
