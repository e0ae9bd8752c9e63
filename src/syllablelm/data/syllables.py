"""Phones of a word to syllables: ARPAbet by the rules below, IPA in any language by those of `syllablelm.data.ipa`.

Rules for ARPAbet, from the phonology of General American English:

* every vowel (and syllabic consonant) is the nucleus of one syllable;
* consonants before the first nucleus are its onset and those after the last one its coda, whatever they are;
* of the consonants between two nuclei the longest legal onset goes to the right, the rest to the left
  (maximal onset principle: D. Kahn, "Syllable-based generalizations in English phonology", PhD thesis, MIT, 1976;
  E. Selkirk, "The syllable", 1982).

The inventory of legal onsets follows the same two works and J. Harris, "English sound structure", 1994. It is the
native inventory, and takes these sides where the literature leaves room:

* /v l/, /v r/, /sh w/, /sh m/ and other clusters of loans and names are not onsets; /s f/ (sphere) and /s k l/
  (sclerosis) are.
* A consonant plus /y/ is an onset only before /uw/, /uh/ and their reduced forms (AH and ER: "regular", "figure"),
  because there the glide belongs to a diphthong /yu/ rather than to the cluster (Harris 1994), and only after labials,
  velars and HH: "onion" is AHN.YAHN and "volume" is VAAL.YUWM, as American English has no /n y/ or /l y/ onset.
* /ng/ is never an onset ("singer" is SIHNG.ER).

No phone is ambisyllabic: a boundary has to be one instant. Under the pure principle a single consonant always goes to
the right, also after a lax vowel ("butter" is BAH.TER). `lax_closing=True` instead closes an open syllable with
a lax (checked) vowel before an s-cluster: "asking" is then AES.KIHNG and not AE.SKIHNG. It is off by default: it needs
stress marks to tell the full vowel AH from schwa, and most aligners write none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from syllablelm.core.errors import InputError
from syllablelm.data.ipa import NUCLEUS, IpaPhone, Onsets, is_onset, plain_label, read_phone


@dataclass(frozen=True)
class Interval:
    """A labelled interval (phone, syllable or word) of a reference annotation, in seconds."""

    label: str
    start: float
    end: float


def _symbols(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _clusters(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(cluster.split()) for cluster in text.split(","))


VOWELS = _symbols("AA AE AH AO AW AX AXR AY EH ER EY IH IX IY OW OY UH UW UX")
SYLLABIC_CONSONANTS = _symbols("EL EM EN")
NUCLEI = VOWELS | SYLLABIC_CONSONANTS
CONSONANTS = _symbols("B CH D DH DX F G HH JH K L M N NG NX P Q R S SH T TH V W WH Y Z ZH")
LAX_VOWELS = _symbols("AE AH EH IH UH")

ONSETS = (
    frozenset((consonant,) for consonant in CONSONANTS - {"NG"})
    | _clusters("P L,P R,B L,B R,T R,D R,K L,K R,G L,G R,F L,F R,TH R,SH R,S L")  # obstruent + liquid
    | _clusters("T W,D W,K W,G W,TH W,S W,HH W")  # obstruent + /w/
    | _clusters("S P,S T,S K,S M,S N,S F")  # /s/ + consonant
    | _clusters("S P L,S P R,S T R,S K L,S K R,S K W")
)
# Onsets that need the diphthong /yu/, or what is left of it when unstressed, after them.
ONSETS_BEFORE_U = _clusters("P Y,B Y,F Y,V Y,M Y,K Y,G Y,HH Y,S P Y,S K Y")
_YU_ONSETS = ONSETS | ONSETS_BEFORE_U
YU_VOWELS = _symbols("UW UH UX AH ER AX AXR")

_PHONE = re.compile(r"([A-Z]+)([0-2]?)")


def split_stress(phone: str) -> tuple[str, str]:
    """Split an ARPAbet phone (or InputError) into upper-case symbol and stress digit ("" where there is none)."""
    match = _PHONE.fullmatch(phone.upper())
    if match is None or match[1] not in NUCLEI | CONSONANTS:
        raise InputError(f"phone {phone!r} is not ARPAbet; syllables are only defined for ARPAbet phones")
    return match[1], match[2]


def is_arpabet(phones: Sequence[str]) -> bool:
    """Return whether phones are in ARPAbet: one has a capital letter, which IPA has not, or all are of ARPAbet."""
    if any(re.search("[A-Z]", phone) for phone in phones):
        return True
    matches = [_PHONE.fullmatch(phone.upper()) for phone in phones]
    return all(match is not None and match[1] in NUCLEI | CONSONANTS for match in matches)


def syllabify(
    phones: Sequence[str], *, lax_closing: bool = False, onsets: Onsets | None = None, arpabet: bool | None = None
) -> list[tuple[int, int]]:
    """Divide one word into syllables.

    Args:
        phones: phones of the word in ARPAbet, with or without stress digits, or in IPA, without silences; InputError
            for others.
        lax_closing: give the S of an s-cluster to an open lax vowel before it ("as.king"); an AH marked
            unstressed is schwa and is left open. ARPAbet only.
        onsets: inventory of onsets, as `read_onsets` returns it; None divides by sonority. IPA only.
        arpabet: whether the phones are in ARPAbet; None tells it by `is_arpabet`.

    Returns:
        Half-open index pairs (start, end) that cover the phones in order. A word with nuclei has one syllable per
        nucleus; a word without ("hm") is one syllable; no phones, no syllables.
    """
    if is_arpabet(phones) if arpabet is None else arpabet:
        return _syllabify_arpabet(phones, lax_closing)
    return _syllabify_ipa([read_phone(phone) for phone in phones], onsets)


def _syllabify_ipa(phones: Sequence[IpaPhone], onsets: Onsets | None) -> list[tuple[int, int]]:
    if not phones:
        return []
    nuclei = [i for i, phone in enumerate(phones) if phone.sonority == NUCLEUS]
    starts = [0]
    for left, right in pairwise(nuclei):
        first = left + 1
        while first < right and not is_onset(tuple(phones[first:right]), onsets):
            first += 1
        starts.append(first)
    return list(zip(starts, [*starts[1:], len(phones)], strict=True))


def _syllabify_arpabet(phones: Sequence[str], lax_closing: bool) -> list[tuple[int, int]]:
    parts = [split_stress(phone) for phone in phones]
    symbols = [symbol for symbol, _ in parts]
    if not symbols:
        return []
    nuclei = [i for i, symbol in enumerate(symbols) if symbol in NUCLEI]
    starts = [0]
    for left, right in pairwise(nuclei):
        first = left + 1
        onsets = _YU_ONSETS if symbols[right] in YU_VOWELS else ONSETS
        while first < right and tuple(symbols[first:right]) not in onsets:
            first += 1
        lax = symbols[left] in LAX_VOWELS and parts[left] != ("AH", "0")
        if lax_closing and lax and first == left + 1 and right - first >= 2 and symbols[first] == "S":
            first += 1
        starts.append(first)
    return list(zip(starts, [*starts[1:], len(symbols)], strict=True))


def syllable_intervals(
    phones: Sequence[Interval],
    *,
    lax_closing: bool = False,
    onsets: Onsets | None = None,
    arpabet: bool | None = None,
) -> list[Interval]:
    """Return the syllables of one word, see `syllabify`; labels are the phones without stress, joined by "-"."""
    labels = [phone.label for phone in phones]
    arpabet = is_arpabet(labels) if arpabet is None else arpabet
    spans = syllabify(labels, lax_closing=lax_closing, onsets=onsets, arpabet=arpabet)
    symbols = [split_stress(label)[0] if arpabet else plain_label(label) for label in labels]
    return [Interval("-".join(symbols[a:b]), phones[a].start, phones[b - 1].end) for a, b in spans]
