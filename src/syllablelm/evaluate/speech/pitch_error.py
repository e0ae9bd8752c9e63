"""Errors of pitch and voicing between two renderings of the same speech, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syllablelm.data.audio import SAMPLE_RATE
from syllablelm.evaluate.counts import Counts
from syllablelm.vocoder.pitch import track_pitch

# Samples of a frame: 10 ms.
HOP = 160
# A gross error is farther off than this share of the reference (Chu & Alwan 2009).
GROSS = 0.2
METHOD = (
    "pitch by normalised autocorrelation (Boersma 1993, without path search; 75 to 400 Hz, 10 ms frames, median of 5) "
    "at 16 kHz, whatever the level; errors over frames voiced in both, gross beyond 20 %, voicing over all frames"
)


@dataclass(frozen=True)
class PitchCounts(Counts):
    """Counts behind pitch errors; add those of recordings to get those of a corpus.

    Args:
        frames, voicing_errors: compared frames; those voiced in one rendering only.
        voiced, gross: frames voiced in both; those more than 20 % off the reference.
        difference, square: sums over frames voiced in both of the pitch in semitones above the reference, and of its
            square.
        reference_square, other_square, product: sums of squares and products of both pitches in semitones around the
            mean of each recording.
    """

    frames: int = 0
    voicing_errors: int = 0
    voiced: int = 0
    gross: int = 0
    difference: float = 0.0
    square: float = 0.0
    reference_square: float = 0.0
    other_square: float = 0.0
    product: float = 0.0

    @property
    def rmse(self) -> float:
        """Root mean squared error in semitones; NaN without a frame voiced in both, as all that need one."""
        return math.sqrt(self.square / self.voiced) if self.voiced else math.nan

    @property
    def offset(self) -> float:
        """Mean difference in semitones, positive where the pitch is above the reference."""
        return self.difference / self.voiced if self.voiced else math.nan

    @property
    def correlation(self) -> float:
        """Correlation of the contours within recordings; NaN where one of them does not move."""
        scale = self.reference_square * self.other_square
        return self.product / math.sqrt(scale) if scale > 0 else math.nan

    @property
    def gross_error(self) -> float:
        """Share of the frames voiced in both that are more than 20 % off."""
        return self.gross / self.voiced if self.voiced else math.nan

    @property
    def voicing_error(self) -> float:
        """Share of all frames that are voiced in one rendering only."""
        return self.voicing_errors / self.frames if self.frames else math.nan


def pitch_counts(reference: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> PitchCounts:
    """Compare two pitch contours (num_frames,) in Hz, 0 where unvoiced, frame by frame."""
    both = (reference > 0) & (other > 0)
    a, b = (12 * np.log2(pitch[both].astype(np.float64)) for pitch in (reference, other))
    gross = np.abs(other[both] / reference[both] - 1) > GROSS
    contours = [values - values.mean() for values in (a, b)] if both.any() else [a, b]
    voicing_errors = int(((reference > 0) != (other > 0)).sum())
    sums = float((b - a).sum()), float(((b - a) ** 2).sum())
    squares = (float(x @ y) for x, y in (contours[:1] * 2, contours[1:] * 2, contours))
    return PitchCounts(len(reference), voicing_errors, int(both.sum()), int(gross.sum()), *sums, *squares)


def contour(waveform: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return the pitch of a waveform (num_samples,) at 16 kHz every 10 ms: (num_frames,) Hz, 0 where unvoiced."""
    return track_pitch(waveform, len(waveform) // HOP, hop=HOP, sample_rate=SAMPLE_RATE)
