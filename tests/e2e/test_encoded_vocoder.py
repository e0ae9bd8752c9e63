"""The paper's vocoder on units that ``encode`` wrote: the shipped recipe at small size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.micro_speech_recipes import SHAPE
from helpers.published_hifigan import TINY, random_weights, write
from helpers.random_models import SLOW_SHAPE, small_corpus, small_predictor
from syllablelm.encoders import load_encoder
from syllablelm.formats import read_segmentations
from syllablelm.lm.store import TokenStore
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.resynthesizer import Resynthesizer

SMALL = [
    *(f"vocoder_lm.shape.{line.replace(' ', '')}" for line in SHAPE.splitlines()),
    *("vocoder_lm.row_tokens=256", "vocoder_lm.batch_tokens=256", "vocoder_lm.loop.steps=2"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, tokenizer_folder: Path) -> Path:
    """Inputs of the recipe under their own names, and an encoded corpus."""
    monkeypatch.chdir(tmp_path)
    small_corpus(Path("audio"), [32_000, 24_000, 300, 48_000]).save("data/librilight.jsonl")
    Path("mhubert").mkdir()
    small_predictor(seed=5, shape=SLOW_SHAPE).save(Path("mhubert"))
    np.save("centres.npy", np.random.default_rng(1).standard_normal((7, 32)).astype(np.float32))
    encoder = load_encoder("mhubert", 1, normalize=False, pad=40, device="cpu")
    Tokenizer.from_parts(encoder, "centres.npy", device="cpu").save("runs/mhubert/tokenizer")
    write(Path("models/hifigan_lj_mhubert_base_25hz"), TINY, random_weights(TINY))
    Path("runs/d2v2_625").mkdir()
    Path("runs/d2v2_625/tokenizer").symlink_to(tokenizer_folder)
    ended = run("encode", "data/librilight.jsonl", "--model", "runs/d2v2_625/tokenizer", "--acoustic",
                "runs/mhubert/tokenizer", "--out", "runs/units_625/librilight", "--device", "cpu")  # fmt: skip
    assert ended.status == 0 and ended.result["recordings"] == 4
    return tmp_path


def train(run: Run, out: str, *changes: str):
    options = [option for change in (*SMALL, *changes) for option in ("--set", change)]
    return run("train", "vocoder", "vocoder_mhubert", "--out", out, *options, "--device", "cpu")


def test_the_recipe_as_shipped_speaks(run: Run, folder: Path) -> None:
    ended = train(run, "runs/vocoder_mhubert")
    assert ended.status == 0, ended.err
    voice = Resynthesizer.load("runs/vocoder_mhubert", device="cpu")
    acoustic = read_segmentations("runs/units_625/librilight/acoustic")
    assert voice.acoustic is not None and voice.vocoder_lm is not None
    wave = np.asarray(next(iter(small_corpus(folder / "again", [32_000]))).load())
    assert voice.acoustic.encode(wave) == acoustic["r0"]
    seg = read_segmentations("runs/units_625/librilight")["r0"]
    assert voice.decode(seg).shape[0] == pytest.approx(32_000, abs=1280)
    assert voice.tokenizer == voice.vocoder_lm.stream.tokenizer != ""
    # Again: every stage is finished.
    again = train(run, "runs/vocoder_mhubert")
    assert again.status == 0 and again.err.count("is finished, skipped") == 4


def test_the_stream_is_that_of_the_recordings(run: Run, folder: Path) -> None:
    assert train(run, "runs/encoded", "interleaving=time").status == 0
    recipe = Path("data_recipe.toml")
    recipe.write_text(
        'name = "r"\ntokenizer = "runs/d2v2_625/tokenizer"\n[data]\nsources = ["data/librilight.jsonl"]\n'
        'min_seconds = 0.0\n[acoustic]\ntokenizer = "runs/mhubert/tokenizer"\n'
        '[published]\npath = "models/hifigan_lj_mhubert_base_25hz"\n[vocoder_lm]\n[vocoder_lm.loop]\nsteps = 2\n'
    )
    options = [option for change in SMALL for option in ("--set", change)]
    assert run("train", "vocoder", recipe, "--out", "runs/data", *options, "--device", "cpu").status == 0
    ours, theirs = (TokenStore.open(Path(name, "stream")) for name in ("runs/encoded", "runs/data"))
    assert ours.info == theirs.info and len(ours) == 3
    for name in ("tokens", "frames", "offsets"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_unit_files_of_other_systems(run: Run, folder: Path) -> None:
    """As for Table 2: units in jsonl, in another order and not all of them, with a codec as their tokenizer."""
    rows = list(read_segmentations("runs/units_625/librilight").items())
    lines = [
        {"id": name, "path": "", "sample_rate": row.sample_rate, "hop": row.hop, "num_frames": row.num_frames,
         "unit": row.unit.tolist(), "start": row.start.tolist(), "end": row.end.tolist()}
        for name, row in rows[:0:-1]
    ]  # fmt: skip
    Path("sdhubert").mkdir()
    Path("sdhubert/train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run("train", "recode", "sdhubert/train.jsonl", "--kind", "runs", "--num-units", "12", "--out",
               "sdhubert/codec").status == 0  # fmt: skip
    changes = ["tokenizer=sdhubert/codec", 'encoded.syllables=["sdhubert/train.jsonl"]']
    ended = train(run, "runs/vocoder_sdhubert", *changes)
    assert ended.status == 0, ended.err
    assert "1 recordings with only one kind of units left out, such as 'r0'" in ended.err
    store = TokenStore.open("runs/vocoder_sdhubert/stream")
    voice = Resynthesizer.load("runs/vocoder_sdhubert", device="cpu")
    assert len(store) == 2 and voice.vocoder_lm is not None and voice.vocoder_lm.stream.syllables == 12
    assert len(voice.decode(rows[1][1])) > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (['encoded.acoustic=["nowhere"]'], "nowhere: no such units; make them: syllablelm encode"),
        (['encoded.acoustic=["runs/units_625/librilight"]'], "acoustic.tokenizer is"),
        (['encoded.syllables=["runs/units_625/librilight/acoustic"]'], "but tokenizer is"),
        (["acoustic.tokenizer=runs/d2v2_625/tokenizer"], "not single frames"),
        (["acoustic.units=7"], "leave the other keys out"),
        (["acoustic.tokenizer="], "needs acoustic.tokenizer"),
        (['data.sources=["audio"]'], "not both"),
    ],
)
def test_what_does_not_fit(run: Run, folder: Path, changes: list[str], words: str) -> None:
    ended = train(run, "runs/no", *changes)
    assert ended.status == 2 and words in ended.lines[-1] and len(ended.lines[-1]) < 300
    assert not Path("runs/no/stream").exists()


def test_an_unfinished_corpus(run: Run, folder: Path) -> None:
    Path("runs/units_625/librilight/artifact.json").unlink()
    ended = train(run, "runs/no")
    assert ended.status == 2 and "run the same encode command again" in ended.lines[-1]
