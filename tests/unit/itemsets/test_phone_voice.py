"""Flite on phones."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from syllablelm.itemsets.phone_voice import PhoneFlite
from syllablelm.itemsets.pronunciations import plain
from syllablelm.tts.engines import Flite

flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite on PATH")


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
