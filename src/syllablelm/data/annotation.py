"""Words, phones and syllables of one recording, in seconds."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError
from syllablelm.data.ipa import Onsets
from syllablelm.data.syllables import Interval, is_arpabet, syllable_intervals

Level = Literal["syllable", "phone", "word"]

SILENCES = frozenset({"", "sil", "sp", "spn", "pau", "<eps>"})
# Aligners write times rounded to 1-10 ms: smaller overlaps are rounding, larger ones are faults.
TOLERANCE = 1e-3
# The last interval may be rounded up to the aligner's frame, past the end of the recording.
END_TOLERANCE = 0.025


def is_silence(label: str) -> bool:
    """Return whether a label stands for silence or noise: SIL, sil, sp, spn, pau, <eps> or empty."""
    return label.strip().lower() in SILENCES


@dataclass(frozen=True)
class Word:
    """A word with its phones, in seconds; `phones` is empty where they are unknown (an out-of-vocabulary word)."""

    label: str
    start: float
    end: float
    phones: tuple[Interval, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", unicodedata.normalize("NFC", self.label))


@dataclass(frozen=True)
class Alignment:
    """Words, in order and without silences, and phones of one recording of `duration` seconds.

    `own_syllables` are those that the annotation brings along; None divides its words (`divide`).

    Raises:
        FormatError: intervals are unsorted, overlap or leave their word by more than 1 ms, end before they start, or
            leave the recording by more than 25 ms.
    """

    id: str
    duration: float
    words: tuple[Word, ...] = ()
    own_syllables: tuple[Interval, ...] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration) and self.duration >= 0):
            raise FormatError(f"alignment of {self.id}: duration is {self.duration}")
        check_intervals("word", self.id, self.words, 0.0, self.duration + END_TOLERANCE)
        for word in self.words:
            check_intervals(f"phone of {word.label!r}", self.id, word.phones, word.start, word.end)
        check_intervals("syllable", self.id, self.own_syllables or (), 0.0, self.duration + END_TOLERANCE)

    @cached_property
    def phones(self) -> tuple[Interval, ...]:
        """The phones in order, without silences."""
        return tuple(phone for word in self.words for phone in word.phones if not is_silence(phone.label))

    @cached_property
    def syllables(self) -> tuple[Interval, ...]:
        """The syllables in order: those of the annotation, or else as `divide` returns them."""
        return self.divide() if self.own_syllables is None else self.own_syllables

    def divide(self, onsets: Onsets | None = None) -> tuple[Interval, ...]:
        """Return the syllables of each word, see `syllabify`; FormatError if a phone is neither ARPAbet nor IPA."""
        syllables: list[Interval] = []
        arpabet = is_arpabet([phone.label for phone in self.phones])
        for word in self.words:
            phones = [phone for phone in word.phones if not is_silence(phone.label)]
            try:
                syllables += syllable_intervals(phones, onsets=onsets, arpabet=arpabet)
            except InputError as error:
                raise FormatError(f"alignment of {self.id}, word {word.label!r}: {error}") from error
        return tuple(syllables)

    def intervals(self, level: Level = "syllable") -> tuple[Interval, ...]:
        """Return the intervals of one level: "syllable", "phone" or "word"."""
        if level == "word":
            return tuple(Interval(one.label, one.start, one.end) for one in self.words if not is_silence(one.label))
        if level in ("phone", "syllable"):
            return self.phones if level == "phone" else self.syllables
        raise InputError(f"unknown alignment level {level!r}; choose syllable, phone or word")

    def boundaries(self, level: Level = "syllable") -> npt.NDArray[np.float64]:
        """Return sorted unique starts and ends of one level in seconds; times within 1 ms count once."""
        intervals = self.intervals(level)
        return _distinct([time for interval in intervals for time in (interval.start, interval.end)])

    def starts(self, level: Level = "syllable") -> npt.NDArray[np.float64]:
        """Return sorted starts of one level in seconds; times within 1 ms count once."""
        return _distinct([interval.start for interval in self.intervals(level)])


def _distinct(times: Iterable[float]) -> npt.NDArray[np.float64]:
    distinct: list[float] = []
    for time in sorted(times):
        if not distinct or time - distinct[-1] >= TOLERANCE:
            distinct.append(time)
    return np.array(distinct, dtype=np.float64)


def check_intervals(kind: str, name: str, intervals: Sequence[Interval | Word], low: float, high: float) -> None:
    """Raise FormatError, naming the interval, unless the intervals are sorted, disjoint and within [low, high]."""
    previous = Interval("", low, low)
    for interval in intervals:
        where = f"alignment of {name}: {kind} {show_interval(interval)}"
        if not (math.isfinite(interval.start) and math.isfinite(interval.end)):
            raise FormatError(f"{where} has a time that is not a number")
        if interval.end < interval.start:
            raise FormatError(f"{where} ends before it starts")
        if interval.start < low - TOLERANCE or interval.end > high + TOLERANCE:
            raise FormatError(f"{where} lies outside of {low:.3f}-{high:.3f} s")
        if interval.start < previous.end - TOLERANCE:
            raise FormatError(f"{where} overlaps {show_interval(previous)}; intervals must be sorted and disjoint")
        previous = interval


def show_interval(interval: Interval | Word) -> str:
    """Return label and times of an interval, for messages."""
    return f"{interval.label!r} {interval.start:.3f}-{interval.end:.3f}"
