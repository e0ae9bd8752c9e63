"""open-wordlist: spoken words against non-words derived from them, in several voices, by frequency."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from syllablelm.core.errors import InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.data.syllables import NUCLEI
from syllablelm.itemsets.nonwords import NonWord, Phonotactics, make_nonword
from syllablelm.itemsets.phone_voice import PhoneEspeak, PhoneFlite
from syllablelm.itemsets.pronunciations import (
    Lexicon,
    Phones,
    count_words,
    default_dictionary,
    plain,
    read_dictionary,
    read_spoken_dictionary,
    to_ear,
)
from syllablelm.itemsets.speak import Clip, ItemSet, Source, SpokenSet, prepare_set

NAME = "open-wordlist"
COLUMNS = ("frequency", "word", "phones", "length")
CMUDICT_LICENCE = "CMU Pronouncing Dictionary: BSD-2-Clause (Carnegie Mellon University)"
# First count of each frequency band; words that the text lacks are the first band.
BANDS = (0, 1, 6, 21, 101)
# Three letters at least, and hardly more phones than letters: not an abbreviation that is spelled out.
_WORD = re.compile(r"[a-z]{3,}")
_PHONES = (3, 12)

FindStress = Callable[[str, Phones], "Phones | None"]


@dataclass(frozen=True)
class WordPair:
    """A word, its phones with stress, its count in a text (None: not counted), and its non-word."""

    word: str
    phones: Phones
    frequency: int | None
    nonword: NonWord


def prepare_wordlist(
    out: str | Path,
    *,
    dictionary: str | Path | None = None,
    alignments: str | Path | None = None,
    text: Sequence[str | Path] = (),
    pairs: int = 1000,
    licence: str | None = None,
    seed: int = 0,
    engine: Literal["flite", "espeak-ng"] = "flite",
    **speech: Any,
) -> SpokenSet:
    """Speak words and non-words like them into a folder for ``evaluate lexical``, or resume one.

    Args:
        out: folder of the set.
        dictionary: pronouncing dictionary in the format of CMUdict; None for the one in pocketsphinx.
        alignments: alignments of a corpus whose words and phones are the dictionary instead.
        text: text files or folders in which words are counted; without them words are drawn evenly.
        pairs, seed: as in `make_wordlist`.
        licence: licence of the texts and of a dictionary given.
        engine: speech engine, told phones. Where the dictionary has no stress, it is flite's in any case.
        speech: arguments of `prepare_set`: voices, workers, audio_format.

    Raises:
        InputError: both a dictionary and alignments, no usable word, no such file, or as `speak_set`.
    """
    if dictionary is not None and alignments is not None:
        raise InputError("--dictionary and --alignments: give one of them")
    given = alignments or dictionary
    path = Path(given) if given else default_dictionary()
    lexicon = read_spoken_dictionary(path) if alignments else read_dictionary(path)
    licence = licence or "not given"
    texts = [Path(file) for file in text]
    sources = [Source.of(path, licence if given else CMUDICT_LICENCE), *(Source.of(file, licence) for file in texts)]
    counts = count_words(texts) if texts else None
    flite = PhoneFlite()
    flite.check(flite.reader)

    def make(voices: Sequence[str]) -> ItemSet:
        find_stress = partial(flite.find_stress, voice=voices[0] if engine == "flite" else flite.reader[0])
        return make_wordlist(lexicon, counts, find_stress, sources, voices=voices, pairs=pairs, seed=seed)

    return prepare_set(make, out, engine=flite if engine == "flite" else PhoneEspeak(), **speech)


def make_wordlist(
    lexicon: Lexicon,
    counts: Mapping[str, int] | None,
    find_stress: FindStress,
    sources: Sequence[Source],
    *,
    voices: Sequence[str],
    pairs: int = 1000,
    seed: int = 0,
) -> ItemSet:
    """Draw words and derive a non-word from each; InputError if no word of the dictionary can be used.

    Args:
        lexicon, sources: pronouncing dictionary, and sources of dictionary and counts.
        counts: counts of words in a text; the same number of words is drawn from each band of frequency. None: words
            are drawn evenly and the gold list leaves their frequency empty.
        find_stress: function of a word and its phones without stress that returns them with stress, or None to skip it.
        voices, seed: voices, each pair is spoken by all of them, and random seed.
        pairs: number of pairs; fewer if the dictionary has no more.
    """
    with ProgressBar("non-words", pairs, closing_line=False) as bar:
        found = draw_pairs(lexicon, counts, find_stress, pairs=pairs, seed=seed, progress=bar.advance)
    if not found:
        raise InputError("no word of the dictionary can be used: 3 to 12 phones, letters a-z, a non-word like it")
    differences = np.array([pair.nonword.difference for pair in found])
    measures: dict[str, Any] = {
        "score_difference": float(differences.mean()),
        "score_distance": float(np.abs(differences).mean()),
        "score_bias": float(np.where(differences == 0, 0.5, differences < 0).mean()),
    }
    if counts is not None:
        measures["bands"] = dict(sorted(Counter(_band(pair.frequency) for pair in found).items()))
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
    waiting = {
        band: [words[i] for i in rng.permutation(len(words))] for band, words in _by_band(lexicon, counts).items()
    }
    found: list[WordPair] = []
    sounds: set[Phones] = set()
    taken: set[Phones] = set()
    while len(found) < pairs and waiting:
        # One of each band in turn, so that the others make up for a band that is exhausted.
        for band in list(waiting):
            if len(found) == pairs:
                break
            pair = None
            while pair is None and waiting[band]:
                word, frequency = waiting[band].pop()
                phones: Phones | None = lexicon.entries[word][0]
                if plain(phones) in sounds:
                    continue  # a homophone of a word drawn before
                phones = phones if phones != plain(phones) else find_stress(word, phones)
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
    """Return the usable words by band of frequency."""
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


def _clips(number: int, pair: WordPair, voice: str) -> tuple[Clip, Clip]:
    frequency = "" if pair.frequency is None else str(pair.frequency)

    def clip(kind: str, word: str, phones: Phones) -> Clip:
        about = {"frequency": frequency, "word": word, "phones": " ".join(plain(phones)), "length": len(phones)}
        return Clip(f"{number:05d}-{voice}-{kind}", f"{number:05d}", kind == "word", voice, " ".join(phones), about)

    return clip("word", pair.word, pair.phones), clip("nonword", f"({pair.word})", pair.nonword.phones)
