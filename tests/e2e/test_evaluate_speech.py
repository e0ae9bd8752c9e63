"""``evaluate continuation``, ``resynthesis`` and ``quality`` from the command line, with a made-up recogniser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command_line import Ended, Run
from helpers.random_recognizers import write_text_lm, write_xvector
from syllablelm.data.audio import load_audio
from syllablelm.evaluate.speech import recognizers
from syllablelm.evaluate.speech.continuation import ContinuationResult
from syllablelm.evaluate.speech.quality import QualityResult
from syllablelm.evaluate.speech.resynthesis import ResynthesisResult
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.tokenizer.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "far", "from", "home"]
SENTENCES = ["the cat sat on the mat", "the cat ran", "a dog and the cat sat", "the dog ran home", "far from a cat"]
IDS = ("r0", "r1", "r2")


class Fake:
    """Transcribes by a function, and stops the run after a number of recordings."""

    name, settings = "fake", "none"

    def __init__(self, words_of: Callable[[np.ndarray], str], stop_after: int | None = None) -> None:
        self.words_of, self.stop_after, self.heard = words_of, stop_after, 0

    def transcribe(self, waveform: np.ndarray) -> str:
        if self.heard == self.stop_after:
            raise KeyboardInterrupt
        self.heard += 1
        return self.words_of(waveform)


def by_sound(waveform: np.ndarray) -> str:
    """Words that depend on every sample, and on nothing else."""
    parts = np.array_split(waveform.astype(np.float64), 8)
    return " ".join(WORDS[int(1e6 * np.abs(part).sum()) % len(WORDS)] for part in parts)


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fake], Fake]:
    def use(fake: Fake) -> Fake:
        monkeypatch.setattr(recognizers, "load_recognizer", lambda name, device: fake)
        return fake

    return use


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(SENTENCES * 3) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def causal_text_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_lm(tmp_path_factory.mktemp("gpt2"), WORDS)


def write_manifest(path: Path, recordings: Path, texts: tuple[str | None, ...]) -> Path:
    lengths = (32_000, 24_000, 48_000)
    rows: list[dict[str, Any]] = [
        {"id": id, "path": str(recordings / f"{id}.wav"), "num_samples": length, "sample_rate": 16_000, "text": said}
        for id, length, said in zip(IDS, lengths, texts, strict=True)
    ]
    lines = [json.dumps({key: value for key, value in row.items() if value is not None}) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def manifest(recordings: Path, tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "m.jsonl", recordings, ("the cat sat", "the cat the cat ran", "a cat the cat"))


@pytest.fixture
def continuation(run: Run, speaking: Path, text: Path) -> Callable[..., Ended]:
    def call(audio: Path, out: Path, *flags: str, **options: Any) -> Ended:
        given = {"model": speaking, "prompts": 3, "prompt-seconds": 1, "seconds": 1, "device": "cpu", "text": text}
        given |= {"temperatures": "0.5,2", "steps": 1, "resamples": 20} | options
        pairs = [part for name, value in given.items() if value is not None for part in (f"--{name}", value)]
        return run("evaluate", "continuation", audio, "--out", out, *flags, *pairs)

    return call


def test_the_whole_of_it(continuation, manifest, listen, tmp_path: Path) -> None:
    # The hotter, the more varied; the real texts lie between.
    said = [
        *["the cat the cat the cat"] * 3,
        *["mat far dog", "on from and", "a home ran"],
        *["the cat sat the cat"] * 3,
    ]
    fake = listen(Fake(lambda waveform: said[fake.heard - 1]))
    ended = continuation(manifest, tmp_path / "o")
    assert ended.status == 0, ended.err
    result = ended.result
    assert ContinuationResult.from_dict(result).to_dict() == result
    assert list(result)[:3] == ["evaluation", "model", "data"]
    assert result["data"] | {"recordings": 3, "unusable": 0, "prompts": 3, "seconds": 3.0} == result["data"]
    assert result["oracle"]["source"] == "text of the recordings"
    assert (result["recognizer"], result["recognizer_settings"]) == ("pocketsphinx", "none")
    assert result["prompt_level"]["samples"] == 3 * 16_000 and result["prompt_level"]["dbfs"] < 0
    assert result["text_lm"]["sentences_left_out"] == 0
    rows = result["temperatures"]
    assert [row["temperature"] for row in rows] == [0.5, 1.25, 2.0]
    assert [row["texts"] for row in rows] == [3, 3, 3]
    for row in rows:
        assert row["speech"]["samples"] == 3 * 16_000 and row["speech"]["clipped_share"] < 0.01
    assert rows[0]["vert"] > result["oracle"]["vert"] > rows[2]["vert"] == 0
    score = result["ppx_at_oracle_vert"]
    assert score["status"] == "found" and 0.5 < score["temperature"] < 2
    assert min(row["ppx_mean"] for row in rows) <= score["value"] <= max(row["ppx_mean"] for row in rows)
    for units in (*(row["units"] for row in rows), result["real_units"]):
        assert units["counts"]["sequences"] == 3
        assert 0 < units["distinct"]["distinct_1"] <= 1


def test_a_stopped_run_is_taken_up(continuation, manifest, listen, tmp_path: Path) -> None:
    whole = listen(Fake(by_sound))
    expected = continuation(manifest, tmp_path / "whole")
    assert expected.status == 0, expected.err
    listen(Fake(by_sound, stop_after=4))
    stopped = continuation(manifest, tmp_path / "o")
    assert (stopped.status, stopped.out) == (130, "")
    rest = listen(Fake(by_sound))
    assert continuation(manifest, tmp_path / "o").result == expected.result
    # The first temperature was whole, the second was not.
    assert rest.heard == whole.heard - 3
    nothing = listen(Fake(by_sound, stop_after=0))
    assert continuation(manifest, tmp_path / "o").result == expected.result
    assert nothing.heard == 0


def test_real_texts_that_no_temperature_reaches(continuation, recordings, listen, tmp_path: Path) -> None:
    same = write_manifest(tmp_path / "same.jsonl", recordings, ("the the the the",) * 3)
    listen(Fake(by_sound))
    result = continuation(same, tmp_path / "o").result
    score = result["ppx_at_oracle_vert"]
    assert score["status"] == "oracle above the reachable range"
    assert score["value"] is score["two_sigma"] is score["temperature"] is None
    assert result["oracle"]["vert"] > max(row["vert"] for row in result["temperatures"])


def test_without_texts_the_recordings_are_heard(continuation, recordings, listen, tmp_path: Path) -> None:
    some = write_manifest(tmp_path / "some.jsonl", recordings, ("the cat", None, "the dog"))
    fake = listen(Fake(lambda waveform: "" if len(waveform) == 24_000 else by_sound(waveform)))
    result = continuation(some, tmp_path / "o", temperatures="1").result
    assert result["oracle"]["source"] == "recognised from the recordings"
    assert (result["oracle"]["texts"], result["oracle"]["empty_texts"]) == (3, 1)
    assert fake.heard == 6


def test_slamkits_protocol(continuation, manifest, listen, causal_text_lm: Path, tmp_path: Path) -> None:
    fake = listen(Fake(lambda waveform: "The cat sat. The cat sat." if len(waveform) > 40_000 else ""))
    options = {"text": None, "text-lm": causal_text_lm, "protocol": "slamkit", "temperatures": None, "seconds": None}
    ended = continuation(manifest, tmp_path / "o", **options)
    assert ended.status == 0, ended.err
    result = ended.result
    assert ContinuationResult.from_dict(result).to_dict() == result
    assert (result["protocol"]["name"], result["continuation_seconds"], fake.heard) == ("slamkit", None, 3)
    (row,) = result["temperatures"]
    assert (row["temperature"], row["units"]["counts"]["units"]) == (0.8, 3 * 150)
    # 150 units and the prompt were heard, the text as it was written.
    assert row["genppl"]["texts"] == 3 and row["genppl"]["empty_texts"] == 0 and row["genppl"]["genppl"] > 1
    assert row["genppl"]["auto_bleu_2"] == pytest.approx(2 / 6)
    assert row["speech"]["samples"] > 3 * 40_000
    assert "oracle" not in result
    timed = continuation(manifest, tmp_path / "o", **options | {"seconds": 1, "temperatures": "0.5,1"}).result
    assert [row["temperature"] for row in timed["temperatures"]] == [0.5, 1.0]
    assert timed["temperatures"][0]["speech"]["samples"] < 3 * 40_000 and timed["continuation_seconds"] == 1
    assert timed["temperatures"][0]["genppl"]["genppl"] is None and timed["real_units"] is not None


def test_texts_in_english(continuation, manifest, listen, tmp_path: Path) -> None:
    fake = listen(Fake(lambda waveform: "I'm ninety-nine."))
    first = continuation(manifest, tmp_path / "o", temperatures="1").result
    # Kept as they were heard: another rule needs no recogniser.
    other = continuation(manifest, tmp_path / "o", temperatures="1", normalization="english").result
    assert fake.heard == 3
    assert (first["temperatures"][0]["tokens"], other["temperatures"][0]["tokens"]) == (9, 9)
    assert "digits and apostrophes" in first["protocol"]["normalization"]
    assert "numbers as digits" in other["protocol"]["normalization"]


def test_units_need_no_recogniser(continuation, manifest, tmp_path: Path) -> None:
    options = {"text": None, "recognizer": "nowhere/at-all"}
    ended = continuation(manifest, tmp_path / "o", "--units-only", **options)
    assert ended.status == 0, ended.err
    assert [row["temperature"] for row in ended.result["temperatures"]] == [0.5, 2.0]
    assert ContinuationResult.from_dict(ended.result).to_dict() == ended.result
    assert "oracle" not in ended.result and ended.result["real_units"]["counts"]["sequences"] == 3


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("only 3 of 3 recordings", {"prompts": 4}),
        ("only 1 of 3 recordings", {"prompt-seconds": 2.5}),
        ("give either --text-lm", {"text": None}),
        ("give either --text-lm", {"text-lm": "gpt2"}),
        ("no such text file", {"text": "nowhere.txt"}),
        ("not a recogniser that can be opened", {"recognizer": "nowhere/at-all"}),
        ("not a causal language model", {"text": None, "text-lm": "nowhere/at-all"}),
        ("numbers with commas", {"temperatures": "hot"}),
        ("0 or above and finite", {"temperatures": "-1,1"}),
        ("must be above 0", {"seconds": 0}),
        ("must be above 0", {"prompt-seconds": "nan"}),
        ("leave out --text", {"protocol": "slamkit"}),
        ("leave out --text", {"protocol": "slamkit", "text": None, "text-lm": "gpt2", "normalization": "english"}),
    ],
)
def test_bad_input_is_one_line(continuation, manifest, tmp_path: Path, words: str, options: dict[str, Any]) -> None:
    ended = continuation(manifest, tmp_path / "o", **options)
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1), ended.err
    assert words in ended.err
    assert not (tmp_path / "o").exists()


def test_a_model_that_cannot_speak(continuation, manifest, listen, tokenizer_folder, parts, tmp_path: Path) -> None:
    listen(Fake(by_sound))
    ended = continuation(manifest, tmp_path / "o", model=tokenizer_folder)
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1)
    assert not (tmp_path / "o").exists()


def test_resynthesis(run: Run, speaking: Path, recordings: Path, listen, tmp_path: Path) -> None:
    originals = [load_audio(recordings / f"{id}.wav") for id in IDS]

    def words(waveform: np.ndarray) -> str:
        return "cat sat" if any(np.array_equal(waveform, original) for original in originals) else "cat"

    fake = listen(Fake(words))
    manifest = write_manifest(tmp_path / "m.jsonl", recordings, ("cat sat", "Cat, sat!", None))
    options = ("--model", speaking, "--min-seconds", 1, "--device", "cpu", "--out", tmp_path / "heard.jsonl")
    ended = run("evaluate", "resynthesis", manifest, *options)
    assert ended.status == 0, ended.err
    result = ended.result
    assert ResynthesisResult.from_dict(result).to_dict() == result
    assert list(result)[:3] == ["evaluation", "model", "data"]
    assert (result["data"]["recordings"], result["data"]["left_out"], fake.heard) == (2, 1, 6)
    for name, wer in {"original": 0.0, "vocoder": 0.5, "resynthesis": 0.5}.items():
        assert (result[name]["wer"], result[name]["words"]) == (wer, 4)
    lines = [json.loads(line) for line in (tmp_path / "heard.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["r0", "r1"]
    heard = {"original": "cat sat", "vocoder": "cat", "resynthesis": "cat"}
    assert lines[1] == {"id": "r1", "recognizer": "pocketsphinx", "reference": "cat sat", **heard}


def test_resynthesis_by_several_recognisers_with_predicted_lengths(
    run: Run, speaking: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ears = {"deaf": Fake(lambda waveform: ""), "pocketsphinx": Fake(lambda waveform: "thirty")}
    monkeypatch.setattr(recognizers, "load_recognizer", lambda name, device: ears[name])
    manifest = write_manifest(tmp_path / "m.jsonl", recordings, ("30", "thirty one", None))
    model = ("--model", speaking, "--min-seconds", 1, "--device", "cpu")
    options = (*model, "--recognizer", "pocketsphinx", "--recognizer", "deaf", "--durations", "own,predicted")
    result = run("evaluate", "resynthesis", manifest, *options, "--out", tmp_path / "heard.jsonl").result
    read = ResynthesisResult.from_dict(result)
    assert read.to_dict() == result
    assert [scores.recognizer for scores in read.by_recognizer] == ["pocketsphinx", "deaf"]
    names = ["original", "vocoder", "resynthesis", "predicted_durations"]
    for scores, wer in zip(read.by_recognizer, (0.5, 1.0), strict=True):
        assert [*scores.renderings] == names
        assert {rates.wer.value for rates in scores.renderings.values()} == {wer}
    assert ears["deaf"].heard == ears["pocketsphinx"].heard == 8
    lines = [json.loads(line) for line in (tmp_path / "heard.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["id"], line["recognizer"]) for line in lines] == [
        (id, name) for id in IDS[:2] for name in ("pocketsphinx", "deaf")
    ]
    # The mean length of each deduplicated unit, by the language model.
    tokenizer, lm = Tokenizer.load(speaking, device="cpu"), SpeechLM.load(speaking, device="cpu")
    units = [tokenizer.encode(load_audio(recordings / f"{id}.wav")).deduplicate() for id in IDS[:2]]
    frames = sum(int(lm.durations[one.unit].sum()) for one in units)
    assert result["durations"]["predicted_seconds"] == pytest.approx(frames * 0.02)
    assert result["durations"]["own_seconds"] == pytest.approx(sum(one.duration for one in units))
    assert result["durations"]["ratio"] == read.durations.ratio

    alone = run("evaluate", "resynthesis", manifest, *model).result
    assert alone["resynthesis"] == result["resynthesis"] and "others" not in alone and "durations" not in alone
    shown = run("evaluate", "resynthesis", manifest, *options, "--format", "markdown").out
    assert shown.count("| deaf") == 4 and f"predicted lengths {read.durations.ratio:.3f} of their own" in shown
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    ended = run("evaluate", "report", tmp_path / "result.json", "--out", tmp_path / "report")
    assert ended.status == 0, ended.err
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert page.count("predicted durations") >= 2 and "recogniser deaf (none)" in page


def test_resynthesis_of_given_units(run: Run, speaking: Path, recordings: Path, listen, tmp_path: Path) -> None:
    listen(Fake(by_sound))
    manifest = write_manifest(tmp_path / "m.jsonl", recordings, ("one", "two", "three"))
    options = ("--model", speaking, "--min-seconds", 1, "--device", "cpu")
    units = tmp_path / "units.jsonl"
    assert run("tokenize", manifest, "--model", speaking, "--device", "cpu", "--out", units).status == 0
    expected = run("evaluate", "resynthesis", manifest, *options).result
    found = run("evaluate", "resynthesis", manifest, *options, "--units", units).result
    assert found == expected | {"unit_file": str(units)}
    # A folder of the vocoder alone.
    alone = tmp_path / "vocoder"
    shutil.copytree(
        speaking, alone, ignore=lambda folder, names: {"lm"} & set(names) if folder == str(speaking) else ()
    )
    (alone / "config.toml").unlink(missing_ok=True)
    other = run("evaluate", "resynthesis", manifest, "--model", alone, *options[2:], "--units", units)
    assert other.status == 0, other.err
    assert other.result["resynthesis"] == expected["resynthesis"]
    lines = units.read_text(encoding="utf-8").splitlines()
    for words, kept in (("1 recording without units, such as 'r2'", lines[:2]), ("longer or shorter", None)):
        if kept is None:
            row = json.loads(lines[2])
            kept = [*lines[:2], json.dumps(row | {"num_frames": row["num_frames"] + 100})]
        units.write_text("\n".join(kept) + "\n", encoding="utf-8")
        ended = run("evaluate", "resynthesis", manifest, *options, "--units", units)
        assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1) and words in ended.err


def test_quality(run: Run, speaking: Path, recordings: Path, listen, tmp_path: Path) -> None:
    listen(Fake(lambda waveform: "cat"))
    manifest = write_manifest(tmp_path / "m.jsonl", recordings, ("cat sat", "cat", None))
    options = ("--model", speaking, "--min-seconds", 1, "--device", "cpu", "--mos", "none")
    options += ("--speaker", write_xvector(tmp_path / "xvector"), "--durations", "own,predicted")
    ended = run("evaluate", "quality", manifest, *options, "--recognizer", "pocketsphinx")
    assert ended.status == 0, ended.err
    result = QualityResult.from_dict(ended.result)
    assert result.to_dict() == ended.result and result.data.recordings == 2
    assert [row.speech for row in result.rows] == ["original", "vocoder", "resynthesis", "predicted_durations"]
    # The same renderings as those of the other verb.
    other = run("evaluate", "resynthesis", manifest, *options[:6], "--durations", "own,predicted").result
    assert ended.result["durations"] == other["durations"] and ended.result["units"] == other["units"]
    for row in result.rows:
        assert row.errors is not None and row.errors["pocketsphinx"].to_dict() == other[row.speech]
    without = run("evaluate", "quality", manifest, *options, "--out", tmp_path / "scores.jsonl").result
    assert without["data"]["recordings"] == 3 and "normalization" not in without
    assert len((tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()) == 12
    shown = run("evaluate", "quality", manifest, *options, "--format", "markdown").out
    assert "| speaker similarity" in shown and "pitch: " in shown
    (tmp_path / "result.json").write_text(json.dumps(ended.result), encoding="utf-8")
    assert run("evaluate", "report", tmp_path / "result.json", "--out", tmp_path / "report").status == 0
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "Quality: recordings and resynthesised speech" in page and "predicted durations" in page
    ended = run("evaluate", "quality", manifest, *options[:6], "--mos", "none", "--speaker", "nowhere/at-all")
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1) and "not a speaker encoder" in ended.err


@pytest.mark.parametrize(
    ("words", "texts", "options"),
    [
        ("change --min-seconds", ("one", None, "two"), ("--min-seconds", 9)),
        ("3 recordings, 0 with a text", (None, None, None), ("--min-seconds", 1)),
        ("r1: its text has no word", ("one", "--", "two"), ("--min-seconds", 1)),
        ("not a recogniser that", ("one", "two", "three"), ("--min-seconds", 1, "--recognizer", "nowhere/at-all")),
        ("durations slow: choose own, predicted", ("one", "two", "three"), ("--min-seconds", 1, "--durations", "slow")),
        ("durations none: choose", ("one", "two", "three"), ("--min-seconds", 1, "--durations", "")),
    ],
)
def test_resynthesis_of_bad_input(run: Run, speaking: Path, recordings: Path, tmp_path: Path, words, texts, options):
    manifest = write_manifest(tmp_path / "m.jsonl", recordings, texts)
    out = tmp_path / "heard.jsonl"
    options = ("--model", speaking, "--device", "cpu", "--out", out, *options)
    ended = run("evaluate", "resynthesis", manifest, *options)
    assert (ended.status, ended.out, len(ended.lines)) == (2, "", 1), ended.err
    assert words in ended.err and not out.exists()


def test_help_names_the_recognisers(run: Run) -> None:
    for verb in ("resynthesis", "continuation"):
        shown = " ".join(run("evaluate", verb, "--help").out.split())
        assert f"Speech recogniser: {recognizers.CHOICES}." in shown
        assert all(name in shown for name in recognizers.RECOGNIZERS)
