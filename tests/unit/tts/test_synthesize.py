"""Synthetic corpora: sharding, resuming and several at once with a stub engine; one corpus with the real flite."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from syllablelm.core.errors import AudioError, FormatError, InputError
from syllablelm.data.alignment import Word, read_alignments
from syllablelm.data.manifest import Manifest
from syllablelm.data.syllables import Interval
from syllablelm.tts.engines import Spoken
from syllablelm.tts.synthesize import SynthesisResult, synthesize


class Stub:
    """Speaks half a second per utterance; refuses "bad", breaks down at "crash"; counts its calls."""

    name = "stub"
    voices = ("a", "b")
    licence = "none"

    def __init__(self, sample_rate: int = 16_000) -> None:
        self.sample_rate = sample_rate
        self.said: list[tuple[str, str, float, float]] = []
        self.lock = threading.Lock()

    def check(self, voices: Sequence[str]) -> None:
        for voice in voices:
            if voice not in self.voices:
                raise InputError(f"no voice {voice}")

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        if text == "crash":
            raise KeyboardInterrupt
        if text == "bad":
            raise AudioError("cannot say bad")
        with self.lock:
            self.said.append((text, voice, speed, pitch))
        tone = np.asarray(np.sin(np.arange(self.sample_rate // 2) / 20) / 2, dtype=np.float32)
        word = Word(text, 0.1, 0.4, (Interval("AH", 0.1, 0.2), Interval("T", 0.2, 0.4)))
        return Spoken(tone, self.sample_rate, (word,), pitch)


def texts(number: int) -> list[tuple[str, str]]:
    return [(f"utt{i}", f"text {i}") for i in range(number)]


def make(out: Path, items: list[tuple[str, str]], **options: Any) -> tuple[SynthesisResult, Stub]:
    engine = options.pop("engine", None) or Stub()
    options.setdefault("shard_size", 3)
    return synthesize(items, out, engine=engine, **options), engine


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_corpus(tmp_path: Path) -> None:
    ticks: list[int] = []
    result, engine = make(tmp_path / "c", texts(8), progress=ticks.append)
    assert (result.utterances, result.hours, result.skipped) == (8, 4.0 / 3600, 0)
    assert SynthesisResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert ticks == [3, 3, 2]
    manifest = rows(result.manifest)
    assert [row["id"] for row in manifest] == [f"utt{i}" for i in range(8)]
    for row, (text, voice, speed, pitch) in zip(manifest, engine.said, strict=True):
        samples, rate = soundfile.read(tmp_path / "c" / row["path"])
        assert (len(samples), rate) == (row["num_samples"], row["sample_rate"]) == (8000, 16_000)
        assert (row["text"], row["speaker"], row["speed"], row["pitch"]) == (text, f"stub-{voice}", speed, pitch)
        assert 0.8 <= speed <= 1.3
        assert 0.85 <= pitch <= 1.2
    assert len({row["speed"] for row in manifest}) == 8
    assert {row["voice"] for row in manifest} == {"a", "b"}
    found = read_alignments(result.alignments)
    assert list(found) == [row["id"] for row in manifest]
    assert found["utt0"].syllables == (Interval("AH-T", 0.1, 0.4),)
    assert not list((tmp_path / "c").rglob(".*"))


class Untimed(Stub):
    """Tells no times, as espeak-ng."""

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        return replace(super().speak(text, voice, speed=speed, pitch=pitch), words=())


def test_an_engine_without_times_writes_no_alignments(tmp_path: Path) -> None:
    result, _ = make(tmp_path / "c", texts(4), engine=Untimed(), limit_seconds=1.0)
    assert result.alignments is None and result.utterances == 2
    assert sorted(item.name for item in (tmp_path / "c").iterdir()) == [
        *("audio", "errors.jsonl", "manifest.jsonl", "synthesis.json")
    ]
    assert make(tmp_path / "c", texts(4), engine=Untimed())[0].utterances == 4


def test_same_corpus_with_more_workers_and_other_shards(tmp_path: Path) -> None:
    make(tmp_path / "one", texts(10))
    make(tmp_path / "four", texts(10), workers=4)
    assert tree(tmp_path / "one") == tree(tmp_path / "four")
    result, _ = make(tmp_path / "other", texts(10)[::-1], shard_size=4)
    by_id = {row["id"]: row for row in rows(result.manifest)}
    for row in rows(tmp_path / "one" / "manifest.jsonl"):
        assert by_id[row["id"]] | {"path": ""} == row | {"path": ""}


def test_seed_changes_the_draw(tmp_path: Path) -> None:
    first, second = (make(tmp_path / str(seed), texts(5), seed=seed)[1].said for seed in (1, 2))
    assert first != second


def test_killed_run_resumes(tmp_path: Path) -> None:
    make(tmp_path / "whole", texts(8))
    items = texts(8)
    broken = [*items[:4], ("utt4", "crash"), *items[5:]]
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "c", broken)
    assert (tmp_path / "c" / "audio" / "00000" / "shard.json").exists()
    assert not (tmp_path / "c" / "audio" / "00001").exists()
    assert not (tmp_path / "c" / "manifest.jsonl").exists()
    shutil.rmtree(tmp_path / "c" / "audio" / "00002", ignore_errors=True)
    _, engine = make(tmp_path / "c", items)
    assert [said[0] for said in engine.said] == [f"text {i}" for i in range(3, 8)]
    assert tree(tmp_path / "c") == tree(tmp_path / "whole")


class Together(Stub):
    """Speaks each utterance at the same moment as another one of its kind."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        self.barrier.wait(timeout=20)
        return super().speak(text, voice, speed=speed, pitch=pitch)


