"""Level and clipping of waveforms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from syllablelm.core.results import Record

# The highest sample of a 16-bit file.
FULL_SCALE = 32767 / 32768


@dataclass(frozen=True)
class Level(Record):
    """Counts behind the level of waveforms; add those of several.

    Args:
        samples, clipped: samples, and those at full scale of a 16-bit file or beyond.
        energy: sum of the squared samples.
    """

    derived: ClassVar[tuple[str, ...]] = ("dbfs", "clipped_share")

    samples: int = 0
    clipped: int = 0
    energy: float = 0.0

    @classmethod
    def of(cls, waveform: npt.NDArray[np.floating]) -> Level:
        """Count the samples of a waveform (num_samples,) with full scale 1."""
        wave = np.asarray(waveform, dtype=np.float64)
        return cls(len(wave), int((np.abs(wave) >= FULL_SCALE).sum()), float(wave @ wave))

    def __add__(self, other: Level) -> Level:
        return Level(self.samples + other.samples, self.clipped + other.clipped, self.energy + other.energy)

    @property
    def dbfs(self) -> float | None:
        """Root mean square in dB below full scale, 0 for a square wave; None for silence."""
        return 10 * math.log10(self.energy / self.samples) if self.energy > 0 else None

    @property
    def clipped_share(self) -> float:
        """Share of the samples that are clipped."""
        return self.clipped / self.samples if self.samples else 0.0
