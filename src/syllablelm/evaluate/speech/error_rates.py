"""Word and character error rates of transcripts, and the normalisation of texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from syllablelm.core.errors import InputError
from syllablelm.core.results import Estimate, Record
from syllablelm.evaluate.bootstrap import bootstrap_estimate
from syllablelm.evaluate.counts import Counts
from syllablelm.evaluate.edit_distance import edit_distance
from syllablelm.evaluate.speech import Normalization
from syllablelm.evaluate.speech.recognizers import split_language

NormalizeText = Callable[[str], str]


@dataclass(frozen=True)
class TextNormalization(Record):
    """How texts are made comparable; the papers do not say how they do it, so a result does."""

    name: Normalization = "plain"
    rule: str = "NFKC, lower case; letters with their marks, digits and apostrophes inside words; single spaces"


NORMALIZATIONS = {
    "plain": TextNormalization(),
    "english": TextNormalization(
        "english",
        "Whisper's English rule: numbers as digits, contractions and titles in full, no fillers (uh), nothing in "
        "brackets; spelling as it is",
    ),
}
"""Rules by name."""


@dataclass(frozen=True)
class ErrorCounts(Counts):
    """Edits that turn references into transcripts; add those of recordings to get those of a corpus.

    Args:
        word_edits, words: substitutions, deletions and insertions; words of the reference.
        char_edits, chars: the same in characters, spaces among them.
    """

    word_edits: int = 0
    words: int = 0
    char_edits: int = 0
    chars: int = 0

    @property
    def wer(self) -> float:
        """Word error rate; may exceed 1."""
        return self.word_edits / self.words if self.words else 0.0

    @property
    def cer(self) -> float:
        """Character error rate; may exceed 1."""
        return self.char_edits / self.chars if self.chars else 0.0


@dataclass(frozen=True)
class ErrorRates(Record):
    """Error rates of a corpus with 95 % bootstrap intervals over recordings, and their counts as in `ErrorCounts`."""

    wer: Estimate
    cer: Estimate
    word_edits: int
    words: int
    char_edits: int
    chars: int

    @classmethod
    def of(cls, items: Sequence[ErrorCounts], *, resamples: int, seed: int) -> ErrorRates:
        """Return the error rates of recordings together."""
        wer = bootstrap_estimate(items, lambda counts: counts.wer, resamples=resamples, seed=seed)
        cer = bootstrap_estimate(items, lambda counts: counts.cer, resamples=resamples, seed=seed)
        return cls(wer, cer, **vars(ErrorCounts.merge(items)))


def normalize_text(text: str) -> str:
    """Return a text in lower case, with letters and their marks, digits and apostrophes only, and single spaces.

    Characters without a shape (joiners, directions of writing, soft hyphens) are dropped. Texts without spaces between
    words (Chinese, Japanese, Thai) are one word: their character error rate counts.
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    kinds = [unicodedata.category(char) for char in plain]
    kept = (
        char if char.isalnum() or char == "'" or kind[0] == "M" else "" if kind == "Cf" else " "
        for char, kind in zip(plain, kinds, strict=True)
    )
    words = "".join(kept).split()
    return " ".join(word.strip("'") for word in words if word.strip("'"))


def text_normalizer(name: Normalization) -> NormalizeText:
    """Return the function of a rule in ``NORMALIZATIONS``; an InputError for another name.

    "english" is ``EnglishTextNormalizer`` of transformers, Whisper's own (Radford et al. 2022, appendix C), without its
    table of British spellings, which no package brings along.
    """
    if name == "plain":
        return normalize_text
    if name not in NORMALIZATIONS:
        raise InputError(f"normalization {name!r}: choose {' or '.join(NORMALIZATIONS)}")
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    english = EnglishTextNormalizer({})
    # It knows the straight apostrophe alone.
    return lambda text: english(text.replace("\u2019", "'")).strip()


def check_rule(name: Normalization, recognizers: Sequence[str]) -> None:
    """Raise InputError where the English rule would meet transcripts in another language ("base:es")."""
    other = [one for one in recognizers if split_language(one)[1] != "en"]
    if name == "english" and other:
        raise InputError(f"--normalization english: {other[0]} hears another language; give --normalization plain")


def error_counts(reference: str, transcript: str) -> ErrorCounts:
    """Compare two normalised texts; InputError for a reference without a word."""
    if not reference:
        raise InputError("a reference text without a single word cannot be scored")
    words = reference.split()
    return ErrorCounts(
        edit_distance(words, transcript.split()), len(words), edit_distance(reference, transcript), len(reference)
    )