def test_two_threads_in_one_folder(tmp_path: Path) -> None:
    """Both speak every shard, and both want to give it its name."""
    make(tmp_path / "alone", texts(8))
    barrier, found = threading.Barrier(2), []
    engines = [Together(barrier), Together(barrier)]
    threads = [
        threading.Thread(target=lambda engine=engine: found.append(make(tmp_path / "c", texts(8), engine=engine)[0]))
        for engine in engines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(engine.said) for engine in engines] == [8, 8]
    assert len(found) == 2 and found[0] == found[1]
    assert tree(tmp_path / "c") == tree(tmp_path / "alone")


def test_two_processes_in_one_folder(tmp_path: Path) -> None:
    make(tmp_path / "alone", texts(60))
    script = "import sys; from pathlib import Path; from test_synthesize import make, texts; "
    script += "make(Path(sys.argv[1]), texts(60), workers=2)"
    path = [str(Path(__file__).parent), *filter(None, sys.path)]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {script}", str(tmp_path / "c")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert tree(tmp_path / "c") == tree(tmp_path / "alone")


def test_one_that_starts_later_leaves_the_first_its_unfinished_shards(tmp_path: Path) -> None:
    make(tmp_path / "alone", texts(8))

    class Interrupted(Stub):
        def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
            if text == "text 4":
                second.append(make(tmp_path / "c", texts(8))[0])
            return super().speak(text, voice, speed=speed, pitch=pitch)

    second: list[SynthesisResult] = []
    first, engine = make(tmp_path / "c", texts(8), engine=Interrupted())
    # Its second shard is spoken twice; the third it finds.
    assert [first] == second and len(engine.said) == 6
    assert tree(tmp_path / "c") == tree(tmp_path / "alone")


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    make(tmp_path / "alone", texts(8))
    make(tmp_path / "c", texts(4), shard_size=3)
    leftover = tmp_path / "c" / "audio" / f".00001.{'0' * 32}.tmp"
    leftover.mkdir()
    (leftover / "utt3.flac").write_bytes(b"half")
    shutil.rmtree(tmp_path / "c" / "audio" / "00001")
    make(tmp_path / "c", texts(8))
    assert tree(tmp_path / "c") == tree(tmp_path / "alone")
    # Killed as it wrote the settings.
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / f".synthesis.{'0' * 32}.tmp.json").write_text("{")
    assert make(tmp_path / "d", texts(1))[0].utterances == 1


def test_audio_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"audio/00000/utt0\.opus: cannot be written as OGG") as error:
        make(tmp_path / "c", texts(3), audio_format="opus", sample_rate=22_050)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "c" / "audio").iterdir()) == []


def test_finished_corpus_is_not_spoken_again(tmp_path: Path) -> None:
    make(tmp_path / "c", texts(4))
    before = tree(tmp_path / "c")
    _, engine = make(tmp_path / "c", texts(4))
    assert engine.said == []
    assert tree(tmp_path / "c") == before


def test_other_settings_or_texts_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "c", texts(4))
    with pytest.raises(InputError, match="another seed, voices"):
        make(tmp_path / "c", texts(4), seed=5, voices=["a"])
    with pytest.raises(InputError, match="other texts"):
        make(tmp_path / "c", texts(5)[1:])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="not a synthetic corpus"):
        make(tmp_path / "mine", texts(1))
    for damage in ("{", "{}", "[]"):
        (tmp_path / "c" / "audio" / "00000" / "shard.json").write_text(damage)
        with pytest.raises(FormatError, match="damaged"):
            make(tmp_path / "c", texts(4))


def test_silence_around_every_utterance(tmp_path: Path) -> None:
    plain, _ = make(tmp_path / "plain", texts(1))
    quiet, _ = make(tmp_path / "quiet", texts(1), silence=0.25)
    one, other = (Manifest.load(result.manifest)[0] for result in (plain, quiet))
    wave = other.load()
    assert np.array_equal(wave[4000:-4000], one.load()) and not np.any(wave[:4000]) and not np.any(wave[-4000:])
    before, after = (read_alignments(result.alignments)[one.id] for result in (plain, quiet))
    assert after.duration == pytest.approx(before.duration + 0.5)
    for early, late in zip(before.words[0].phones, after.words[0].phones, strict=True):
        assert (late.start, late.end) == pytest.approx((early.start + 0.25, early.end + 0.25))
    # A corpus made before there was silence resumes, and is not mixed with another.
    settings = tmp_path / "plain" / "synthesis.json"
    known = json.loads(settings.read_text())
    del known["silence"]
    settings.write_text(json.dumps(known))
    make(tmp_path / "plain", texts(1))
    with pytest.raises(InputError, match="another silence"):
        make(tmp_path / "plain", texts(1), silence=0.25)
    with pytest.raises(InputError, match="0 to 5 seconds"):
        make(tmp_path / "long", texts(1), silence=6.0)


