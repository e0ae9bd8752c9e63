"""Sets on disk: read by the suites as they are, resumed, refused; with a stub that speaks tones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from syllablelm.core.errors import AudioError, InputError
from syllablelm.data.alignment import Word, read_alignments
from syllablelm.data.corpus import Manifest
from syllablelm.evaluate.lm.cloze import read_cloze
from syllablelm.evaluate.lm.pairs import score_pairs
from syllablelm.evaluate.lm.suites import read_lexical, read_syntactic
from syllablelm.evaluate.lm.zerospeech import check_stems, find_split, list_stems
from syllablelm.itemsets.speak import Clip, ItemSet, Source, SpokenSet, measure_lengths, speak_set
from syllablelm.tts.engines import Spoken

LEXICAL = ("frequency", "word", "phones", "length")
SYNTACTIC = ("type", "subtype", "transcription")


class Stub:
    """A tone, 10 ms per letter, of a pitch that the text and the voice decide; cannot say "bad"."""

    name = "stub"
    voices = ("a", "b")
    licence = "stub licence"

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stop_after = 10**6

    def check(self, voices: Sequence[str]) -> None:
        if not set(voices) <= set(self.voices):
            raise InputError("no such voice")

    def speak(self, text: str, voice: str, *, speed: float, pitch: float) -> Spoken:
        assert (speed, pitch) == (1, 1)
        if len(self.said) >= self.stop_after:
            raise KeyboardInterrupt
        if text == "bad":
            raise AudioError("cannot say bad")
        self.said.append(text)
        count = 160 * len(text)
        tone = np.sin(np.arange(count) / (3 + sum(map(ord, text + voice)) % 50)) / 2
        return Spoken(tone.astype(np.float32), 16_000, (Word(text, 0.0, count / 16_000),))


def clip(pair: str, correct: bool, voice: str, text: str, name: str = "") -> Clip:
    about = {"frequency": "3", "word": text, "phones": "K", "length": 1, "type": "t", "subtype": "s"}
    return Clip(name or f"{pair}-{voice}-{correct:d}", pair, correct, voice, text, {**about, "transcription": text})


def make_set(clips: Sequence[Clip], place: str = "lexical/dev", columns: tuple[str, ...] = LEXICAL) -> ItemSet:
    source = Source("s.txt", "0", "text licence")
    return ItemSet("open-test", place, columns, tuple(clips), (source,), {"seed": 0}, {"stories": 1})


def words(count: int = 3) -> list[Clip]:
    return [
        clip(f"{i}", correct, voice, f"{'word' if correct else 'nonword'}{i}")
        for i in range(count)
        for voice in "ab"
        for correct in (True, False)
    ]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_lexical_folder_is_read_by_its_suite(tmp_path: Path) -> None:
    record = speak_set(make_set(words()), tmp_path / "out", Stub())
    place = find_split(tmp_path / "out", "lexical", "dev")
    pairs = read_lexical(place)
    assert [len(pair.stems) for pair in pairs] == [2, 2, 2]
    assert pairs[0].labels["vocabulary"] == "in"
    stems = list_stems(place)
    check_stems([stem for pair in pairs for couple in pair.stems for stem in couple], stems, place)
    assert (record.pairs, record.recordings, record.left_out, record.stories) == (3, 12, 0, 1)
    assert SpokenSet.from_dict(json.loads((tmp_path / "out" / "settings.json").read_text())) == record
    assert record.licences == ("stub licence", "text licence")
    assert record.length_bias == 1.0  # "word0" is shorter than "nonword0"
    manifest = Manifest.load(tmp_path / "out" / "manifest.jsonl")
    assert sum(recording.seconds for recording in manifest) == pytest.approx(record.seconds)
    assert {recording.id for recording in manifest} == set(stems)
    assert set(read_alignments(tmp_path / "out" / "alignments.jsonl")) == set(stems)
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert all(row["licence"] == "stub licence" and row["voice"] in "ab" for row in rows)
    assert str(tmp_path) not in (tmp_path / "out" / "settings.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    # A scorer by length alone gets what the record says.
    seconds = {recording.id: recording.seconds for recording in manifest}
    counts = score_pairs(pairs, {stem: -value for stem, value in seconds.items()})
    assert sum(count.points for count in counts) / 3 == record.length_bias


def test_syntactic_and_cloze_folders_are_read_by_their_suites(tmp_path: Path) -> None:
    speak_set(make_set(words(), "syntactic/dev", SYNTACTIC), tmp_path / "s", Stub())
    assert len(read_syntactic(find_split(tmp_path / "s", "syntactic", "dev"))) == 3
    names = ("aesop-001-000", "19-198.000-001")
    clips = [
        clip(name, mark == "correct", "a", f"{mark}{name}", f"{name}_{mark}")
        for name in names
        for mark in ("correct", "incorrect")
    ]
    speak_set(make_set(clips, "cloze", ()), tmp_path / "c", Stub())
    assert {pair.name: pair.stems for pair in read_cloze(tmp_path / "c" / "cloze")} == {
        name: ((f"{name}_correct", f"{name}_incorrect"),) for name in names
    }


def test_stopped_and_resumed_is_the_same(tmp_path: Path) -> None:
    whole, engine = tmp_path / "whole", Stub()
    record = speak_set(make_set(words(60)), whole, engine)
    stopped = Stub()
    stopped.stop_after = 130
    with pytest.raises(KeyboardInterrupt):
        speak_set(make_set(words(60)), tmp_path / "out", stopped)
    assert not (tmp_path / "out").exists()
    second = Stub()
    assert speak_set(make_set(words(60)), tmp_path / "out", second) == record
    assert len(second.said) < len(engine.said) == 240
    assert tree(tmp_path / "out") == tree(whole)
    third = Stub()
    assert speak_set(make_set(words(60)), whole, third) == record and third.said == []


def test_workers_change_nothing(tmp_path: Path) -> None:
    speak_set(make_set(words(5)), tmp_path / "one", Stub())
    speak_set(make_set(words(5)), tmp_path / "two", Stub(), workers=3)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_pairs_that_fail_are_left_out_whole(tmp_path: Path) -> None:
    clips = [*words(1), clip("x", True, "a", "bad"), clip("x", False, "a", "good")]
    clips += [clip("y", True, "a", "same"), clip("y", False, "a", "same")]
    record = speak_set(make_set(clips), tmp_path / "out", Stub())
    assert (record.pairs, record.left_out) == (1, 2)
    errors = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert [(row["pair"], row["error"]) for row in errors] == [
        ("x", "cannot say bad"),
        ("y", "both of the pair sound the same"),
    ]
    with pytest.raises(InputError, match="not one of its pairs"):
        speak_set(make_set(clips[4:]), tmp_path / "none", Stub())
    assert not (tmp_path / "none").exists()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    speak_set(make_set(words()), tmp_path / "out", Stub())
    before = tree(tmp_path / "out")
    with pytest.raises(InputError, match="other items or settings"):
        speak_set(make_set(words(2)), tmp_path / "out", Stub())
    assert tree(tmp_path / "out") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(InputError, match="is no set of pairs"):
        speak_set(make_set(words()), tmp_path / "mine", Stub())
    with pytest.raises(InputError, match="flac or wav"):
        speak_set(make_set(words()), tmp_path / "new", Stub(), audio_format="opus")


def test_length_bias_by_hand() -> None:
    clips = [clip(pair, correct, "a", "t", f"{pair}{correct:d}") for pair in "pqr" for correct in (True, False)]
    seconds = {"p1": 1.0, "p0": 2.0, "q1": 3.0, "q0": 2.5, "r1": 1.0, "r0": 1.0}
    found = measure_lengths(clips, seconds)
    assert found["length_bias"] == 0.5
    assert found["length_difference"] == pytest.approx((-1.0 + 0.5 + 0.0) / 3)
    with pytest.raises(ValueError, match="one correct and one incorrect"):
        measure_lengths(clips[:1], seconds)
