"""Engines on phones."""
# ruff: noqa: RUF001

from __future__ import annotations

import shutil

import numpy as np
import pytest

from syllablelm.itemsets.phone_voice import PhoneEspeak, PhoneFlite
from syllablelm.itemsets.pronunciations import plain
from syllablelm.tts.engines import Espeak, Flite

flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite on PATH")

espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None or Espeak()._library is None, reason="needs espeak-ng and its library"
)


@flite
def test_phone_path_says_a_word_as_flite_does() -> None:
    engine = PhoneFlite()
    by_phones = engine.speak("P AH0 L IY1 S", "kal16", speed=1, pitch=1)
    by_text = Flite().speak("police", "kal16", speed=1, pitch=1)
    assert np.array_equal(by_phones.samples, by_text.samples)
    assert [phone.label for phone in by_phones.words[0].phones] == ["P", "AH", "L", "IY", "S"]


@flite
def test_stress_as_flite_says_it() -> None:
    engine = PhoneFlite()
    for word, marked in (
        ("sunny", "S AH1 N IY0"),
        ("police", "P AH0 L IY1 S"),
        ("understand", "AH1 N D ER0 S T AE1 N D"),
    ):
        phones = tuple(marked.split())
        assert engine.find_stress(word, plain(phones), voice="kal16") == phones
    assert engine.find_stress("police", ("P", "AA", "L"), voice="kal16") is None


@espeak
@pytest.mark.parametrize(
    ("phones", "said"),
    [
        ("P AH0 L IY1 S", "p ə l iː s"),
        ("S T R AO1 NG G ER0", "s t ɹ ɔː ŋ ɡ ɚ"),
        ("AA1 R T", "ɑːɹ t"),
        ("V EH1 R IY0", "v ɛ ɹ i"),
        ("S IH1 R IY0 AH0 S", "s ɪ ɹ i ə s"),
        ("CH ER1 CH", "tʃ ɜː tʃ"),
        ("T S IY1", "t s iː"),
    ],
)
def test_espeak_says_the_phones_it_is_told(phones: str, said: str) -> None:
    spoken = PhoneEspeak().speak(phones, "en-us+f5", speed=1, pitch=1)
    (word,) = spoken.words
    assert word.label == " ".join(plain(phones.split()))
    assert " ".join(phone.label for phone in word.phones) == said
    assert 0 <= word.start < word.end <= len(spoken.samples) / spoken.sample_rate


@espeak
def test_espeak_takes_every_phone() -> None:
    engine = PhoneEspeak()
    for phones in ("AA1 B AE2 CH AH1 D", "DH AO1 F AW0 G EH0 HH", "EY1 JH IH0 K IY1 L OW0 M", "OY1 N UH0 NG UW1 P"):
        assert engine.speak(phones, "en-us", speed=1, pitch=1).words
    assert engine.speak("SH UH1 R TH V W AH0 Y OW1 Z ER2 ZH", "en-us", speed=1, pitch=1).words