def test_bad_sentence_is_recorded_and_skipped(tmp_path: Path) -> None:
    result, _ = make(tmp_path / "c", [("x", "bad"), *texts(3)])
    assert (result.utterances, result.skipped) == (3, 1)
    error = rows(result.errors)[0]
    assert (error["id"], error["text"], error["error"]) == ("x", "bad", "cannot say bad")
    assert "x" not in read_alignments(result.alignments)


def test_limit(tmp_path: Path) -> None:
    alone, _ = make(tmp_path / "one", texts(50), limit_seconds=2.2)
    many, engine = make(tmp_path / "four", texts(50), limit_seconds=2.2, workers=4)
    assert alone.utterances == many.utterances == 5
    assert alone.manifest.read_bytes() == many.manifest.read_bytes()
    assert len(engine.said) < 50
    longer, engine = make(tmp_path / "one", texts(50), limit_seconds=25.0)
    assert longer.utterances == 50
    assert len(engine.said) < 50


def test_limit_drops_the_shards_under_way(tmp_path: Path) -> None:
    result, _ = make(tmp_path / "c", texts(400), limit_seconds=1.0, shard_size=200, workers=2)
    assert result.utterances == 2
    assert [path.name for path in (tmp_path / "c" / "audio").iterdir() if path.name.startswith(".")] == []
    exact, engine = make(tmp_path / "exact", texts(30), limit_seconds=1.5, workers=1)
    assert exact.utterances == 3
    assert len(engine.said) < 30


@pytest.mark.parametrize("audio_format", ["flac", "wav", "opus"])
def test_resampling_and_formats(tmp_path: Path, audio_format: str) -> None:
    result, _ = make(tmp_path / "c", texts(1), engine=Stub(22_050), audio_format=audio_format)
    row = rows(result.manifest)[0]
    samples, rate = soundfile.read(tmp_path / "c" / row["path"])
    assert rate == row["sample_rate"] == 16_000
    assert len(samples) == row["num_samples"]
    assert len(samples) / rate == pytest.approx(0.5, abs=1e-3)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "parrot"}, "unknown speech engine 'parrot'"),
        ({"voices": ["c"]}, "no voice c"),
        ({"voices": []}, "at least one voice"),
        ({"speed_range": (1.3, 0.8)}, "speed_range"),
        ({"pitch_range": (0.0, 1.0)}, "pitch_range"),
        ({"workers": 0}, "workers"),
        ({"audio_format": "mp4"}, "mp4"),
        ({"shard_size": 0}, "shard_size"),
    ],
)
def test_unusable_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path / "c", texts(1), **options)
    assert not (tmp_path / "c").exists()


def test_ids_that_are_no_file_names(tmp_path: Path) -> None:
    names = ["word0-adam's", "../a", ".a", "a b", "a%27b", "a'b", "-a", "é+1.2_x"]
    result, _ = make(tmp_path / "c", [(name, "text") for name in names])
    manifest = Manifest.load(result.manifest)
    assert [recording.id for recording in manifest] == names
    files = [Path(row["path"]).name for row in rows(result.manifest)]
    assert files == [
        *("word0-adam%27s.flac", "%2E.%2Fa.flac", "%2Ea.flac", "a%20b.flac", "a%2527b.flac", "a%27b.flac"),
        *("%2Da.flac", "é+1.2_x.flac"),
    ]
    assert all(Path(recording.path).is_file() for recording in manifest)
    assert list(read_alignments(result.alignments)) == names


@pytest.mark.parametrize("ids", [["a", "a"], [""]])
def test_unusable_ids(tmp_path: Path, ids: list[str]) -> None:
    with pytest.raises(InputError, match="id"):
        make(tmp_path / "c", [(name, "text") for name in ids])


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_flite_corpus(tmp_path: Path) -> None:
    items = [("u0", "the athlete is asking for butter"), ("u1", "?!"), ("u2", "extra onions on Wednesday")]
    result = synthesize(items, tmp_path / "c", engine="flite", seed=3, workers=2, shard_size=2)
    assert (result.utterances, result.skipped) == (2, 1)
    found = read_alignments(result.alignments)
    syllables = [syllable.label for syllable in found["u0"].syllables]
    assert "AE-TH L-IY-T IH-Z AE S-K-IH-NG F-AO-R B-AH T-ER" in " ".join(syllables)
    for row in rows(result.manifest):
        assert found[row["id"]].duration == pytest.approx(row["num_samples"] / row["sample_rate"], abs=1e-4)
        assert "licence" in row
