"""Training batches: waveforms in memory, length-bucketed batches by seconds, crops aligned to frames.

Every random choice depends on (seed, epoch, item) only, not on a running generator, so a resumed run draws the same
batches as one that was not stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE
from syllablelm.data.corpus import Manifest, batches_by_seconds
from syllablelm.encoders.base import TrainableEncoder
from syllablelm.encoders.padding import pad_waveforms
from syllablelm.train.augment import augment

Waveform = npt.NDArray[np.float32]


class WaveformStore:
    """Waveforms of a manifest, decoded once and kept as 16-bit samples within a memory budget.

    Args:
        manifest: recordings.
        budget_bytes: memory for kept waveforms; further recordings are decoded at every use.
    """

    def __init__(self, manifest: Manifest, budget_bytes: int = 4 << 30) -> None:
        self.manifest = manifest
        self._kept: dict[int, npt.NDArray[np.int16]] = {}
        self._free = budget_bytes

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> Waveform:
        samples = self._kept.get(index)
        if samples is None:
            # Rounded to 16 bits whether kept or not: every use must see the same samples, and which recordings are kept
            # depends on the order of use.
            samples = np.clip(np.rint(self.manifest[index].load() * 32768.0), -32768, 32767).astype(np.int16)
            if samples.nbytes <= self._free:
                self._free -= samples.nbytes
                self._kept[index] = samples
        return samples.astype(np.float32) / 32768.0


@dataclass(frozen=True)
class VoiceData:
    """Recordings of one voice and their acoustic units, for the training of a unit vocoder.

    Args:
        store: recordings.
        units: gap-free acoustic units by recording id.
        num_units: size of the acoustic vocabulary.
        units_digest: digest of the artifact that holds the units.
        acoustic_digest: digest of the acoustic tokenizer, which the vocoder remembers.
        centres: (num_units, dim) cluster centres of the units, if known.
    """

    store: WaveformStore
    units: Mapping[str, Segmentation]
    num_units: int
    units_digest: str = ""
    acoustic_digest: str = ""
    centres: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Crop:
    """One item of a batch: index of the recording, start of the crop in frames, and random seed."""

    index: int
    start: int
    seed: tuple[int, ...]


class CropPlan:
    """Endless deterministic sequence of batches of crops.

    Args:
        seconds: length of each recording.
        crop_seconds: maximum length of a crop; longer recordings are cut at a random frame.
        batch_seconds: seconds of audio in one batch, padding included.
        hop: samples per frame.
        seed: random seed of the order and the crops.
    """

    def __init__(
        self, seconds: Sequence[float], *, crop_seconds: float, batch_seconds: float, hop: int, seed: int
    ) -> None:
        self.seconds = list(seconds)
        self.hop, self.seed = hop, seed
        self.crop_samples = int(crop_seconds * SAMPLE_RATE)
        self.batch_seconds = batch_seconds
        self._lengths = [min(s, crop_seconds) for s in self.seconds]
        self._ends: list[int] = []
        self._epoch: tuple[int, list[list[int]]] | None = None

    @classmethod
    def of_stage(cls, config: Any, store: WaveformStore, hop: int, seed: int) -> CropPlan:
        """Return the plan of a stage whose config has ``crop_seconds`` and ``loop.batch_seconds``."""
        lengths = {"crop_seconds": config.crop_seconds, "batch_seconds": config.loop.batch_seconds}
        return cls([recording.seconds for recording in store.manifest], **lengths, hop=hop, seed=seed)

    def _batches(self, epoch: int) -> list[list[int]]:
        if self._epoch is None or self._epoch[0] != epoch:
            batches = batches_by_seconds(self._lengths, self.batch_seconds, shuffle_seed=self.seed * 100_003 + epoch)
            self._epoch = (epoch, batches)
        return self._epoch[1]

    def epoch_of(self, number: int) -> tuple[int, int]:
        """Return the epoch of batch ``number`` and its index in the epoch."""
        while not self._ends or self._ends[-1] <= number:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(self._batches(len(self._ends))))
        epoch = int(np.searchsorted(self._ends, number, side="right"))
        return epoch, number - (self._ends[epoch - 1] if epoch else 0)

    def batch(self, number: int) -> list[Crop]:
        """Return the crops of batch ``number`` (counted from the start of training)."""
        epoch, place = self.epoch_of(number)
        crops = []
        for index in self._batches(epoch)[place]:
            seed = (self.seed, epoch, index)
            slack = int(self.seconds[index] * SAMPLE_RATE) - self.crop_samples
            start = int(np.random.default_rng(seed).integers(0, slack // self.hop + 1)) if slack > 0 else 0
            crops.append(Crop(index, start, seed))
        return crops

    def cut(self, waveform: Waveform, crop: Crop) -> Waveform:
        """Return the samples of a crop."""
        first = crop.start * self.hop
        return waveform[first : first + self.crop_samples]


def augmented_batch(
    config: Any, store: WaveformStore, plan: CropPlan, encoder: TrainableEncoder, number: int
) -> tuple[list[Crop], Tensor, dict[str, Any]]:
    """Cut, distort (``config.augment``) and pad the waveforms of batch ``number``.

    Returns:
        the crops; (B,) frames of each; the batch: "wave" (B, N), "lengths" (B,) in samples, "seconds" of audio.
    """
    crops = plan.batch(number)
    waves = [
        augment(plan.cut(store[crop.index], crop), config.augment, np.random.default_rng((*crop.seed, 2)))
        for crop in crops
    ]
    wave_BN, lengths_B = pad_waveforms(waves, torch.device("cpu"))
    seconds = float(lengths_B.sum()) / encoder.sample_rate
    return crops, encoder.frames(lengths_B), {"wave": wave_BN, "lengths": lengths_B, "seconds": seconds}
