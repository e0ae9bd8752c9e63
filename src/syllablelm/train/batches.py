"""Recordings in training: waveforms in memory, their distortions, batches of crops aligned to frames, features.

Every random choice depends on (seed, epoch, item) only, not on a running generator, so a resumed run draws the same
batches as one that was not stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from syllablelm.core.artifact import digest_json
from syllablelm.core.errors import FormatError, InputError, check_fields
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.audio import SAMPLE_RATE
from syllablelm.data.corpus import Manifest, batches_by_seconds
from syllablelm.data.distortions import add_noise, equalize, gain, reverberate, telephone
from syllablelm.encoders.base import FrameEncoder, TrainableEncoder
from syllablelm.encoders.padding import pad_waveforms
from syllablelm.train.processes import is_main

Waveform = npt.NDArray[np.float32]


# File of a recipe's output folder that keeps the digests of its recordings.
KNOWN_FILE = ".audio.json"
SHORTEST_CROP = 0.1
"""Shortest crop of a recording in seconds that a recipe may ask for: a few frames."""
LARGEST_DB = 100.0


def manifest_digest(manifest: Manifest, known: Path | None = None) -> str:
    """Return the hash of a corpus: ids, excerpts and the bytes of the files, whose names differ between machines.

    ``known`` is as in ``Manifest.contents``.
    """
    contents = manifest.contents(known)
    return digest_json([[r.id, *contents[r.id], r.sample_rate] for r in manifest])


class WaveformStore:
    """Waveforms of a manifest, decoded once and kept as 16-bit samples within a memory budget.

    Args:
        manifest: recordings.
        budget_bytes: memory for kept waveforms; further recordings are decoded at every use.
        known: file that keeps the digests of the recordings (``Manifest.contents``).
    """

    def __init__(self, manifest: Manifest, budget_bytes: int = 4 << 30, known: Path | None = None) -> None:
        self.manifest, self._known = manifest, known
        self._kept: dict[int, npt.NDArray[np.int16]] = {}
        self._free = budget_bytes

    def __len__(self) -> int:
        return len(self.manifest)

    @cached_property
    def digest(self) -> str:
        """Hash of the corpus, the bytes of its files included; those are read once."""
        return manifest_digest(self.manifest, self._known)

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


@dataclass(frozen=True)
class AugmentConfig:
    """How often and how strongly a training waveform is distorted; the default leaves it alone.

    Args:
        prob: probability of each of the distortions for each crop.
        gain_db: maximum change of loudness in either direction, in dB.
        tilt_db: maximum boost and cut of a random smooth filter, in dB.
        snr_db: minimum signal-to-noise ratio of added coloured noise; the maximum is 25 dB above it.
        reverb_seconds: maximum reverberation time in seconds; 0: no reverberation.
        telephone_prob: probability of a telephone band, independent of ``prob``.
    """

    prob: float = 0.0
    gain_db: float = 10.0
    tilt_db: float = 8.0
    snr_db: float = 5.0
    reverb_seconds: float = 0.0
    telephone_prob: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "prob telephone_prob", least=0, most=1)
        check_fields(self, "gain_db tilt_db", least=0, most=LARGEST_DB)
        check_fields(self, "snr_db", least=-LARGEST_DB, most=LARGEST_DB)
        check_fields(self, "reverb_seconds", least=0, most=60)


def augment(waveform: Waveform, config: AugmentConfig, rng: np.random.Generator) -> Waveform:
    """Distort a copy of a waveform: (num_samples,) in, (num_samples,) out, time unchanged."""
    if max(config.prob, config.telephone_prob) <= 0 or len(waveform) == 0:
        return waveform
    result = waveform.astype(np.float32)
    if rng.random() < config.prob:
        result = equalize(result, rng.uniform(-config.tilt_db, config.tilt_db, size=8))
    if config.reverb_seconds > 0 and rng.random() < config.prob:
        seconds = rng.uniform(0.1, 1.0) * config.reverb_seconds
        result = reverberate(result, seconds, rng, direct=rng.uniform(0.3, 0.9))
    if rng.random() < config.prob:
        noise = equalize(rng.standard_normal(len(result), dtype=np.float32), rng.uniform(-12, 12, size=8))
        result = add_noise(result, noise, rng.uniform(config.snr_db, config.snr_db + 25.0))
    if config.telephone_prob > 0 and rng.random() < config.telephone_prob:
        result = telephone(result)
    if rng.random() < config.prob:
        result = gain(result, rng.uniform(-config.gain_db, config.gain_db))
    return result


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


def iterate_features(
    store: WaveformStore, encoder: FrameEncoder, *, batch_seconds: float = 120.0, label: str = "features", done: int = 0
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield (index, features (T, D)) of every recording, in batch order, without the first ``done`` of that order."""
    check_max_frames(encoder, store.manifest)
    seconds = [recording.seconds for recording in store.manifest]
    with ProgressBar(label, len(store), done=done, quiet=not is_main()) as bar:
        for batch in batches_by_seconds(seconds, batch_seconds):
            known, done = min(done, len(batch)), max(0, done - len(batch))
            if known < len(batch):
                # A batch that was begun is encoded whole: a part of it might be rounded differently.
                yield from list(zip(batch, encoder.encode([store[i] for i in batch]), strict=True))[known:]
                bar.advance(len(batch) - known)


def check_max_frames(encoder: FrameEncoder, manifest: Manifest, crop_seconds: float = 0.0) -> None:
    """Check that an encoder with a maximum length takes every recording and every crop whole."""
    most = getattr(encoder, "max_frames", None)
    if most is None:
        return
    limit = most * encoder.hop / encoder.sample_rate
    if crop_seconds > limit:
        raise InputError(f"crop_seconds {crop_seconds:g}: this encoder takes at most {limit:g} s at once")
    longest = max(manifest, key=lambda recording: recording.seconds)
    if encoder.num_frames(round(longest.seconds * encoder.sample_rate)) > most:
        raise InputError(
            f"{longest.id!r} is {longest.seconds:.1f} s long, this encoder takes at most {limit:g} s at once: set "
            f"data.max_seconds = {limit:g}"
        )


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write per-recording arrays by id as one safetensors file."""
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, path)


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read what ``save_arrays`` wrote."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path}: not a safetensors file ({error})") from None
