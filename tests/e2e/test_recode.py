"""`train recode`, `recode` and reference units, up to a language model of them and its scores."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.random_models import noise
from syllablelm.cli.app import main
from syllablelm.core.artifact import open_artifact
from syllablelm.core.errors import FormatError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word, write_alignments
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.data.corpus import scan
from syllablelm.engine import open_corpus, read_units
from syllablelm.formats import open_writer, read_segmentations
from syllablelm.lm.store import TokenStore
from syllablelm.quantize.codec import Codec
from syllablelm.tokenizer.tokenizer import Tokenizer

LM = """
name = "micro_lm"
[units]
tokenizer = "TOKENIZER"
train = ["UNITS"]
[lm]
row_tokens = 64
batch_tokens = 128
[lm.shape]
layers = 1
dim = 16
heads = 2
feed_forward = 32
positions = 64
[lm.loop]
steps = 2
"""
STORIES = ("0_8_incorrect", "1_8_correct", "2_9_correct", "3_9_incorrect")


@pytest.fixture(scope="session")
def units(recordings: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Units of the recordings, and of made-up ones that repeat themselves."""
    path = tmp_path_factory.mktemp("units") / "units.jsonl"
    tokenizer = Tokenizer.load(tokenizer_folder, device="cpu")
    rng = np.random.default_rng(0)
    with open_writer(path) as writer:
        for file in sorted(recordings.glob("*.wav")):
            writer.write(file.stem, file, tokenizer.encode(load_audio(file)))
        for number in range(20):
            row = [unit for pair in rng.integers(0, 6, size=20) for unit in (pair, 11 - pair)]
            edges = np.arange(len(row) + 1) * 4
            writer.write(f"made{number}", "", Segmentation.from_boundaries(edges, unit=np.array(row)))
    return path


