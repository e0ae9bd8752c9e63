"""Training of the source-filter unit vocoder on one voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.progress import ProgressBar
from syllablelm.train.batches import CropPlan, VoiceData, WaveformStore
from syllablelm.train.loop import Batch, LoopConfig
from syllablelm.train.stage import StageRun
from syllablelm.vocoder.pitch import track_pitch
from syllablelm.vocoder.source_filter import PITCH_RANGE, SourceFilterNet, SourceFilterShape, SourceFilterVocoder
from syllablelm.vocoder.spectrum import SpectrumSpec
from syllablelm.vocoder.unit_vocoder import unit_frames

IGNORED = -1
# Weight of the standardised pitch error beside that of all cepstra together.
PITCH_WEIGHT = 0.3
# Number of recordings on which the variance of the voice is measured.
SPREAD_RECORDINGS = 60


@dataclass(frozen=True)
class SourceFilterConfig:
    """The network and its training.

    Args:
        loop: optimisation.
        dim, blocks, kernel: see ``SourceFilterShape``.
        crop_seconds: maximum length of a crop of a recording.
        spectrum: predicted spectrum.
    """

    loop: LoopConfig
    dim: int = 256
    blocks: int = 8
    kernel: int = 7
    crop_seconds: float = 6.0
    spectrum: SpectrumSpec = field(default_factory=SpectrumSpec)


class _SourceFilterLoss(nn.Module):
    """Errors of the cepstra, of the pitch where there is one, and of the voicing."""

    weight: Tensor

    def __init__(self, net: SourceFilterNet) -> None:
        super().__init__()
        self.net = net
        # Between equal weight for every coefficient and equal weight in the log spectrum, where the first ones rule.
        self.register_buffer("weight", net.deviation[:-2].sqrt(), persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        target_BTC = batch["target"]
        predicted_BTC = self.net(batch["units"].clamp(min=0)).float()
        known_BT = (batch["units"] != IGNORED).repeat_interleave(self.net.shape.upsampling, dim=1)
        count = known_BT.sum()
        error_BTC = (predicted_BTC - target_BTC).abs() * known_BT[..., None]
        voiced_BT = target_BTC[..., -1]
        level = (error_BTC[..., :-2] * self.weight).sum() / count
        pitch = (error_BTC[..., -2] * voiced_BT).sum() / voiced_BT.sum().clamp(min=1.0)
        voicing = F.binary_cross_entropy_with_logits(predicted_BTC[..., -1], voiced_BT, weight=known_BT.float())
        return {
            "loss": level + PITCH_WEIGHT * pitch + voicing,
            "level_error": level,
            "pitch_error": pitch,
            "batches": torch.tensor(1.0),
        }


class SourceFilterTask:
    """Batches of waveforms and their unit frames, for the training loop."""

    ratios: Mapping[str, tuple[str, str]] = {
        "level_error": ("level_error", "batches"),
        "pitch_error": ("pitch_error", "batches"),
    }

    def __init__(
        self,
        net: SourceFilterNet,
        store: WaveformStore,
        frames: Sequence[npt.NDArray[np.int64]],
        targets: Sequence[npt.NDArray[np.float32]],
        config: SourceFilterConfig,
        seed: int,
    ) -> None:
        self.module, self.frames, self.targets = _SourceFilterLoss(net), frames, targets
        self.hop, self.upsampling = net.shape.hop, net.shape.upsampling
        self.frame_seconds = self.hop / net.shape.spectrum.sample_rate
        self.plan = CropPlan.of_stage(config, store, self.hop, seed)

    def batch(self, number: int) -> Batch:
        """The unit of each frame (-1 past the end), and the standardised targets in it."""
        crops = self.plan.batch(number)
        length = self.plan.crop_samples // self.hop
        rows = [self.frames[crop.index][crop.start : crop.start + length] for crop in crops]
        longest = max(len(row) for row in rows)
        units_BU = torch.full((len(rows), longest), IGNORED)
        target_BTC = torch.zeros(len(rows), longest * self.upsampling, self.targets[0].shape[1])
        for i, (crop, row) in enumerate(zip(crops, rows, strict=True)):
            first, count = crop.start * self.upsampling, len(row) * self.upsampling
            units_BU[i, : len(row)] = torch.from_numpy(row)
            target_BTC[i, :count] = torch.from_numpy(self.targets[crop.index][first : first + count])
        return {"units": units_BU, "target": target_BTC, "seconds": sum(map(len, rows)) * self.frame_seconds}


def voice_targets(
    waveform: npt.NDArray[np.float32], num_frames: int, shape: SourceFilterShape
) -> npt.NDArray[np.float32]:
    """Return cepstra, pitch and voicing in each spectrum frame of a recording.

    Args:
        waveform: (num_samples,).
        num_frames: number of unit frames.

    Returns:
        (num_frames * upsampling, K + 2): cepstra, logarithm of the pitch (interpolated where unvoiced), voicing
        (1 or 0).
    """
    spec, count = shape.spectrum, num_frames * shape.upsampling
    padded = np.pad(waveform, (0, max(0, count * spec.hop - len(waveform))))
    cepstra = spec.cepstrum(spec.transform(torch.from_numpy(padded)[None]))[0, :count].numpy()
    low, high = PITCH_RANGE
    hertz = track_pitch(waveform, count, hop=spec.hop, sample_rate=spec.sample_rate, low=low, high=high)
    voiced = hertz > 0
    logs = np.log(hertz[voiced]) if voiced.any() else np.log([200.0])
    places = np.flatnonzero(voiced) if voiced.any() else [0]
    pitch = np.interp(np.arange(count), places, logs)
    return np.column_stack([cepstra, pitch, voiced]).astype(np.float32)


def fit_source_filter(config: SourceFilterConfig, voice: VoiceData, run: StageRun) -> SourceFilterVocoder:
    """Train the source-filter vocoder; where cluster centres are known, embeddings start from their similarity."""
    recordings = voice.store.manifest
    hop = voice.units[recordings[0].id].hop
    shape = SourceFilterShape(voice.num_units, config.dim, config.blocks, config.kernel, hop, config.spectrum)
    rows = [voice.units[recording.id] for recording in recordings]
    frames = [unit_frames(row, voice.num_units, shape.hop, shape.spectrum.sample_rate) for row in rows]
    targets = []
    with ProgressBar("envelopes", len(frames)) as bar:
        for index, row in enumerate(frames):
            targets.append(voice_targets(voice.store[index], len(row), shape))
            bar.advance()
    net = SourceFilterNet(shape)
    if voice.centres is not None:
        net.start_from(voice.centres)
    _standardise(net, targets)
    run.train(SourceFilterTask(net, voice.store, frames, targets, config, run.seed), config.loop, "vocoder")
    net.cpu().eval()
    _restore_spread(net, frames[:SPREAD_RECORDINGS], targets[:SPREAD_RECORDINGS])
    return SourceFilterVocoder(net, voice.acoustic_digest)


def _standardise(net: SourceFilterNet, targets: Sequence[npt.NDArray[np.float32]]) -> None:
    """Standardise the targets, but not the voicing, in place; the network keeps mean and deviation."""
    rows = np.concatenate(targets)
    mean, deviation = rows.mean(0), rows.std(0) + 1e-5
    mean[-1], deviation[-1] = 0.0, 1.0
    for target in targets:
        target -= mean
        target /= deviation
    net.mean.copy_(torch.from_numpy(mean))
    net.deviation.copy_(torch.from_numpy(deviation))


@torch.inference_mode()
def _restore_spread(
    net: SourceFilterNet, frames: Sequence[npt.NDArray[np.int64]], targets: Sequence[npt.NDArray[np.float32]]
) -> None:
    """Set ``spread``: half of the way (in the logarithm) back to the variance of the voice.

    The mean over all realisations of a unit is flatter than each of them, which blurs vowels (Toda & Tokuda 2007).
    Loudness, pitch and voicing stay as they are.
    """
    predicted = np.concatenate([net(torch.from_numpy(row)[None])[0].numpy() for row in frames])
    ratio = np.concatenate(targets).std(0) / (predicted.std(0) + 1e-5)
    ratio[[0, -2, -1]] = 1.0
    net.spread.copy_(torch.from_numpy(np.sqrt(np.clip(ratio, 1.0, 4.0)).astype(np.float32)))
