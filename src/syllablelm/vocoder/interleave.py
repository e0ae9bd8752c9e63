"""Interleaved streams of syllable and acoustic units in temporal order (section 4.2; ELLA-V, Song et al. 2024).

Both are deduplicated; syllables keep their numbers, acoustic units follow. There are two orders:

    time     s1 a a a s2 a a ...             a syllable enters when it is due; its time tells where it ends
    ella-v   s1 s2 .. P s1 a a a E s2 a a E .. Z    the paper's: all syllables first and P, then each syllable with its
                                             acoustic units and E (end of syllable); Z at the end
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.store import Interleaving, TokenInfo, token_frames

IntArray = npt.NDArray[np.int32]

# Syllables are shifted earlier, so that a syllable precedes its acoustic units (section 4.2).
LEAD_SECONDS = 0.08


@dataclass(frozen=True)
class StreamInfo:
    """The two vocabularies of an interleaved stream.

    Args:
        syllables, acoustic: numbers of syllable and of acoustic units.
        hop, sample_rate: samples per frame of the acoustic units, the unit of durations, and per second.
        syllable_hop: samples per frame of the syllables.
        tokenizer, acoustic_units: digests of the tokenizer of the syllables and of the acoustic units; "" if unknown.
        interleaving: "time" or "ella-v", see the module.
    """

    syllables: int
    acoustic: int
    hop: int = 320
    sample_rate: int = 16_000
    syllable_hop: int = 320
    tokenizer: str = ""
    acoustic_units: str = ""
    interleaving: Interleaving = "time"

    @property
    def has_ends(self) -> bool:
        """Whether each syllable has an end token ("ella-v")."""
        return self.interleaving == "ella-v"

    @property
    def prefix_end(self) -> int:
        """Token after the prefix of syllables ("ella-v")."""
        return self.syllables

    @property
    def first_acoustic(self) -> int:
        """Token of acoustic unit 0."""
        return self.syllables + self.has_ends

    @property
    def syllable_end(self) -> int:
        """Token after the acoustic units of a syllable ("ella-v"); the end of the stream is the next one."""
        return self.first_acoustic + self.acoustic

    @property
    def tokens(self) -> TokenInfo:
        """Description of the joint tokens; acoustic tokens and ends have a loss, syllables have none."""
        return TokenInfo(
            self.syllable_end + 2 * self.has_ends,
            self.first_acoustic,
            self.hop,
            self.sample_rate,
            self.tokenizer,
            self.syllable_hop,
            acoustic_units=self.acoustic_units,
            interleaving=self.interleaving,
        )

    @classmethod
    def of_tokens(cls, info: TokenInfo) -> StreamInfo:
        """Return the two vocabularies of joint tokens; a FormatError for tokens of another kind."""
        special = info.interleaving == "ella-v"
        syllables, acoustic = info.loss_from - special, info.num_tokens - info.loss_from - 2 * special
        if min(syllables, acoustic, info.syllable_hop) < 1:
            raise FormatError("a language model of plain units, not of an interleaved stream")
        grids = info.hop, info.sample_rate, info.syllable_hop
        return cls(syllables, acoustic, *grids, info.tokenizer, info.acoustic_units, info.interleaving)

    @property
    def lead(self) -> int:
        """``LEAD_SECONDS`` in samples."""
        return round(LEAD_SECONDS * self.sample_rate)

    def check(self, syllables: Segmentation, acoustic: Segmentation | None, name: str) -> None:
        """Refuse units of other vocabularies or grids with an InputError that names the recording."""
        for kind, seg, count, hop in (
            ("syllable", syllables, self.syllables, self.syllable_hop),
            ("acoustic", acoustic, self.acoustic, self.hop),
        ):
            if seg is None:
                continue
            if seg.unit is None or (len(seg) and int(seg.unit.max()) >= count):
                raise InputError(f"{name}: its {kind} units are missing or outside the vocabulary of {count}")
            if (seg.hop, seg.sample_rate) != (hop, self.sample_rate):
                raise InputError(
                    f"{name}: {kind} frames of {seg.hop} samples at {seg.sample_rate} Hz; "
                    f"this model takes {hop} at {self.sample_rate}"
                )


def due_times(syllables: Segmentation, info: StreamInfo) -> npt.NDArray[np.int64]:
    """Return the (num_segments,) samples at which each syllable enters the stream, at least 0."""
    return np.maximum(syllables.start.astype(np.int64) * info.syllable_hop - info.lead, 0)


def interleave(syllables: Segmentation, acoustic: Segmentation, info: StreamInfo) -> tuple[IntArray, IntArray]:
    """Interleave the units of one recording by time; a syllable precedes acoustic units of the same time.

    Returns:
        tokens (n,) and their frames (n,): those of acoustic tokens, 0 for all others.
    """
    empty = np.zeros(0, dtype=np.int32)
    return next(interleave_pieces(syllables, acoustic, info), (empty, empty))


def interleave_pieces(
    syllables: Segmentation,
    acoustic: Segmentation,
    info: StreamInfo,
    *,
    crop_seconds: float = float("inf"),
    row_tokens: int | None = None,
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the streams of a recording, see ``interleave``: one of all of it, or one of each piece.

    Args:
        crop_seconds, row_tokens: maximum length of a piece in seconds and tokens. "ella-v" is cut before it
            is interleaved, since the prefix holds the syllables of the piece; "time" is cropped in training.
    """
    info.check(syllables, acoustic, "recording")
    syllables, acoustic = syllables.deduplicate(), acoustic.deduplicate()
    if syllables.unit is None or acoustic.unit is None:
        raise InputError("an interleaved stream needs units on both sides")
    times, starts = due_times(syllables, info), acoustic.start.astype(np.int64) * info.hop
    heard, frames = acoustic.unit + info.first_acoustic, token_frames(acoustic)
    if not info.has_ends:
        # Syllables come first in the arrays, and a stable sort keeps them first at equal times.
        order = np.argsort(np.concatenate([times, starts]), kind="stable")
        tokens = np.concatenate([syllables.unit, heard])[order].astype(np.int32)
        yield tokens, np.concatenate([np.zeros_like(syllables.start), frames])[order].astype(np.int32)
        return
    if len(syllables) == 0:
        return
    # What precedes the first syllable belongs to it too.
    owner = np.searchsorted(times[1:], starts, side="right")
    lengths = np.bincount(owner, frames, len(times))
    # A syllable also stands in the prefix, and has an end.
    sizes = 3 + np.bincount(owner, minlength=len(times))
    units, silent = syllables.unit.astype(np.int32), np.zeros_like(syllables.start)
    for first, last in _cut(sizes, lengths, row_tokens or np.inf, crop_seconds * info.sample_rate / info.hop):
        piece, own, numbers = slice(first, last), slice(*np.searchsorted(owner, [first, last])), np.arange(first, last)
        order = np.argsort(np.concatenate([3 * numbers, 3 * owner[own] + 1, 3 * numbers + 2]), kind="stable")
        ends = np.full(last - first, info.syllable_end)
        tokens = np.concatenate([units[piece], heard[own], ends])[order]
        lasts = np.concatenate([silent[piece], frames[own], silent[piece]])[order]
        yield (
            np.concatenate([units[piece], [info.prefix_end], tokens, [info.syllable_end + 1]]).astype(np.int32),
            np.concatenate([silent[piece], [0], lasts, [0]]).astype(np.int32),
        )


def _cut(
    sizes: npt.NDArray[Any], lengths: npt.NDArray[Any], most_tokens: float, most_frames: float
) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of runs of at least one syllable within the limits, which the two single tokens count to."""
    first, size, length = 0, 2, 0.0
    for at, (tokens, frames) in enumerate(zip(sizes.tolist(), lengths.tolist(), strict=True)):
        if at > first and (size + tokens > most_tokens or length + frames > most_frames):
            yield first, at
            first, size, length = at, 2, 0.0
        size, length = size + tokens, length + frames
    yield first, len(sizes)


def interleaved_rows(
    items: Iterable[tuple[str, Segmentation, Segmentation]], info: StreamInfo, **limits: Any
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the training tokens of a vocoder LM, and their frames, from (id, syllables, acoustic units) of recordings.

    ``limits`` are those of ``interleave_pieces``.
    """
    for name, syllables, acoustic in items:
        info.check(syllables, acoustic, name)
        yield from interleave_pieces(syllables, acoustic, info, **limits)
