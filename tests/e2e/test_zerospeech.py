"""`evaluate lexical`, `syntactic` and `cloze` on made-up benchmarks of noise, with random models."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import Run
from helpers.pair_benchmark import make_benchmark, make_lm, write_gold
from helpers.random_models import noise
from syllablelm.core.artifact import open_artifact
from syllablelm.data.audio import load_audio, save_audio
from syllablelm.evaluate.lm.cloze import ClozeResult, evaluate_cloze
from syllablelm.evaluate.lm.salmon import SalmonResult
from syllablelm.evaluate.lm.scorer import score_stems, trim_silence
from syllablelm.evaluate.lm.suites import LexicalResult, SyntacticResult
from syllablelm.evaluate.lm.zerospeech import read_submission, write_submission
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def lm_folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lm(tmp_path_factory.mktemp("models") / "lm", open_artifact(tokenizer_folder).digest)


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_benchmark(tmp_path_factory.mktemp("benchmark"))


@pytest.fixture
def evaluate(run: Run, tokenizer_folder: Path, lm_folder: Path):
    def call(suite: str, folder: Path, out: Path, *more: object):
        models = ("--model", tokenizer_folder, "--lm", lm_folder, "--device", "cpu", "--resamples", "20")
        return run("evaluate", suite, folder, "--out", out, *models, *more)

    return call


def test_words(evaluate, benchmark_folder: Path, tokenizer_folder: Path, lm_folder: Path, tmp_path: Path, monkeypatch):
    ended = evaluate("lexical", benchmark_folder, tmp_path / "out")
    assert ended.status == 0, ended.err
    submission = tmp_path / "out" / "lexical" / "dev.txt"
    scores = read_submission(submission)
    files = sorted((benchmark_folder / "lexical" / "dev").glob("*.wav"))
    assert [line.split(" ")[0] for line in submission.read_text().splitlines()] == [file.stem for file in files]
    tokenizer, lm = Tokenizer.load(tokenizer_folder, device="cpu"), SpeechLM.load(lm_folder, device="cpu")
    alone = [lm.score(tokenizer.encode(np.pad(load_audio(file), 4800))) for file in files]
    assert list(scores.values()) == pytest.approx(alone, abs=1e-4)
    assert len(set(scores.values())) > 1
    assert sorted(path.name for path in submission.parent.iterdir()) == ["dev.json", "dev.txt"]

    rows = {(row["group"], row["name"]): row["accuracy"] for row in ended.result["rows"]}
    one, two, three = (
        (scores[f"x{k}b"] > scores[f"x{k}a"]) + (scores[f"x{k}b"] == scores[f"x{k}a"]) / 2 for k in range(3)
    )
    assert rows["all", "pairs"] == pytest.approx(((one + two) / 2 + three) / 2)
    assert rows["vocabulary", "oov"] == rows["frequency", "oov"] == (one + two) / 2
    assert rows["vocabulary", "in"] == rows["frequency", "6-20"] == three
    assert ended.result["protocol"]["ties"] == "half"
    assert ended.result["data"] == {"name": str(benchmark_folder / "lexical" / "dev"), "set": None, "recordings": 6}
    # Of one layer of 16 with 32 inside: attention, feed-forward, two norms and the last one.
    params = 4 * (16 * 16 + 16) + 2 * 16 * 32 + 32 + 16 + 3 * 2 * 16
    assert ended.result["lm_info"] == {"params": params, "num_units": 12, "unique_tokens": None}

    result = LexicalResult.from_dict(ended.result)
    assert result.to_dict() == ended.result and result.submission == str(submission)
    # A finished run does none of the work again.
    monkeypatch.setattr(Tokenizer, "encode", None)
    again = evaluate("lexical", benchmark_folder / "lexical", tmp_path / "out")
    assert again.result["rows"] == ended.result["rows"]
    assert again.lines == [f"{submission}: scored before"]
    table = evaluate("lexical", benchmark_folder / "lexical" / "dev", tmp_path / "out", "--format", "markdown")
    assert "mean log-probability per unit" in table.out and "| frequency" in table.out


def test_scores_are_of_the_sound_and_not_of_its_length(evaluate, benchmark_folder: Path, tmp_path: Path):
    folder = shutil.copytree(benchmark_folder / "tSC", tmp_path / "tSC")
    right, wrong = (folder / f"{name}.wav" for name in ("1_8_correct", "0_8_incorrect"))
    save_audio(right, noise(16_000, 50))
    save_audio(wrong, noise(16_000, 51))
    assert evaluate("cloze", folder, tmp_path / "equal").status == 0
    # Two recordings of one length change places: names and sizes stay, the scores must not.
    one, other = right.read_bytes(), wrong.read_bytes()
    assert len(one) == len(other)
    right.write_bytes(other)
    wrong.write_bytes(one)
    refused = evaluate("cloze", folder, tmp_path / "equal")
    assert (refused.status, refused.out) == (2, "")
    assert "another model or other recordings; choose another --out" in refused.err
    assert evaluate("cloze", folder, tmp_path / "swapped").status == 0
    old, new = (read_submission(tmp_path / out / "cloze" / "tSC.txt") for out in ("equal", "swapped"))
    assert (new[right.stem], new[wrong.stem]) == pytest.approx((old[wrong.stem], old[right.stem]), abs=1e-5)


def test_a_killed_run_resumes(evaluate, benchmark_folder: Path, tmp_path: Path, monkeypatch):
    whole = evaluate("lexical", benchmark_folder, tmp_path / "whole").result["rows"]
    monkeypatch.setitem(score_stems.__kwdefaults__, "chunk", 2)
    encode, seen = Tokenizer.encode, []

    def stop_after_two(self, audio):
        seen.append(len(audio))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return encode(self, audio)

    monkeypatch.setattr(Tokenizer, "encode", stop_after_two)
    ended = evaluate("lexical", benchmark_folder, tmp_path / "out")
    assert (ended.status, ended.out) == (130, "")
    assert not (tmp_path / "out" / "lexical" / "dev.txt").exists()
    ended = evaluate("lexical", benchmark_folder, tmp_path / "out")
    assert seen == [2, 2, 2, 2], "what was finished is not encoded again"
    assert [row["accuracy"] for row in ended.result["rows"]] == [row["accuracy"] for row in whole]
    assert [path.name for path in (tmp_path / "out" / "lexical").iterdir() if path.is_dir()] == []


def test_sentences_from_units(run: Run, evaluate, benchmark_folder: Path, tokenizer_folder: Path, tmp_path: Path):
    units = tmp_path / "units.jsonl"
    # From the root, so that ids are paths.
    assert run("tokenize", benchmark_folder, "--model", tokenizer_folder, "--out", units).status == 0
    from_audio = evaluate("syntactic", benchmark_folder, tmp_path / "a")
    from_units = evaluate("syntactic", benchmark_folder, tmp_path / "b", "--units", units)
    assert from_audio.status == 0, from_audio.err
    assert from_units.result["rows"] == from_audio.result["rows"]
    assert SyntacticResult.from_dict(from_units.result).to_dict() == from_units.result
    groups = [row["group"] for row in from_audio.result["rows"]]
    assert groups == ["all", "macro", "phenomenon", "phenomenon", "subtype", "subtype"]

    refused = evaluate("syntactic", benchmark_folder, tmp_path / "a", "--units", units)
    assert (refused.status, refused.out) == (2, "")
    assert "another model or other recordings; choose another --out" in refused.err
    lines = [line for line in units.read_text().splitlines() if "y0" not in line]
    units.write_text("\n".join(lines) + "\n")
    refused = evaluate("syntactic", benchmark_folder, tmp_path / "c", "--units", units)
    assert refused.status == 2 and "missing: y00 (2 of 4 needed" in refused.err


def test_stories(
    evaluate, benchmark_folder: Path, tokenizer_folder: Path, lm_folder: Path, tmp_path: Path, monkeypatch
):
    ended = evaluate("cloze", benchmark_folder / "tSC", tmp_path)
    assert ended.status == 0, ended.err
    models = {"model": tokenizer_folder, "lm": lm_folder, "device": "cpu"}
    result = evaluate_cloze(benchmark_folder / "tSC", tmp_path / "library", resamples=20, **models)
    assert result == ClozeResult.from_dict(ended.result), "one call does what the verb does"
    scores = read_submission(tmp_path / "cloze" / "tSC.txt")
    pairs = [("1_8_correct", "0_8_incorrect"), ("2_9_correct", "3_9_incorrect")]
    points = [(scores[r] > scores[w]) + (scores[r] == scores[w]) / 2 for r, w in pairs]
    (row,) = ended.result["rows"]
    assert (row["pairs"], row["accuracy"]) == (2, sum(points) / 2)

    monkeypatch.setattr(SpeechLM, "log_probs", lambda self, items: [np.full(len(item), -1.0) for item in items])
    for ties, accuracy in (("half", 0.5), ("wrong", 0.0)):
        ended = evaluate("cloze", benchmark_folder / "tSC", tmp_path / "flat", "--ties", ties)
        assert ended.status == 0, ended.err
        assert ended.result["rows"][0]["accuracy"] == accuracy
        assert ended.result["protocol"]["ties"] == ties


def test_salmon(run: Run, evaluate, tokenizer_folder: Path, lm_folder: Path, tmp_path: Path) -> None:
    """Made-up recordings in the benchmark's layout: both of a pair begin alike, and go on otherwise."""
    folder = tmp_path / "salmon_benchmark"
    for number, part in enumerate(("rir_consistency", "speaker_consistency")):
        (folder / part).mkdir(parents=True)
        for pair in range(2):
            same = noise(16_000, 10 * number + pair)
            for option in range(2):
                rest = noise(16_000 + 800 * option, 100 + 10 * number + 2 * pair + option)
                save_audio(folder / part / f"sample_{pair}_{option}.wav", np.concatenate([same, rest]))
    ended = evaluate("salmon", folder, tmp_path / "a")
    assert ended.status == 0, ended.err
    assert ended.result["evaluation"] == "salmon" and ended.result["data"]["recordings"] == 8
    assert [(row["group"], row["name"], row["pairs"]) for row in ended.result["rows"]] == [
        ("part", "rir_consistency", 2),
        ("part", "speaker_consistency", 2),
    ]
    assert SalmonResult.from_dict(ended.result).to_dict() == ended.result
    # The submission file and its neighbour decide: the verb prints no other accuracies.
    tokenizer, lm = Tokenizer.load(tokenizer_folder, device="cpu"), SpeechLM.load(lm_folder, device="cpu")
    more = json.loads((tmp_path / "a" / "salmon" / "salmon_benchmark.json").read_text())["scores"]
    for row in ended.result["rows"]:
        stems = [(f"{row['name']}/sample_{pair}_0", f"{row['name']}/sample_{pair}_1") for pair in range(2)]
        units = {stem: tokenizer.encode(load_audio(folder / f"{stem}.wav")) for pair in stems for stem in pair}
        for name, reduce in (("accuracy", "mean"), ("summed", "sum")):
            scores = {stem: lm.score(one, reduce) for stem, one in units.items()}
            points = [(scores[r] > scores[w]) + (scores[r] == scores[w]) / 2 for r, w in stems]
            assert row[name] == sum(points) / 2
        assert more["summed"] == pytest.approx(more["summed"] | {s: lm.score(u, "sum") for s, u in units.items()})
    listing = tmp_path / "units.jsonl"
    assert run("tokenize", folder, "--model", tokenizer_folder, "--out", listing).status == 0
    again = evaluate("salmon", folder, tmp_path / "b", "--units", listing)
    assert again.result["rows"] == ended.result["rows"]
    table = evaluate("salmon", folder, tmp_path / "b", "--units", listing, "--format", "text")
    assert "normalised" in table.out.splitlines()[2] and "sum" in table.out.splitlines()[2]
    refused = evaluate("salmon", tmp_path, tmp_path / "c")
    assert refused.status == 2 and "no part of SALMon" in refused.err


