# ruff: noqa: RUF001, RUF002 (letters of IPA)
"""Phones in IPA, as the Montreal Forced Aligner and espeak-ng write them, and their syllables in any language.

A phone is one label: base letters, which may carry diacritics, length, tone and stress. A phone with a vowel letter or
a syllabic mark (U+0329, U+030D) is a nucleus, a diphthong as one label (aj, ai, au̯) one nucleus. Two nuclei side by
side are two syllables (hiatus), so a diphthong that a dictionary writes as two vowels needs the non-syllabic mark or a
glide for its weaker half.

Where the consonants between two nuclei are divided:

* with an inventory of onsets, by the maximal onset principle: the longest of them goes to the right;
* without one, by sonority: the longest cluster goes to the right whose sonority rises by at least two steps from phone
  to phone (minimal sonority distance: D. Steriade, "Greek prosodies and the nature of syllabification", PhD thesis,
  MIT, 1982; G. N. Clements, "The role of the sonority cycle in core syllabification", 1990), on the scale obstruent 0,
  nasal 1, liquid 2, glide 4. Obstruent + liquid and anything + glide are onsets, obstruent + nasal and two obstruents
  are not: "ma.dre", "fa.mi.lja", "mag.no", "tak.si", "pas.ta".

The rule takes these sides, each that of more languages, tested on words of twelve (`tests/unit/data/test_ipa.py`):
coronal stop or affricate + lateral ("at.las") and glottal + liquid ("vih.reä") are no onsets; a single consonant is
one, except ŋ ("zɪŋ.ən"), unless the inventory lists it. Languages that differ (no clusters in Finnish, many in Slavic
ones, initial ŋ in Indonesian) need an inventory. A long consonant of one label is not cut: it is the onset of the next
syllable.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import text_lines

Onsets = frozenset[tuple[str, ...]]
"""An inventory of onsets, as base letters without diacritics: {("t", "ɾ"), ...}."""

OBSTRUENT, NASAL, LIQUID, GLIDE, NUCLEUS = 0, 1, 2, 4, 6

VOWELS = frozenset("iyɨʉɯuɪʏʊeøɘɵɤoəɛœɜɞʌɔæɐaɶɑɒɚɝᵻᵿɿʅ")
_STOPS = frozenset("pbtdʈɖcɟkɡgqɢʔʡɓɗᶑʄɠʛǀǁǂǃʘ")
_FRICATIVES = frozenset("ɸβfvθðszʃʒʂʐçʝxɣχħʕhɦɕʑɧʜʢɬɮʍʦʣʧʤʨʥ")
_NASALS, _LIQUIDS, _GLIDES = frozenset("mɱnɳɲŋɴ"), frozenset("lɫɭʎʟɺrɾɹɻɽʀʁʙⱱʋ"), frozenset("jwɥɰ")
_LATERALS, _GLOTTALS = frozenset("lɫɭʎʟ"), frozenset("hɦʔ")
_SONORITY = {
    letter: sonority
    for letters, sonority in (
        (_STOPS | _FRICATIVES, OBSTRUENT),
        (_NASALS, NASAL),
        (_LIQUIDS, LIQUID),
        (_GLIDES, GLIDE),
        (VOWELS, NUCLEUS),
    )
    for letter in letters
}
_SYLLABIC, _NON_SYLLABIC = {"\u0329", "\u030d"}, {"\u032f", "\u0311"}
_STRESS = str.maketrans("", "", "ˈˌ'")


class IpaPhone(NamedTuple):
    """A phone: its base letters, and its sonority (0 obstruent, 1 nasal, 2 liquid, 4 glide, 6 nucleus)."""

    letters: str
    sonority: int


@lru_cache(maxsize=4096)
def read_phone(label: str) -> IpaPhone:
    """Return the base letters and the sonority of a phone; InputError for a label that is not one phone of IPA.

    Tie bars, stress, length, tone letters and digits, and diacritics do not count, but for the marks of syllabic and
    non-syllabic sounds. Of several letters vowels win, and may have glides and liquids around them (aj, ɔɪ, ɑːɹ);
    letters without a vowel are one consonant (tʃ, kp, nd), as sonorous as the last of them.
    """
    letters: list[str] = []
    steps: list[int] = []
    is_syllabic = False
    # ç is a letter of its own, not a c with a cedilla.
    for char in unicodedata.normalize("NFD", label).replace("c\u0327", "ç"):
        if char in _SONORITY:
            letters.append("ɡ" if char == "g" else char)
            steps.append(_SONORITY[char])
        elif char in _SYLLABIC:
            is_syllabic = True
        elif char in _NON_SYLLABIC and steps:
            steps[-1] = GLIDE
        elif unicodedata.category(char) not in ("Mn", "Lm", "Sk", "No", "Nd") and char not in "'-":
            steps.clear()
            break
    has_vowel = NUCLEUS in steps
    if not steps or (has_vowel and min(steps) < LIQUID):
        raise InputError(f"phone {label!r} is not one phone of IPA (or of ARPAbet)")
    return IpaPhone("".join(letters), NUCLEUS if is_syllabic or has_vowel else steps[-1])


def plain_label(label: str) -> str:
    """Return a phone as part of a syllable's label: composed (NFC) and without stress; tone and length stay."""
    return unicodedata.normalize("NFC", label.translate(_STRESS))


def is_onset(phones: tuple[IpaPhone, ...], onsets: Onsets | None) -> bool:
    """Return whether consonants may begin a syllable inside a word; see the module's docstring."""
    letters = tuple(phone.letters for phone in phones)
    if onsets is not None and letters in onsets:
        return True
    if len(phones) < 2:
        return letters != ("ŋ",)
    if onsets is not None:
        return False
    first, second = phones[:2]
    if first.letters in _GLOTTALS and second.sonority < GLIDE:
        return False
    if first.letters[0] in "td" and second.letters in _LATERALS:
        return False
    return all(right.sonority - left.sonority >= 2 for left, right in pairwise(phones))


def read_onsets(path: str | Path) -> Onsets:
    """Read an inventory of onsets: one a line, phones in IPA separated by blanks; "#" begins a comment.

    Diacritics do not matter ("t ɾ" is "t̪ ɾ", too). Single consonants need not be listed, except ŋ; a file without any
    cluster says that the language has none.
    """
    onsets: set[tuple[str, ...]] = set()
    for place, line in text_lines(Path(path)):
        try:
            phones = [read_phone(label) for label in re.sub("#.*", "", line).split()]
        except InputError as error:
            raise FormatError(f"{place}: {error}") from None
        if any(phone.sonority == NUCLEUS for phone in phones):
            raise FormatError(f"{place}: an onset has no vowel; expected consonants separated by blanks")
        onsets.add(tuple(phone.letters for phone in phones))
    return frozenset(onsets - {()})
