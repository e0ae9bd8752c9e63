"""Syllables against hand-made syllabifications, a slow oracle and the properties of the definition."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllablelm.core.errors import InputError
from syllablelm.data.syllables import (
    CONSONANTS,
    NUCLEI,
    ONSETS,
    ONSETS_BEFORE_U,
    Interval,
    split_stress,
    syllabify,
    syllable_intervals,
)

# Syllabified by hand from the CMU-style pronunciation; the dots are the expected boundaries.
# The principle knows no morphemes: "north.anger" and "mid.wife" are cut by sound.
WORDS = """
the: DH AH; hm: HH M; strength: S T R EH NG K TH; ski: S K IY; texts: T EH K S T S; butter: B AH . T ER;
asking: AE . S K IH NG; extra: EH K . S T R AH; abstract: AE B . S T R AE K T; athlete: AE TH . L IY T;
atlas: AE T . L AH S; onion: AH N . Y AH N; million: M IH L . Y AH N; volume: V AA L . Y UW M; value: V AE L . Y UW;
menu: M EH N . Y UW; wednesday: W EH N Z . D EY; regular: R EH . G Y AH . L ER; figure: F IH . G Y ER;
backyard: B AE K . Y AA R D; computer: K AH M . P Y UW . T ER; askew: AH . S K Y UW; humour: HH Y UW . M ER;
secure: S IH . K Y UH R; singer: S IH NG . ER; finger: F IH NG . G ER; singing: S IH NG . IH NG;
vision: V IH . ZH AH N; measure: M EH . ZH ER; exclaim: IH K . S K L EY M; explain: IH K . S P L EY N;
express: IH K . S P R EH S; inscribe: IH N . S K R AY B; square: S K W EH R; tranquil: T R AE NG . K W AH L;
instruct: IH N . S T R AH K T; construct: K AH N . S T R AH K T; monster: M AA N . S T ER; country: K AH N . T R IY;
hundred: HH AH N . D R AH D; children: CH IH L . D R AH N; april: EY . P R AH L; metric: M EH . T R IH K;
public: P AH . B L IH K; problem: P R AA . B L AH M; history: HH IH . S T ER . IY; mister: M IH . S T ER;
asthma: AE Z . M AH; asphalt: AE . S F AO L T; atmosphere: AE T . M AH . S F IH R; island: AY . L AH N D;
idea: AY . D IY . AH; chaos: K EY . AA S; piano: P IY . AE . N OW; hurry: HH ER . IY; away: AH . W EY;
always: AO L . W EY Z; beyond: B IY . AA N D; lawyer: L AO . Y ER; equal: IY . K W AH L; anguish: AE NG . G W IH SH;
midwife: M IH . D W AY F; southwest: S AW . TH W EH S T; bathroom: B AE . TH R UW M; mushroom: M AH . SH R UW M;
everything: EH V . R IY . TH IH NG; ovaltine: OW . V AH L . T IY N; every: EH V . R IY; admire: AE D . M AY R;
captain: K AE P . T AH N; doctor: D AA K . T ER; vodka: V AA D . K AH; pumpkin: P AH M P . K AH N;
handkerchief: HH AE NG . K ER . CH IH F; bottling: B AA T . L IH NG; sixteen: S IH K . S T IY N;
subtle: S AH . T AH L; bottle: B AA . T EL; button: B AH . T EN; northanger: N AO R . TH AE NG . G ER;
opportunity: AA . P ER . T UW . N AH . T IY; syllable: S IH . L AH . B AH L
"""

phone_lists = st.lists(st.sampled_from(sorted(NUCLEI | CONSONANTS)), max_size=14)


def dotted(phones: list[str], **options: bool) -> str:
    return " . ".join(" ".join(phones[start:end]) for start, end in syllabify(phones, **options))


def test_words() -> None:
    expected = {word: syllables for word, syllables in (entry.strip().split(": ") for entry in WORDS.split(";"))}
    assert len(expected) > 80
    assert {word: dotted(syllables.replace(". ", "").split()) for word, syllables in expected.items()} == expected


@pytest.mark.parametrize(
    ("plain", "closed"),
    [
        ("AE1 . S K IH0 NG", "AE1 S . K IH0 NG"),
        ("AE . S K IH NG", "AE S . K IH NG"),
        ("D AH1 . S T ER0", "D AH1 S . T ER0"),
        ("AH0 . S T AA1 . N IH0 SH", "AH0 . S T AA1 . N IH0 SH"),  # schwa stays open
        ("IY1 . S T ER0", "IY1 . S T ER0"),  # tense
        ("M EH1 . T R IH0 K", "M EH1 . T R IH0 K"),  # no s-cluster
        ("L EH1 . S AH0 N", "L EH1 . S AH0 N"),  # no cluster
        ("EH1 K . S T R AH0", "EH1 K . S T R AH0"),  # closed already
    ],
)
def test_lax_closing(plain: str, closed: str) -> None:
    phones = plain.replace(". ", "").split()
    assert dotted(phones) == plain
    assert dotted(phones, lax_closing=True) == closed


def test_stress_and_case_do_not_move_boundaries() -> None:
    for phones in (["EH1", "K", "S", "T", "R", "AH0"], ["eh", "k", "s", "t", "r", "ah"]):
        assert syllabify(phones) == [(0, 2), (2, 6)]
    assert split_stress("ah0") == ("AH", "0")


def test_no_phones() -> None:
    assert syllabify([]) == []


@pytest.mark.parametrize("phone", ["ɐ", "SIL", "", "AH3", "KK"])
def test_foreign_phone(phone: str) -> None:
    with pytest.raises(InputError, match="ARPAbet"):
        syllabify(["K", phone])


@given(phone_lists)
def test_syllables_cover_the_word_and_have_one_nucleus(phones: list[str]) -> None:
    spans = syllabify(phones)
    assert [phone for start, end in spans for phone in phones[start:end]] == phones
    counts = [sum(phone in NUCLEI for phone in phones[start:end]) for start, end in spans]
    vowels = sum(phone in NUCLEI for phone in phones)
    assert counts == ([1] * vowels if vowels else [0] * bool(phones))


@given(phone_lists)
def test_onsets_are_legal_and_maximal(phones: list[str]) -> None:
    """Oracle by definition: every split of the consonants is tried, the longest legal onset must have won."""
    spans = syllabify(phones)
    nuclei = [i for i, phone in enumerate(phones) if phone in NUCLEI]
    for (_, cut), (left, right) in zip(spans, pairwise(nuclei), strict=False):
        legal = []
        for split in range(left + 1, right + 1):
            onset = tuple(phones[split:right])
            before_u = phones[right] in {"UW", "UH", "UX", "AH", "ER", "AX", "AXR"}
            if not onset or onset in ONSETS or (before_u and onset in ONSETS_BEFORE_U):
                legal.append(split)
        assert cut == min(legal)


@given(phone_lists)
def test_lax_closing_moves_at_most_one_s(phones: list[str]) -> None:
    plain, closed = syllabify(phones), syllabify(phones, lax_closing=True)
    for (start, _), (other, _) in zip(plain, closed, strict=True):
        assert other - start in (0, 1)
        assert other == start or phones[start] == "S"


def test_intervals() -> None:
    phones = [Interval("B", 0.0, 0.1), Interval("AH1", 0.1, 0.2), Interval("T", 0.25, 0.3), Interval("ER0", 0.3, 0.5)]
    assert syllable_intervals(phones) == [Interval("B-AH", 0.0, 0.2), Interval("T-ER", 0.25, 0.5)]
    assert syllable_intervals([]) == []