def test_words_are_encoded_between_silence(
    run: Run, evaluate, benchmark_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    ended = evaluate("lexical", benchmark_folder, tmp_path / "a")
    assert ended.result["protocol"]["recordings"] == "encoded between 0.3 s of silence"
    padded = shutil.copytree(benchmark_folder, tmp_path / "padded")
    for file in (padded / "lexical" / "dev").glob("*.wav"):
        save_audio(file, np.pad(load_audio(file), 4800))
    same = evaluate("lexical", padded, tmp_path / "b", "--silence", "0")
    assert "recordings" not in same.result["protocol"]
    one, other = (read_submission(tmp_path / out / "lexical" / "dev.txt") for out in "ab")
    assert other == pytest.approx(one, abs=1e-4)
    plain = evaluate("syntactic", benchmark_folder, tmp_path / "c")
    assert "recordings" not in plain.result["protocol"]
    # Units are what they are.
    units = tmp_path / "units.jsonl"
    assert run("tokenize", benchmark_folder / "lexical", "--model", tokenizer_folder, "--out", units).status == 0
    of_units = evaluate("lexical", benchmark_folder, tmp_path / "d", "--units", units)
    assert "recordings" not in of_units.result["protocol"]
    refused = evaluate("lexical", benchmark_folder, tmp_path / "e", "--silence", "-1")
    assert refused.status == 2 and "silence -1: must be 0 to 5 seconds" in refused.err


def test_silence_at_the_ends_is_left_out(run: Run, evaluate, tokenizer_folder: Path, tmp_path: Path) -> None:
    loud, silent = noise(16_000, 1), np.zeros(16_000, dtype=np.float32)
    wave = np.concatenate([silent, loud, silent])
    whole = Tokenizer.load(tokenizer_folder, device="cpu").encode(wave)
    kept = trim_silence(whole, wave, "energy")
    inside = [k for k, (start, end) in enumerate(whole.seconds) if end > 0.9 and start < 2.1]
    assert 0 < len(kept) < len(whole)
    assert set(kept.start.tolist()) <= set(whole.start[inside].tolist())
    heard = [k for k, (start, end) in enumerate(whole.seconds) if start >= 1 and end <= 2]
    assert set(whole.start[heard].tolist()) <= set(kept.start.tolist())
    assert (kept.num_frames, trim_silence(whole, wave, "none")) == (whole.num_frames, whole)
    # Nothing is left out where nothing is heard, or all is.
    assert trim_silence(whole, np.zeros_like(wave), "energy") == whole
    full = Tokenizer.load(tokenizer_folder, device="cpu").encode(loud)
    assert trim_silence(full, loud, "energy") == full

    folder = make_benchmark(tmp_path / "benchmark")
    for file in (folder / "tSC").glob("*.wav"):
        save_audio(file, np.concatenate([silent, load_audio(file)]))
    units = tmp_path / "units.jsonl"
    assert run("tokenize", folder / "tSC", "--model", tokenizer_folder, "--out", units).status == 0
    ended = evaluate("cloze", folder / "tSC", tmp_path / "a", "--trim", "energy")
    assert ended.status == 0, ended.err
    assert "(energy)" in ended.result["protocol"]["silence at the ends"]
    same = evaluate("cloze", folder / "tSC", tmp_path / "b", "--trim", "energy", "--units", units)
    trimmed = read_submission(tmp_path / "a" / "cloze" / "tSC.txt")
    assert same.status == 0 and read_submission(tmp_path / "b" / "cloze" / "tSC.txt") == pytest.approx(trimmed)
    plain = evaluate("cloze", folder / "tSC", tmp_path / "c")
    assert plain.result["protocol"]["silence at the ends"] == "kept"
    assert any(trimmed[stem] != score for stem, score in read_submission(tmp_path / "c" / "cloze" / "tSC.txt").items())
    refused = evaluate("cloze", folder / "tSC", tmp_path / "a")
    assert refused.status == 2 and "choose another --out" in refused.err

    # Units alone have no silence to find.
    lexical = tmp_path / "lexical.jsonl"
    assert run("tokenize", folder / "lexical", "--model", tokenizer_folder, "--out", lexical).status == 0
    for file in (folder / "lexical" / "dev").glob("x0*.wav"):
        file.unlink()
    assert evaluate("lexical", folder, tmp_path / "d", "--units", lexical).status == 0
    refused = evaluate("lexical", folder, tmp_path / "e", "--units", lexical, "--trim", "energy")
    assert (refused.status, refused.out) == (2, "")
    assert "without the recording of x0a (2 of 6)" in refused.lines[-1] and "--trim none" in refused.lines[-1]
    save_audio(folder / "lexical" / "dev" / "x0a.wav", noise(40_000))
    save_audio(folder / "lexical" / "dev" / "x0b.wav", noise(40_000))
    refused = evaluate("lexical", folder, tmp_path / "e", "--units", lexical, "--trim", "energy")
    assert refused.status == 2 and "its recording 2.50 s" in refused.lines[-1]
    refused = evaluate("lexical", folder, tmp_path / "e", "--trim", "loud")
    assert refused.status == 2 and "unknown voice activity method" in refused.lines[-1]


def test_a_split_without_answers_is_submitted(evaluate, benchmark_folder: Path, tmp_path: Path):
    shutil.copytree(benchmark_folder / "lexical" / "dev", tmp_path / "lexical" / "test")
    (tmp_path / "lexical" / "test" / "gold.csv").unlink()
    ended = evaluate("lexical", tmp_path, tmp_path / "out", "--split", "test")
    assert (ended.status, ended.result["rows"]) == (0, None)
    assert LexicalResult.from_dict(ended.result).to_dict() == ended.result
    assert len(read_submission(tmp_path / "out" / "lexical" / "test.txt")) == 6


def lose(folder: Path) -> None:
    (folder / "x0a.wav").unlink()
    (folder / "x1a.wav").unlink()


def add(folder: Path) -> None:
    save_audio(folder / "zz.wav", noise(16_000))


def clear(folder: Path) -> None:
    for file in folder.glob("*.wav"):
        file.unlink()


def break_one(folder: Path) -> None:
    (folder / "x1a.wav").write_bytes(b"no audio")


def resample_one(folder: Path) -> None:
    save_audio(folder / "x2a.wav", noise(8000), sample_rate=8000)


def shorten(folder: Path) -> None:
    save_audio(folder / "x0a.wav", noise(100))


def forget_gold(folder: Path) -> None:
    (folder / "gold.csv").unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lose, "in the gold list without a recording: x0a (2 of 6 in the list)"),
        (add, "not in the gold list: zz (1 of 7 recordings)"),
        (clear, "no .wav or .flac recordings"),
        (break_one, "(1 of 6 recordings cannot be used; no result)"),
        (resample_one, "x2a.wav: 8000 Hz where most recordings have 16000 Hz (1 of 6 differ"),
        (shorten, "x0a: has no units (1 of 6 recordings cannot be scored"),
        (forget_gold, "no lexical/dev/gold.csv in it"),
    ],
)
def test_folders_that_are_almost_right_are_refused(evaluate, benchmark_folder: Path, tmp_path: Path, change, words):
    shutil.copytree(benchmark_folder / "lexical", tmp_path / "lexical")
    change(tmp_path / "lexical" / "dev")
    ended = evaluate("lexical", tmp_path, tmp_path / "out")
    assert (ended.status, ended.out) == (2, ""), ended.err
    assert words in ended.lines[-1]
    assert not (tmp_path / "out" / "lexical" / "dev.txt").exists()