@pytest.fixture(scope="session")
def codec(units: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("codecs") / "bpe"
    arguments = ["train", "recode", units, "--kind", "bpe", "--vocab", "18", "--tokenizer", tokenizer_folder]
    assert main([str(argument) for argument in (*arguments, "--out", out)]) == 0
    return out


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stories") / "tSC"
    folder.mkdir()
    for seed, name in enumerate(STORIES):
        save_audio(folder / f"{name}.wav", noise(32_000, seed))
    return folder


def write_lm_recipe(folder: Path, tokenizer: Path, units: Path) -> Path:
    path = folder / "lm.toml"
    text = LM.replace("TOKENIZER", tokenizer.as_posix()).replace("UNITS", units.as_posix())
    path.write_text(text, encoding="utf-8")
    return path


def test_there_and_back(run: Run, units: Path, codec: Path, tmp_path: Path) -> None:
    coarse, fine = tmp_path / "coarse.jsonl", tmp_path / "fine.jsonl"
    ended = run("recode", units, "--codec", codec, "--out", coarse)
    assert ended.status == 0, ended.err
    before, after = ended.result["before"], ended.result["after"]
    originals = {name: one.deduplicate() for name, one in read_segmentations(units).items()}
    assert (before["vocabulary"], after["vocabulary"]) == (12, 18)
    assert before["units"] == sum(map(len, originals.values()))
    assert before["bits_per_second"] == pytest.approx(before["units"] / ended.result["seconds"] * np.log2(12))
    assert after["bits_per_second"] == pytest.approx(after["units"] / ended.result["seconds"] * np.log2(18))
    assert after["units"] < 0.7 * before["units"]
    ended = run("recode", coarse, "--codec", codec, "--out", fine, "--decode")
    assert ended.result["after"] == before
    found = read_segmentations(fine)
    assert {name: one.unit.tolist() for name, one in found.items()} == {
        name: one.unit.tolist() for name, one in originals.items()
    }
    assert [json.loads(line)["path"] for line in coarse.open()] == [json.loads(line)["path"] for line in units.open()]


@pytest.mark.parametrize(("kind", "codes"), [("unigram", 18), ("runs", 12)])
def test_other_kinds(run: Run, units: Path, tmp_path: Path, kind: str, codes: int) -> None:
    size = () if kind == "runs" else ("--vocab", codes)
    made = run("train", "recode", units, "--kind", kind, *size, "--num-units", 12, "--out", tmp_path / "codec")
    assert made.status == 0, made.err
    assert made.result["kind"] == kind and made.result["metrics"]["num_codes"] <= codes
    assert made.result["digest"] == Codec.load(tmp_path / "codec").digest
    # A finished one is not made again.
    again = run("train", "recode", units, "--kind", kind, *size, "--num-units", 12, "--out", tmp_path / "codec")
    assert again.result == made.result and "is finished, skipped" in again.err
    parquet = tmp_path / "units.parquet"
    assert run("convert", units, "--to", "parquet", "--out", parquet).status == 0
    assert run("recode", parquet, "--codec", tmp_path / "codec", "--out", tmp_path / "out.parquet").status == 0
    assert len(read_segmentations(tmp_path / "out.parquet")) == 23
    with pytest.raises(FormatError, match="does not know its tokenizer"):
        Tokenizer.load(tmp_path / "codec", device="cpu")


def test_a_codec_is_a_tokenizer(
    run: Run, recordings: Path, tokenizer_folder: Path, codec: Path, units: Path, tmp_path: Path
) -> None:
    recoded, base = Tokenizer.load(codec, device="cpu"), Tokenizer.load(tokenizer_folder, device="cpu")
    assert recoded.codec is not None
    waves = [load_audio(file) for file in sorted(recordings.glob("*.wav"))]
    expected = [recoded.codec.encode(base.encode(wave)) for wave in waves]
    assert recoded.encode(waves) == expected and recoded.encode(waves[0]) == expected[0]
    blocks = np.array_split(waves[0], 5)
    assert Segmentation.join(recoded.stream(blocks)) == expected[0]
    features = recoded.features([waves[1]])[0]
    assert recoded.segment(features) == expected[1]
    both = recoded.encode_with_features(waves[1])
    assert both[0] == expected[1] and np.array_equal(both[1], features)
    assert (recoded.num_units, recoded.digest) == (18, Codec.load(codec).digest)
    ended = run("tokenize", recordings, "--model", codec, "--device", "cpu")
    assert [record["unit"] for record in ended.records] == [one.unit.tolist() for one in expected]

    recoded.save(tmp_path / "whole")
    moved = Tokenizer.load(tmp_path / "whole", device="cpu")
    assert moved.digest == recoded.digest and moved.encode(waves) == expected

    made = run("train", "recode", units, "--tokenizer", "tiny", "--out", tmp_path / "other")
    assert made.status == 0, made.err
    with pytest.raises(FormatError, match="codec was trained on units of tokenizer"):
        base.with_codec(Codec.load(tmp_path / "other"))


def test_a_corpus_of_codes(run: Run, recordings: Path, codec: Path, tmp_path: Path) -> None:
    manifest, out = tmp_path / "m.jsonl", tmp_path / "corpus"
    scan(recordings)[0].save(manifest)
    ended = run("encode", manifest, "--model", codec, "--device", "cpu", "--out", out)
    assert ended.status == 0, ended.err
    recoded = Tokenizer.load(codec, device="cpu")
    for recording, found in read_units(out):
        assert found == recoded.encode(recording.load()), recording.id
    assert (ended.result["recordings"], open_corpus(out).parents["model"]) == (3, recoded.digest)
    # A codec has no voice.
    for verb in ("resynthesize", "continue"):
        ended = run(verb, recordings / "r0.wav", "--model", codec, "--device", "cpu", "--out", tmp_path / "spoken")
        assert (ended.status, len(ended.lines)) == (2, 1), ended.err
        assert f"error: {codec}: holds no language model" in ended.err
        assert not (tmp_path / "spoken").exists()


def test_a_language_model_of_codes_and_its_scores(
    run: Run, units: Path, codec: Path, tokenizer_folder: Path, stories: Path, tmp_path: Path
) -> None:
    coarse = tmp_path / "coarse.jsonl"
    assert run("recode", units, "--codec", codec, "--out", coarse).status == 0
    recipe = write_lm_recipe(tmp_path, codec, coarse)
    ended = run("train", "lm", recipe, "--out", tmp_path / "run", "--device", "cpu")
    assert ended.status == 0, ended.err
    # Two equal codes that touch are two tokens: joining them would lose units.
    store = TokenStore.open(tmp_path / "run" / "train")
    assert len(store.tokens) == sum(len(one) for one in read_segmentations(coarse).values())
    assert any(np.any(np.diff(one.unit) == 0) for one in read_segmentations(coarse).values())
    assert store.info.tokenizer == Codec.load(codec).digest and store.info.num_tokens == 18

    models = ("--model", codec, "--lm", tmp_path / "run" / "lm", "--device", "cpu", "--resamples", 20)
    ended = run("evaluate", "cloze", stories, "--out", tmp_path / "scores", *models)
    assert ended.status == 0, ended.err
    # The same from files of units.
    fine, recoded = tmp_path / "stories.jsonl", tmp_path / "recoded.jsonl"
    assert run("tokenize", stories, "--model", tokenizer_folder, "--out", fine, "--device", "cpu").status == 0
    assert run("recode", fine, "--codec", codec, "--out", recoded).status == 0
    same = run("evaluate", "cloze", stories, "--out", tmp_path / "again", *models, "--units", recoded)
    assert same.result["rows"] == ended.result["rows"]
    for suite, more in (("lexical", {}), ("syntactic", {"type": "t", "subtype": "t_1", "transcription": "a"})):
        write_suite(tmp_path / "zr" / suite / "dev", more)
        ended = run("evaluate", suite, tmp_path / "zr", "--out", tmp_path / "scores", *models)
        assert ended.status == 0, ended.err
    wrong = ("--model", tokenizer_folder, *models[2:])
    ended = run("evaluate", "cloze", stories, "--out", tmp_path / "wrong", *wrong)
    assert ended.status == 2 and "was trained on units of tokenizer" in ended.err


def write_suite(folder: Path, more: dict[str, str]) -> None:
    """Two recordings, one of them right."""
    folder.mkdir(parents=True)
    common: dict[str, Any] = {"id": 1, "voice": "A", "frequency": 3, "word": "w", "phones": "w", "length": 1} | more
    with (folder / "gold.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*common, "filename", "correct"])
        writer.writeheader()
        for correct in (0, 1):
            writer.writerow(common | {"filename": f"s{correct}", "correct": correct})
            save_audio(folder / f"s{correct}.wav", noise(16_000, correct))


def write_stories(path: Path) -> Path:
    found = []
    for seed, name in enumerate(STORIES):
        rng = np.random.default_rng(seed)
        words = []
        for number in range(8):
            start = number * 0.25
            vowel = str(rng.choice(["AA", "IY", "UW"]))
            phones = (Interval("B", start, start + 0.06), Interval(vowel, start + 0.06, start + 0.2))
            words.append(Word(f"b{vowel.lower()}", start, start + 0.2, phones))
        found.append(Alignment(name, 2.0, tuple(words)))
    write_alignments(found, path)
    return path


@pytest.mark.parametrize(
    ("tier", "fit"),
    [
        ("phone", 0),
        pytest.param("syllable", 0, marks=pytest.mark.slow),
        pytest.param("word", 3, marks=pytest.mark.slow),
        pytest.param("text", 12, marks=pytest.mark.slow),
    ],
)
def test_toplines(run: Run, alignments: Path, stories: Path, tmp_path: Path, tier: str, fit: int) -> None:
    train, dev, vocabulary = tmp_path / "train.jsonl", tmp_path / "dev.jsonl", tmp_path / "vocabulary"
    common = ("--from", "alignments", "--tier", tier, "--vocabulary", vocabulary, "--to", "jsonl")
    made = run("convert", alignments, *common, "--fit", fit, "--hop", 160, "--out", train)
    assert made.status == 0, made.err
    assert made.result["grids"] == [[160, 16_000]] and (made.result["unseen"] > 0) == (tier == "word")
    told = run("convert", write_stories(tmp_path / "stories.jsonl"), *common, "--out", dev)
    assert told.status == 0, told.err
    assert told.result["vocabulary"] == made.result["vocabulary"]
    recipe = write_lm_recipe(tmp_path, vocabulary, train)
    ended = run("train", "lm", recipe, "--out", tmp_path / "run", "--device", "cpu")
    assert ended.status == 0, ended.err
    tokens = json.loads((tmp_path / "run" / "lm" / "tokens.json").read_text())
    assert tokens["num_tokens"] == made.result["vocabulary"]
    assert tokens["tokenizer"] == open_artifact(vocabulary).digest
    models = ("--lm", tmp_path / "run" / "lm", "--device", "cpu", "--resamples", 20)
    ended = run("evaluate", "cloze", stories, "--out", tmp_path / "scores", *models, "--units", dev)
    assert ended.status == 0, ended.err
    assert ended.result["rows"][0]["pairs"] == 2


def test_codes_of_reference_units(run: Run, alignments: Path, tmp_path: Path) -> None:
    vocabulary, phones = tmp_path / "vocabulary", tmp_path / "phones.jsonl"
    made = run("convert", alignments, "--from", "alignments", "--tier", "phone", "--fit", 0, "--vocabulary", vocabulary,
               "--to", "jsonl", "--out", phones)  # fmt: skip
    assert made.status == 0, made.err
    codec, out = tmp_path / "codec", tmp_path / "out.jsonl"
    made = run("train", "recode", phones, "--tokenizer", vocabulary, "--vocab", 8, "--keep-repeats", "--out", codec)
    assert made.status == 0, made.err
    ended = run("recode", phones, "--codec", codec, "--out", out)
    assert ended.result["after"]["units"] < ended.result["before"]["units"]


def test_refusals(run: Run, units: Path, codec: Path, alignments: Path, tmp_path: Path) -> None:
    def refused(words: str, *arguments: object) -> None:
        ended = run(*arguments)
        assert (ended.status, ended.out) == (2, ""), ended.out
        assert words in ended.lines[-1], ended.err

    new = ("--out", tmp_path / "new")
    refused("either --tokenizer NAME, or --num-units N", "train", "recode", units, *new)
    refused("leave --vocab", "train", "recode", units, "--kind", "runs", "--vocab", 9, "--num-units", 12, *new)
    refused("is outside the 5 units", "train", "recode", units, "--num-units", 5, "--vocab", 9, *new)
    refused("does not hold the 12 single units", "train", "recode", units, "--num-units", 12, "--vocab", 9, *new)
    refused("choose another --out", "train", "recode", units, "--num-units", 12, "--out", codec)
    refused("no such file", "train", "recode", tmp_path / "none.jsonl", "--num-units", 12, *new)
    refused("is an input of this run", "recode", units, "--codec", codec, "--out", units)
    other = tmp_path / "other.jsonl"
    with open_writer(other) as writer:
        writer.write("good", "", Segmentation.from_boundaries([0, 4], unit=[1]))
        writer.write("bad", "", Segmentation.from_boundaries([0, 4], unit=[50]))
    refused("other.jsonl:2: unit 50 is outside", "recode", other, "--codec", codec, "--out", tmp_path / "out.jsonl")
    assert not (tmp_path / "new").exists() and not (tmp_path / "out.jsonl").exists()
    align = ("convert", alignments, "--from", "alignments", "--to", "jsonl", *new)
    refused("--tier phone|syllable|word|text and --vocabulary", *align)
    refused("no artifact.json", *align, "--tier", "phone", "--vocabulary", tmp_path / "none")
    refused("where a vocabulary artifact is needed", *align, "--tier", "phone", "--vocabulary", codec)
    refused("are for --from alignments", "convert", units, "--to", "jsonl", "--tier", "phone", *new)
    refused("cannot become alignments", "convert", units, "--to", "alignments", *new)


@pytest.mark.slow
def test_units_of_other_segmenters(run: Run, recordings: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "rival"
    script = Path(__file__).resolve().parents[2] / "examples" / "rival_units.py"
    options = ["--segmenter", "similarity-merge", "--encoder", tokenizer_folder, "--layer", "2", "--units", "3"]
    command = [sys.executable, script, f"train={recordings}", *options, "--out", out, "--device", "cpu"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = read_segmentations(out / "train.jsonl")
    assert sorted(found) == ["r0", "r1", "r2"] and all(one.unit.max() < 3 for one in found.values())
    made = run("train", "recode", out / "train.jsonl", "--kind", "runs", "--num-units", 3, "--out", tmp_path / "codec")
    assert made.status == 0, made.err
    recipe = write_lm_recipe(tmp_path, tmp_path / "codec", out / "train.jsonl")
    ended = run("train", "lm", recipe, "--out", tmp_path / "run", "--device", "cpu")
    assert ended.status == 0, ended.err
