"""From recordings to spoken continuations: every verb of speech, on models that take seconds to train."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.micro_speech_recipes import DIRECT, bundle_options
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.formats import read_segmentations
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.train.batches import load_arrays
from syllablelm.vocoder.resynthesizer import Resynthesizer

pytestmark = pytest.mark.slow


@pytest.fixture
def model(speaking: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(speaking, tmp_path / "model")


def test_resynthesize_and_continue(run: Run, model: Path, recordings: Path, tmp_path: Path) -> None:
    ended = run("resynthesize", recordings, "--model", model, "--out", tmp_path / "spoken", "--device", "cpu")
    assert ended.status == 0
    for record, seconds in zip(ended.records, (2.0, 1.5, 3.0), strict=True):
        assert record["seconds"] == pytest.approx(seconds, abs=0.05)
        assert np.abs(load_audio(record["path"])).max() <= 1.0
    options = ("--model", model, "--out", tmp_path / "more", "--seconds", 1.5, "--device", "cpu", "--seed", 3)
    first, refused = (run("continue", recordings / "r0.wav", *options) for _ in range(2))
    assert first.status == 0
    assert (refused.status, refused.out, len(refused.lines)) == (2, "", 1)
    assert "r0.wav: exists; choose another --out, or give --overwrite" in refused.err
    before = load_audio(first.result["path"])
    again = run("continue", recordings / "r0.wav", *options, "--overwrite")
    assert np.array_equal(load_audio(again.result["path"]), before)
    assert first.result["seconds"] == pytest.approx(1.5, abs=0.05)
    assert first.result["unit"] == again.result["unit"]


def test_a_vocoder_of_syllables(
    run: Run, tokenizer_folder: Path, parts: Path, recordings: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "direct.toml"
    recipe.write_text(DIRECT.replace("TOKENIZER", str(tokenizer_folder)).replace("AUDIO", str(recordings)))
    ended = run("train", "vocoder", recipe, "--out", tmp_path / "direct", "--device", "cpu")
    assert ended.status == 0 and ended.result["kind"] == "vocoder"
    warps = load_arrays(tmp_path / "direct/warp/warp.safetensors")
    # A recording is its own nearest.
    for name, warp in warps.items():
        spoken = np.flatnonzero(warp >= 0)
        assert (warp[spoken] == spoken).all(), name
    options = ("--tokenizer", tokenizer_folder, "--lm", parts / "lm/lm", "--vocoder", tmp_path / "direct")
    assert run("train", "bundle", *options, "--out", tmp_path / "model").status == 0
    assert sorted(path.name for path in (tmp_path / "model").iterdir() if path.is_dir()) == ["lm", "vocoder"]
    common = ("--model", tmp_path / "model", "--device", "cpu")
    ended = run("resynthesize", recordings / "r0.wav", "--out", tmp_path / "again.wav", *common)
    assert ended.status == 0 and ended.result["seconds"] == pytest.approx(2.0, abs=0.05)
    ended = run("continue", recordings / "r0.wav", "--seconds", 1.0, "--out", tmp_path / "more.wav", *common)
    assert ended.status == 0 and ended.result["seconds"] == pytest.approx(1.0, abs=0.05)


def test_the_papers_order_of_the_stream(run: Run, parts: Path, units: Path, tmp_path: Path) -> None:
    out = shutil.copytree(parts / "vocoder", tmp_path / "vocoder")
    options = ("--out", out, "--set", "interleaving=ella-v", "--device", "cpu")
    ended = run("train", "vocoder", parts / "vocoder.toml", *options)
    assert ended.status == 2 and f"{out / 'stream'} holds a tokens made with another recipe" in ended.lines[-1]
    for stage in ("stream", "vocoder_lm"):
        shutil.rmtree(out / stage)
    assert run("train", "vocoder", parts / "vocoder.toml", *options).status == 0
    spoken = Resynthesizer.load(out, device="cpu")
    assert spoken.vocoder_lm is not None and spoken.vocoder_lm.lm.info.num_tokens == 12 + 8 + 3
    for row in read_segmentations(units).values():
        assert len(spoken.decode(row)) / spoken.sample_rate == pytest.approx(row.duration, abs=0.05)


def test_every_stage_that_draws_has_the_recipes_seed(parts: Path) -> None:
    files = list(parts.rglob("artifact.json"))
    seeds = {file.parent.name: json.loads(file.read_text())["seed"] for file in files}
    assert {name for name, seed in seeds.items() if seed == 3} == {"acoustic", "lm", "vocoder", "vocoder_lm"}
    assert set(seeds.values()) == {0, 3}


def test_recordings_sound_the_same_alone_and_together(run: Run, model: Path, recordings: Path, tmp_path: Path) -> None:
    for verb, more in (("resynthesize", ()), ("continue", ("--seconds", 1.0, "--prompt-seconds", 1.2))):
        options = (*more, "--model", model, "--device", "cpu", "--seed", 5)
        together = run(verb, recordings, "--out", tmp_path / verb, *options)
        for record in together.records:
            alone = run(verb, recordings / f"{record['id']}.wav", "--out", tmp_path / f"{verb} alone", *options).result
            same = ("seconds", "units") if verb == "resynthesize" else ("seconds", "prompt_units", "unit")
            assert [alone[key] for key in same] == [record[key] for key in same]
            assert np.array_equal(load_audio(alone["path"]), load_audio(record["path"]))


def test_a_bundle_in_half_precision_agrees(run: Run, tokenizer_folder: Path, parts: Path, tmp_path: Path) -> None:
    half_bundle = (*bundle_options(tokenizer_folder, parts, tmp_path / "half"), "--half")
    ended = run(*half_bundle)
    assert ended.status == 0
    whole, half = (SpeechLM.load(path, device="cpu") for path in (parts / "lm/lm", tmp_path / "half"))
    assert half.model.dtype == whole.model.dtype
    for one, other in zip(whole.model.parameters(), half.model.parameters(), strict=True):
        assert np.allclose(one.detach(), other.detach(), atol=1e-4, rtol=1e-3)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (parts / "lm/lm", tmp_path / "half/lm")]
    assert sizes[1] < 0.7 * sizes[0]
    again = run(*half_bundle)
    assert (again.status, again.out, len(again.lines)) == (2, "", 1)
    assert "exists" in again.err


def refused(run: Run, words: str, *arguments: object) -> None:
    ended = run("continue", *arguments, "--device", "cpu")
    assert (ended.status, ended.out) == (2, "")
    assert words in ended.err and len(ended.lines) == 1


def test_prompts_that_do_not_fit(run: Run, model: Path, recordings: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.wav"
    save_audio(short, np.full(300, 0.1, dtype=np.float32))
    refused(run, "shorter than one unit", short, "--model", model, "--out", tmp_path / "o")
    long = tmp_path / "long.wav"
    # 80 s of 5 units a second: far more than the longest crop in training.
    save_audio(long, np.tile(load_audio(recordings / "r2.wav"), 40))
    refused(run, "context holds 8; shorten it", long, "--model", model, "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()
    ended = run("continue", recordings / "r2.wav", "--model", model, "--out", tmp_path / "p", "--device", "cpu")
    assert ended.status == 2 and "give a context of up to 256" in ended.err
    longer = ("--context", 200, "--seconds", 1.0, "--device", "cpu")
    assert run("continue", recordings / "r2.wav", "--model", model, "--out", tmp_path / "p", *longer).status == 0


def test_parts_of_other_tokenizers_are_refused(
    run: Run, model: Path, parts: Path, tokenizer_folder: Path, recordings: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tokenizer_folder, other)
    record = json.loads((other / "artifact.json").read_text(encoding="utf-8"))
    (other / "artifact.json").write_text(json.dumps({**record, "digest": "0123"}), encoding="utf-8")
    ended = run(*bundle_options(other, parts, tmp_path / "mixed"))
    assert (ended.status, len(ended.lines)) == (2, 1)
    assert "was trained on units of tokenizer" in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "other"]
    shutil.copy(other / "artifact.json", model / "artifact.json")
    refused(run, "not 0123", recordings / "r0.wav", "--model", model, "--out", tmp_path / "o")


def test_units_outside_the_vocabulary(run: Run, parts: Path, tmp_path: Path) -> None:
    line = {"id": "x", "path": "x", "sample_rate": 16_000, "hop": 320, "num_frames": 10, "unit": [99], "start": [0]}
    units = tmp_path / "bad.jsonl"
    units.write_text(json.dumps({**line, "end": [10]}) + "\n", encoding="utf-8")
    change = f"units.train=['{units}']"
    ended = run("train", "lm", parts / "lm.toml", "--out", tmp_path / "run", "--set", change, "--device", "cpu")
    assert (ended.status, ended.out) == (2, "")
    assert "unit 99 is outside the vocabulary of 12" in ended.lines[-1]
    assert not list((tmp_path / "run").glob("*"))


def test_sampling_options(run: Run, speaking: Path, recordings: Path, tmp_path: Path) -> None:
    def drawn(name: str, *options: object) -> list[int]:
        where = ("--model", speaking, "--out", tmp_path / name, "--seconds", 2.0, "--device", "cpu")
        ended = run("continue", recordings / "r0.wav", *where, *options)
        assert ended.status == 0
        return ended.result["unit"]

    # One likeliest unit, however it is asked for, is the greedy choice.
    assert drawn("a", "--temperature", 0) == drawn("b", "--top-k", 1) == drawn("c", "--top-p", 1e-6)
    assert drawn("d", "--temperature", 5.0) != drawn("e", "--temperature", 5.0, "--seed", 1)
    sounds = [load_audio(tmp_path / name / "r0.wav") for name in ("a", "b")]
    assert np.array_equal(*sounds)
    drawn("f", "--temperature", 0, "--vocoder-temperature", 0)
    assert not np.array_equal(sounds[0], load_audio(tmp_path / "f" / "r0.wav"))
    refused(run, "top_p 0.0: must be above 0", recordings, "--top-p", 0, "--out", tmp_path / "o")
