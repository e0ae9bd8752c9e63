"""Interleaved streams of syllable and acoustic units in temporal order (section 4.2; ELLA-V, Song et al. 2024).

Syllables keep their numbers, acoustic unit a becomes token ``num_syllables + a``. Both are deduplicated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.store import TokenInfo, TokenStore, token_frames

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
    """

    syllables: int
    acoustic: int
    hop: int = 320
    sample_rate: int = 16_000
    syllable_hop: int = 320
    tokenizer: str = ""
    acoustic_units: str = ""

    @property
    def tokens(self) -> TokenInfo:
        """Description of the joint tokens; only acoustic tokens have a loss."""
        return TokenInfo(
            self.syllables + self.acoustic,
            self.syllables,
            self.hop,
            self.sample_rate,
            self.tokenizer,
            self.syllable_hop,
            acoustic_units=self.acoustic_units,
        )

    @classmethod
    def of_tokens(cls, info: TokenInfo) -> StreamInfo:
        """Return the two vocabularies of joint tokens; a FormatError for tokens of another kind."""
        if not 0 < info.loss_from < info.num_tokens or info.syllable_hop < 1:
            raise FormatError("a language model of plain units, not of an interleaved stream")
        acoustic = info.num_tokens - info.loss_from
        grids = info.hop, info.sample_rate, info.syllable_hop
        return cls(info.loss_from, acoustic, *grids, info.tokenizer, info.acoustic_units)

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
        tokens (n,) and their frames (n,): those of acoustic tokens, 0 for syllables.
    """
    info.check(syllables, acoustic, "recording")
    syllables, acoustic = syllables.deduplicate(), acoustic.deduplicate()
    if syllables.unit is None or acoustic.unit is None:
        raise InputError("an interleaved stream needs units on both sides")
    times = np.concatenate([due_times(syllables, info), acoustic.start.astype(np.int64) * info.hop])
    tokens = np.concatenate([syllables.unit, acoustic.unit + info.syllables])
    frames = np.concatenate([np.zeros(len(syllables), dtype=np.int32), token_frames(acoustic)])
    # Syllables come first in the arrays, and a stable sort keeps them first at equal times.
    order = np.argsort(times, kind="stable")
    return tokens[order].astype(np.int32), frames[order].astype(np.int32)


def interleaved_store(items: Iterable[tuple[str, Segmentation, Segmentation]], info: StreamInfo) -> TokenStore:
    """Return the training tokens of a vocoder LM from (id, syllables, acoustic units) of many recordings."""
    tokens, frames = [], []
    for name, syllables, acoustic in items:
        info.check(syllables, acoustic, name)
        row, row_frames = interleave(syllables, acoustic, info)
        if len(row):
            tokens.append(row)
            frames.append(row_frames)
    return TokenStore.from_arrays(tokens, frames, info.tokens)
