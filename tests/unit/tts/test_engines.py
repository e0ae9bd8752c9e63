"""The engines: word assignment against a slow oracle, parsing, and the real programs where they are installed."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllablelm.core.errors import AudioError, InputError, MissingDependencyError, SyllableLMError
from syllablelm.data.alignment import Word
from syllablelm.data.syllables import NUCLEI, Interval
from syllablelm.tts import engines as speech_engines
from syllablelm.tts.engines import Espeak, Flite, Piper, assign_words, espeak_words

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")

PHONES = ["AH", "IY", "T", "D"]


def edit_cost(spoken: tuple[str, ...], lexical: tuple[str, ...]) -> float:
    """Plain recursive edit distance with the costs of `assign_words`."""
    if not spoken or not lexical:
        return float(len(spoken) + len(lexical))
    same_kind = (spoken[0] in NUCLEI) == (lexical[0] in NUCLEI)
    swap = 0.0 if spoken[0] == lexical[0] else 0.6 if same_kind else 1.6
    return min(
        edit_cost(spoken[1:], lexical[1:]) + swap,
        edit_cost(spoken[1:], lexical) + 1.0,
        edit_cost(spoken, lexical[1:]) + 1.0,
    )


def split_cost(phones: list[str], cuts: tuple[int, ...], words: list[tuple[str, ...]]) -> float:
    edges = [0, *cuts, len(phones)]
    return sum(edit_cost(tuple(phones[a:b]), word) for a, b, word in zip(edges[:-1], edges[1:], words, strict=True))


@given(
    st.lists(st.sampled_from(PHONES), max_size=5),
    st.lists(st.lists(st.sampled_from(PHONES), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_assignment_costs_no_more_than_any_other_split(phones: list[str], words: list[tuple[str, ...]]) -> None:
    owners = assign_words(phones, words)
    assert owners == sorted(owners)
    cuts = tuple(int(np.searchsorted(owners, word)) for word in range(1, len(words)))
    splits = combinations_with_replacement(range(len(phones) + 1), len(words) - 1)
    best = min(split_cost(phones, split, words) for split in splits)
    assert split_cost(phones, cuts, words) == pytest.approx(best)


def test_assignment_of_reduced_speech() -> None:
    spoken = ["SIL", "AE", "S", "T", "DH", "AH", "D", "AO", "G", "Z", "SIL", "AH", "SIL"]
    lexical = [["AE", "S", "K", "T"], ["DH", "IY"], ["D", "AO", "G", "Z"], ["EY"]]
    assert assign_words(spoken, lexical) == [-1, 0, 0, 0, 1, 1, 2, 2, 2, 2, -1, 3, -1]


def test_pause_separates_words() -> None:
    # By the phones alone the first T could belong to either word.
    assert assign_words(["AH", "T", "SIL", "T", "IY"], [["AH", "T"], ["T", "IY"]]) == [0, 0, -1, 1, 1]
    assert assign_words(["AH", "SIL", "T", "IY"], [["AH", "T"], ["T", "IY"]]) == [0, -1, 1, 1]
    assert assign_words(["SIL"], []) == [-1]


def test_phone_list_is_mapped_and_cut_at_the_end() -> None:
    phones = speech_engines._parse_phones("pau:0.1 dh:0.2 ax:0.3 pau:0.405 \n", 0.4)
    assert phones == [
        Interval("SIL", 0.0, 0.1),
        Interval("DH", 0.1, 0.2),
        Interval("AH", 0.2, 0.3),
        Interval("SIL", 0.3, 0.4),
    ]


@pytest.mark.parametrize(("engine", "package"), [(Flite, "flite"), (Espeak, "espeak-ng"), (Piper, "piper-tts")])
def test_missing_program(monkeypatch: pytest.MonkeyPatch, engine: type, package: str) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match=f"install {package}"):
        engine().check(["slt"])


@needs_flite
def test_flite_words_and_phones() -> None:
    engine = Flite()
    engine.check(engine.voices)
    spoken = engine.speak("John’s dog, asked on Wednesday.", "slt", speed=1.0, pitch=1.0)  # noqa: RUF001
    assert [word.label for word in spoken.words] == ["john's", "dog", "asked", "on", "wednesday"]
    phones = {word.label: [phone.label for phone in word.phones] for word in spoken.words}
    assert phones["wednesday"] == ["W", "EH", "N", "Z", "D", "IY"]
    assert phones["john's"] == ["JH", "AA", "N", "Z"]
    assert spoken.samples.dtype == np.float32
    # The comma is a pause, and the first sound of "dog" is louder than it.
    dog, asked = spoken.words[1], spoken.words[2]
    assert asked.start - dog.end > 0.05
    assert energy(spoken, dog.phones[1]) > 10 * energy(spoken, Interval("", dog.end + 0.02, asked.start))


def energy(spoken: speech_engines.Spoken, interval: Interval) -> float:
    part = spoken.samples[round(interval.start * spoken.sample_rate) : round(interval.end * spoken.sample_rate)]
    return float(np.mean(part**2))


@needs_flite
def test_flite_speed_and_pitch() -> None:
    engine = Flite()
    text = "one two three four"
    plain = engine.speak(text, "slt", speed=1.0, pitch=1.0)
    fast = engine.speak(text, "slt", speed=1.25, pitch=1.0)
    high = engine.speak(text, "slt", speed=1.0, pitch=1.2)
    assert len(plain.samples) / len(fast.samples) == pytest.approx(1.25, rel=0.05)
    assert high.words == plain.words
    assert not np.array_equal(high.samples, plain.samples)
    assert engine.speak(text, "rms", speed=1.0, pitch=1.2).pitch == 1.0


@needs_flite
def test_flite_faults() -> None:
    engine = Flite()
    with pytest.raises(InputError, match="no voice 'nobody'"):
        engine.check(["nobody"])
    with pytest.raises(AudioError, match="nothing to say"):
        engine.speak("... !!", "kal16", speed=1.0, pitch=1.0)


@needs_espeak
def test_espeak() -> None:
    engine = Espeak()
    engine.check(engine.voices)
    slow = engine.speak("-q one two three four", "en-us+f3", speed=0.8, pitch=1.1)
    fast = engine.speak("-q one two three four", "en-us+f3", speed=1.3, pitch=1.1)
    assert len(slow.samples) > 1.3 * len(fast.samples)
    with pytest.raises(InputError, match="nobody"):
        engine.check(["nobody"])


@needs_espeak
def test_espeak_times_are_of_the_same_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Espeak()
    if engine._library is None:
        pytest.skip("the library of espeak-ng is not installed")
    text = "El ni\u00f1o, la madre y 23 \u00e1rboles."
    # Letters in two parts are the same text.
    spoken = engine.speak(unicodedata.normalize("NFD", text), "es", speed=0.9, pitch=1.1)
    assert [word.label for word in spoken.words][:4] == ["El", "ni\u00f1o", "la", "madre"]
    assert spoken.words[-1].label == "\u00e1rboles"
    assert [phone.label for phone in spoken.words[1].phones] == ["n", "i", "\u0272", "o"]
    phones = [phone for word in spoken.words for phone in word.phones]
    assert all(left.end <= right.start for left, right in pairwise(phones))
    assert phones[0].start >= 0 and phones[-1].end <= len(spoken.samples) / spoken.sample_rate
    monkeypatch.setattr(engine, "_library", None)
    plain = engine.speak(text, "es", speed=0.9, pitch=1.1)
    np.testing.assert_array_equal(plain.samples, spoken.samples)
    assert plain.words == ()


def test_words_of_espeak_events() -> None:
    events = [
        ("phone", 0, ""),
        ("word", 0, "de"),
        ("word", 10, " el,"),
        ("phone", 10, "(es)"),
        ("phone", 10, "d"),
        ("phone", 30, "\u02b2"),
        ("phone", 40, "e"),
        ("phone", 60, ""),
        ("word", 80, "fin"),
        ("phone", 80, "a"),
    ]
    first, last = espeak_words({"sample_rate": 100, "num_samples": 100, "events": events})
    assert first == Word("de el,", 0.1, 0.6, (Interval("d\u02b2", 0.1, 0.4), Interval("e", 0.4, 0.6)))
    assert last == Word("fin", 0.8, 1.0, (Interval("a", 0.8, 1.0),))


@pytest.fixture
def piper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program "piper" that takes its options and writes as many milliseconds of a tone as the text has letters."""
    program = tmp_path / "bin" / "piper"
    program.parent.mkdir()
    program.write_text(
        f"""#!{sys.executable}
import sys
import numpy as np, soundfile
said = dict(zip(sys.argv[1::2], sys.argv[2::2]))
text = sys.stdin.read()
count = int(len(text.strip()) * 22.05 * float(said["--length_scale"]))
assert said["--model"].endswith(".onnx")
soundfile.write(said["--output_file"], np.sin(np.arange(count) / 9), 22050)
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    voice = tmp_path / "en_US-test.onnx"
    voice.touch()
    voice.with_name("en_US-test.onnx.json").touch()
    return voice


def test_piper_speaks_with_a_voice_from_a_file(piper: Path) -> None:
    engine = Piper()
    engine.check([str(piper)])
    slow, fast = (engine.speak("a" * 1000, str(piper), speed=speed, pitch=1.3) for speed in (1.0, 2.0))
    assert (len(slow.samples), slow.sample_rate, slow.pitch, slow.words) == (22050, 22050, 1.0, ())
    assert len(fast.samples) == 11025


def test_piper_says_what_is_missing(piper: Path) -> None:
    with pytest.raises(InputError, match="--voices"):
        Piper().check([])
    with pytest.raises(InputError, match=r"other\.onnx: no such file"):
        Piper().check([str(piper.with_name("other.onnx"))])
    piper.with_name("en_US-test.onnx.json").unlink()
    with pytest.raises(InputError, match=r"en_US-test\.onnx\.json: no such file"):
        Piper().check([str(piper)])


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL"])
def test_an_engine_that_was_stopped_is_no_fault_of_the_text(name: str) -> None:
    with pytest.raises(SyllableLMError, match=f"was stopped by SIG{name}; run the same command again") as caught:
        speech_engines._run(["sh", "-c", f"kill -{name} $$"])
    assert not isinstance(caught.value, AudioError)
    with pytest.raises(AudioError, match="failed with status -11"):
        speech_engines._run(["sh", "-c", "kill -SEGV $$"])
