"""Word and character error rates of transcripts, and the normalisation of texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from syllablelm.core.errors import InputError
from syllablelm.core.results import Estimate, Record
from syllablelm.evaluate.bootstrap import bootstrap_estimate
from syllablelm.evaluate.counts import Counts
from syllablelm.evaluate.edit_distance import edit_distance


@dataclass(frozen=True)
class TextNormalization(Record):
    """How texts are made comparable; the papers do not say how they do it, so a result does."""

    name: str = "plain"
    rule: str = "NFKC, lower case; letters, digits and apostrophes inside words; single spaces"


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
    """Return a text in lower case, with letters, digits and apostrophes only, and single spaces."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    words = re.sub(r"[^\w' ]|_", " ", plain).split()
    return " ".join(word.strip("'") for word in words if word.strip("'"))


def error_counts(reference: str, transcript: str) -> ErrorCounts:
    """Compare two texts after ``normalize_text``; InputError for a reference without a word."""
    reference, transcript = normalize_text(reference), normalize_text(transcript)
    if not reference:
        raise InputError("a reference text without a single word cannot be scored")
    words = reference.split()
    return ErrorCounts(
        edit_distance(words, transcript.split()), len(words), edit_distance(reference, transcript), len(reference)
    )
