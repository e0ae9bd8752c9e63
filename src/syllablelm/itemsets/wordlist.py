"""open-wordlist: spoken words against non-words made from them, in several voices, by frequency."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from syllablelm.core.errors import InputError
from syllablelm.data.syllables import NUCLEI
from syllablelm.itemsets.nonwords import NonWord, Phonotactics, make_nonword
from syllablelm.itemsets.pronunciations import Lexicon, Phones, plain, to_ear
from syllablelm.itemsets.speak import Clip, ItemSet, Source

NAME = "open-wordlist"
COLUMNS = ("frequency", "word", "phones", "length")
# First count of each frequency band; words that the text lacks are the first band.
BANDS = (0, 1, 6, 21, 101)
# Three letters at least, and hardly more phones than letters: not an abbreviation that is spelled out.
_WORD = re.compile(r"[a-z]{3,}")
_PHONES = (3, 12)

FindStress = Callable[[str, Phones], "Phones | None"]


@dataclass(frozen=True)
class WordPair:
    """A word, its phones with stress, how often it occurs (None: not counted), and its non-word."""

    word: str
    phones: Phones
    frequency: int | None
    nonword: NonWord


def make_wordlist(
    lexicon: Lexicon,
    counts: Mapping[str, int] | None,
    find_stress: FindStress,
    sources: Sequence[Source],
    *,
    voices: Sequence[str],
    pairs: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> ItemSet:
    """Draw words and make a non-word for each.

    Args:
        lexicon: the pronouncing dictionary.
        counts: how often words occur in a text; the same number of words is drawn from each band of frequency. None:
            words are drawn evenly and the gold list leaves their frequency empty.
        find_stress: the stress of a word whose dictionary has none, or None to pass it over.
        sources: what dictionary and counts are from.
        voices: that each pair is spoken by.
        pairs: how many to make; fewer if the dictionary has no more.
        seed: of words and non-words.
        progress: told how many more pairs are made.

    Raises:
        InputError: no word of the dictionary can be used.
    """
    found = draw_pairs(lexicon, counts, find_stress, pairs=pairs, seed=seed, progress=progress)
    if not found:
        raise InputError("no word of the dictionary can be used: 3 to 12 phones, letters a-z, a non-word like it")
    differences = np.array([pair.nonword.difference for pair in found])
    measures = {
        "score_difference": float(differences.mean()),
        "score_distance": float(np.abs(differences).mean()),
        "score_bias": float(np.where(differences == 0, 0.5, differences < 0).mean()),
        "bands": dict(sorted(Counter(_band(pair.frequency) for pair in found).items())) if counts is not None else None,
    }
    options = {"pairs": pairs, "seed": seed}
    clips = tuple(clip for i, pair in enumerate(found) for voice in voices for clip in _clips(i, pair, voice))
    return ItemSet(NAME, "lexical/dev", COLUMNS, clips, tuple(sources), options, measures)


def draw_pairs(
    lexicon: Lexicon,
    counts: Mapping[str, int] | None,
    find_stress: FindStress,
    *,
    pairs: int,
    seed: int,
    progress: Callable[[int], None] = lambda count: None,
) -> list[WordPair]:
    """See `make_wordlist`."""
    rng = np.random.default_rng(seed)
    phonotactics = Phonotactics(lexicon)
    waiting = {band: _shuffled(words, rng) for band, words in _by_band(lexicon, counts).items()}
    found: list[WordPair] = []
    sounds: set[Phones] = set()
    taken: set[Phones] = set()
    while len(found) < pairs and waiting:
        # One of each band in turn, so that a band that runs dry is made up for by the others.
        for band in list(waiting):
            if len(found) == pairs:
                break
            pair = None
            while pair is None and waiting[band]:
                word, frequency = waiting[band].pop()
                if plain(lexicon.entries[word][0]) in sounds:
                    continue  # a homophone of a word that is drawn already
                phones = _stressed(word, lexicon, find_stress)
                nonword = make_nonword(phones, phonotactics, lexicon, taken, rng) if phones else None
                if phones and nonword:
                    pair = WordPair(word, phones, frequency, nonword)
            if pair is None:
                del waiting[band]
                continue
            sounds.add(plain(pair.phones))
            taken.add(to_ear(pair.nonword.phones))
            found.append(pair)
            progress(1)
    return found


def _by_band(lexicon: Lexicon, counts: Mapping[str, int] | None) -> dict[str, list[tuple[str, int | None]]]:
    """Usable words by band of frequency."""
    bands: dict[str, list[tuple[str, int | None]]] = {}
    for word, variants in sorted(lexicon.entries.items()):
        phones = plain(variants[0])
        usable = _PHONES[0] <= len(phones) <= min(_PHONES[1], len(word) + 1) and not NUCLEI.isdisjoint(phones)
        if not usable or not _WORD.fullmatch(word):
            continue
        # A listener does not know the spelling: homophones are one word.
        frequency = None if counts is None else sum(counts.get(other, 0) for other in lexicon.spellings[phones])
        bands.setdefault(_band(frequency), []).append((word, frequency))
    return bands


def _band(frequency: int | None) -> str:
    if frequency is None:
        return "all"
    for low, high in pairwise(BANDS):
        if frequency < high:
            return str(low) if high == low + 1 else f"{low}-{high - 1}"
    return f">{BANDS[-1] - 1}"


def _shuffled(words: Sequence[tuple[str, int | None]], rng: np.random.Generator) -> list[tuple[str, int | None]]:
    return [words[i] for i in rng.permutation(len(words))]


def _stressed(word: str, lexicon: Lexicon, find_stress: FindStress) -> Phones | None:
    phones = lexicon.entries[word][0]
    return phones if phones != plain(phones) else find_stress(word, phones)


def _clips(number: int, pair: WordPair, voice: str) -> tuple[Clip, Clip]:
    frequency = "" if pair.frequency is None else str(pair.frequency)

    def clip(kind: str, word: str, phones: Phones) -> Clip:
        about = {"frequency": frequency, "word": word, "phones": " ".join(plain(phones)), "length": len(phones)}
        return Clip(f"{number:05d}-{voice}-{kind}", f"{number:05d}", kind == "word", voice, " ".join(phones), about)

    return clip("word", pair.word, pair.phones), clip("nonword", f"({pair.word})", pair.nonword.phones)
