"""Word and character error rates of a recogniser on original and resynthesised speech (Table 2)."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, MissingDependencyError
from syllablelm.evaluate.bootstrap import bootstrap_interval

Waveform = npt.NDArray[np.float32]
Speak = Callable[[list[Waveform]], list[Waveform]]
Hear = Callable[[Iterable[Waveform]], Iterator[str]]

# Recordings spoken as one batch.
SPOKEN_TOGETHER = 8

# The papers do not say how they normalise texts, so a result names what was done.
NORMALIZATION = {
    "name": "plain",
    "rule": "NFKC, lower case; letters, digits and apostrophes inside words; single spaces",
}


@dataclass(frozen=True)
class ErrorCounts:
    """Edits that turn references into what was heard; add those of utterances to get those of a corpus.

    Args:
        word_edits, words: substitutions, deletions and insertions; words of the reference.
        char_edits, chars: the same in characters, spaces among them.
    """

    word_edits: int = 0
    words: int = 0
    char_edits: int = 0
    chars: int = 0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.word_edits + other.word_edits,
            self.words + other.words,
            self.char_edits + other.char_edits,
            self.chars + other.chars,
        )

    @property
    def wer(self) -> float:
        """Word error rate; may exceed 1."""
        return self.word_edits / self.words if self.words else 0.0

    @property
    def cer(self) -> float:
        """Character error rate; may exceed 1."""
        return self.char_edits / self.chars if self.chars else 0.0


def normalize_text(text: str) -> str:
    """Lower case, letters, digits and apostrophes only, single spaces."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    words = re.sub(r"[^\w' ]|_", " ", plain).split()
    return " ".join(word.strip("'") for word in words if word.strip("'"))


def error_counts(reference: str, heard: str) -> ErrorCounts:
    """Compare two texts after ``normalize_text``.

    Raises:
        InputError: the reference has no word.
        MissingDependencyError: jiwer is not installed.
    """
    try:
        import jiwer
    except ImportError:
        raise MissingDependencyError("error rates need jiwer: pip install 'syllablelm[asr]'") from None
    reference, heard = normalize_text(reference), normalize_text(heard)
    if not reference:
        raise InputError("a reference text without a single word cannot be scored")
    words = jiwer.process_words(reference, heard)
    chars = jiwer.process_characters(reference, heard)
    return ErrorCounts(
        words.substitutions + words.deletions + words.insertions,
        words.hits + words.substitutions + words.deletions,
        chars.substitutions + chars.deletions + chars.insertions,
        chars.hits + chars.substitutions + chars.deletions,
    )


def compare_speech(
    items: Iterable[tuple[str, Waveform, str]], voices: Mapping[str, Speak], hear: Hear
) -> Iterator[dict[str, Any]]:
    """Have every recording spoken anew in several ways and recognised.

    Args:
        items: (id, waveform at 16 kHz, reference text) of each recording.
        voices: name -> function from recordings to what is recognised in their place, at 16 kHz.
        hear: from waveforms to what a recogniser hears in each, in their order; it may read ahead.

    Yields:
        per recording {"id", "reference", voice: {"heard": text, "counts": ErrorCounts}...}.
    """
    waiting: deque[tuple[str, str]] = deque()

    def spoken() -> Iterator[Waveform]:
        rest = iter(items)
        while group := list(islice(rest, SPOKEN_TOGETHER)):
            waiting.extend((name, text) for name, _, text in group)
            waves = [wave for _, wave, _ in group]
            for same in zip(*(speak(waves) for speak in voices.values()), strict=True):
                yield from same

    all_heard = map(normalize_text, hear(spoken()))
    while texts := list(islice(all_heard, len(voices))):
        name, text = waiting.popleft()
        rows = {
            voice: {"heard": heard, "counts": error_counts(text, heard)}
            for voice, heard in zip(voices, texts, strict=True)
        }
        yield {"id": name, "reference": normalize_text(text), **rows}


def rate_row(items: Sequence[ErrorCounts], *, resamples: int, seed: int) -> dict[str, Any]:
    """Counts and error rates of a corpus, with 95 % bootstrap intervals over its utterances."""
    total = sum(items, ErrorCounts())
    row: dict[str, Any] = {"wer": total.wer, "cer": total.cer}
    for name in ("wer", "cer"):
        low, high = bootstrap_interval(
            items, lambda counts, name=name: getattr(counts, name), resamples=resamples, seed=seed
        )
        row |= {f"{name}_low": low, f"{name}_high": high}
    counts = ("word_edits", "words", "char_edits", "chars")
    return row | {name: getattr(total, name) for name in counts}
