"""Pronouncing dictionaries and word counts."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from syllablelm.core.errors import FormatError, InputError, MissingDependencyError
from syllablelm.core.files import find_files, read_each, text_lines
from syllablelm.data.alignment import is_silence, read_alignments
from syllablelm.data.syllables import CONSONANTS, NUCLEI, split_stress
from syllablelm.formats.transcript import is_transcript, read_transcript

Phones = tuple[str, ...]
_VARIANT = re.compile(r"\(\d+\)$")
_TOKEN = re.compile(r"[a-z']+")
# Vowels that many speakers do not distinguish: strings that differ in them only may be homophones.
_MERGED = {"AO": "AA", "IH": "AH"}


@dataclass(frozen=True)
class Lexicon:
    """A pronouncing dictionary: ARPAbet pronunciations of each lower-case word, the usual one first."""

    entries: Mapping[str, tuple[Phones, ...]]

    @cached_property
    def spellings(self) -> dict[Phones, tuple[str, ...]]:
        """Words by their phones without stress."""
        found: dict[Phones, dict[str, None]] = {}
        for word, variants in self.entries.items():
            for phones in variants:
                found.setdefault(plain(phones), {})[word] = None
        return {phones: tuple(words) for phones, words in found.items()}

    @cached_property
    def sounds(self) -> frozenset[Phones]:
        """Sounds of all words, see `to_ear`."""
        return frozenset(to_ear(phones) for phones in self.spellings)


def plain(phones: Sequence[str]) -> Phones:
    """Return phones without their stress digits."""
    return tuple(phone.rstrip("012") for phone in phones)


def to_ear(phones: Sequence[str]) -> Phones:
    """Return phones without stress, with AO as AA and IH as AH: equal for possible homophones."""
    return tuple(_MERGED.get(phone, phone) for phone in plain(phones))


def default_dictionary() -> Path:
    """Return the path of the CMU dictionary in the package pocketsphinx; MissingDependencyError if it is not there."""
    spec = importlib.util.find_spec("pocketsphinx")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "model" / "en-us" / "cmudict-en-us.dict"
        if path.is_file():
            return path
    raise MissingDependencyError(
        "no pronouncing dictionary: pip install 'syllablelm[asr]' for the one in pocketsphinx, or give one with "
        "--dictionary"
    )


def read_dictionary(path: Path) -> Lexicon:
    """Read a dictionary in the format of CMUdict: ``WORD  P H O N E S``, variants as ``WORD(2)``, comments ``;;;``."""
    if not path.is_file():
        raise InputError(f"{path}: no such dictionary")
    entries: dict[str, list[Phones]] = {}
    for place, line in text_lines(path):
        if line.startswith(";;;") or not line.strip():
            continue
        word, *phones = line.split("#", 1)[0].split() if " #" in line else line.split()
        if not phones:
            raise FormatError(f"{place}: not a line 'WORD P H O N E S'")
        try:
            for phone in phones:
                split_stress(phone)
        except InputError as error:
            raise FormatError(f"{place}: {error}") from None
        entries.setdefault(_VARIANT.sub("", word).lower(), []).append(tuple(phone.upper() for phone in phones))
    if not entries:
        raise FormatError(f"{path}: an empty dictionary")
    return Lexicon({word: tuple(dict.fromkeys(variants)) for word, variants in entries.items()})


def read_spoken_dictionary(path: Path) -> Lexicon:
    """Return the dictionary of a corpus's alignments, the most frequent pronunciation first."""
    heard: dict[str, Counter[Phones]] = {}
    for alignment in read_alignments(path).values():
        for word in alignment.words:
            phones = tuple(phone.label.upper() for phone in word.phones if not is_silence(phone.label))
            if phones and all(phone in NUCLEI | CONSONANTS for phone in plain(phones)):
                heard.setdefault(word.label.lower(), Counter())[phones] += 1
    if not heard:
        raise FormatError(f"{path}: no words with ARPAbet phones")
    return Lexicon(
        {word: tuple(sorted(counts, key=lambda p: (-counts[p], p))) for word, counts in sorted(heard.items())}
    )


def count_words(paths: Iterable[Path]) -> Counter[str]:
    """Return the counts of lower-case words in text files, or in all ``.txt`` files of folders.

    The ids of LibriSpeech transcripts (``.trans.txt``) are not counted.
    """
    counts: Counter[str] = Counter()
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such text")
        files = find_files(path, (".txt",))
        for _, line in read_each(
            path, files, lambda file: (read_transcript if is_transcript(file) else text_lines)(file)
        ):
            counts.update(_TOKEN.findall(line.lower()))
    return counts