def test_suffixes_of_the_gold_list_and_upper_case_ones(evaluate, benchmark_folder: Path, tmp_path: Path):
    plain = evaluate("lexical", benchmark_folder, tmp_path / "plain").result["rows"]
    folder = tmp_path / "lexical" / "dev"
    shutil.copytree(benchmark_folder / "lexical" / "dev", folder)
    for file in list(folder.glob("*.wav")):
        file.rename(file.with_suffix(".WAV"))
    with (folder / "gold.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    write_gold(folder, [{**row, "filename": f"{row['filename']}.wav"} for row in rows])
    ended = evaluate("lexical", tmp_path, tmp_path / "out")
    assert ended.status == 0, ended.err
    assert ended.result["rows"] == plain


def test_more_refusals(evaluate, run: Run, benchmark_folder: Path, tokenizer_folder: Path, tmp_path: Path):
    ended = evaluate("lexical", benchmark_folder, tmp_path / "out", "--split", "../dev")
    assert ended.status == 2 and "the name of a folder" in ended.err
    ended = evaluate("syntactic", benchmark_folder / "lexical", tmp_path / "out")
    assert ended.status == 2 and "no column 'type'" in ended.err
    ended = evaluate("cloze", benchmark_folder / "lexical" / "dev", tmp_path / "out")
    assert ended.status == 2 and "neither _correct nor _incorrect: x0a (6 in all)" in ended.err
    other = make_lm(tmp_path / "lm", "another")
    ended = run("evaluate", "lexical", benchmark_folder, "--out", tmp_path, "--model", tokenizer_folder, "--lm", other)
    assert ended.status == 2 and "trained on units of tokenizer another" in ended.err


def test_submission_files(tmp_path: Path):
    scores = {"b": -1.5, "a": 0.1 + 0.2, "two words": -2e-17}
    write_submission(tmp_path / "dev.txt", scores)
    assert read_submission(tmp_path / "dev.txt") == scores
    assert (tmp_path / "dev.txt").read_text().startswith("a 0.30000000000000004\nb -1.5\n")
