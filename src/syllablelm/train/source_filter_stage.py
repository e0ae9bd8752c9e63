"""Training of the source-filter unit vocoder on one voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import check_fields
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.train.batches import SHORTEST_CROP, Crop, CropPlan, VoiceData, WaveformStore
from syllablelm.train.loop import Batch, LoopConfig
from syllablelm.train.stage import StageRun
from syllablelm.vocoder.pitch import track_pitch
from syllablelm.vocoder.source_filter import (
    PITCH_RANGE,
    SourceFilterNet,
    SourceFilterShape,
    SourceFilterVocoder,
    unit_places,
)
from syllablelm.vocoder.spectrum import SpectrumSpec
from syllablelm.vocoder.unit_vocoder import covered_units

# Units and their lengths in frames, (num_units,) each.
UnitLengths = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
# Weight of the standardised pitch error beside that of all cepstra together.
PITCH_WEIGHT = 0.3
# Number of recordings on which the variance of the voice is measured.
SPREAD_RECORDINGS = 60


@dataclass(frozen=True)
class SourceFilterConfig:
    """The network and its training.

    Args:
        loop: optimisation.
        dim, blocks, kernel, context: see ``SourceFilterShape``.
        crop_seconds: maximum length of a crop of a recording.
        spectrum: predicted spectrum.
    """

    loop: LoopConfig
    dim: int = 256
    blocks: int = 8
    kernel: int = 7
    crop_seconds: float = 6.0
    spectrum: SpectrumSpec = field(default_factory=SpectrumSpec)
    context: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "crop_seconds", least=SHORTEST_CROP)
        # The number of units and the hop are known later.
        SourceFilterShape(1, self.dim, self.blocks, self.kernel, self.spectrum.hop, self.spectrum, self.context)


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
        predicted_BTC = self.net(batch["units"], batch["frames"], batch["places"]).float()
        known_BT = batch["known"].repeat_interleave(self.net.shape.upsampling, dim=1)
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
        rows: Sequence[UnitLengths],
        targets: Sequence[npt.NDArray[np.float32]],
        config: SourceFilterConfig,
        seed: int,
    ) -> None:
        self.module, self.rows, self.targets = _SourceFilterLoss(net), rows, targets
        self.hop, self.upsampling = net.shape.hop, net.shape.upsampling
        self.frame_seconds = self.hop / net.shape.spectrum.sample_rate
        seconds = [len(target) / self.upsampling * self.frame_seconds for target in targets]
        sizes = {"crop_seconds": config.crop_seconds, "batch_seconds": config.loop.batch_seconds}
        self.plan = CropPlan(seconds, **sizes, hop=self.hop, seed=seed)

    def batch(self, number: int) -> Batch:
        """Units that overlap the crops, the place of each frame in them, and the standardised targets."""
        crops = self.plan.batch(number)
        rows = [self._crop(crop) for crop in crops]
        pad = torch.nn.utils.rnn.pad_sequence
        units, frames, places, targets = (pad(list(column), batch_first=True) for column in zip(*rows, strict=True))
        counts = torch.tensor([len(row[1]) for row in rows])
        known_BU = torch.arange(frames.shape[1]) < counts[:, None]
        found = {"units": units, "frames": frames, "places": places, "known": known_BU, "target": targets}
        return {**found, "seconds": int(counts.sum()) * self.frame_seconds}

    def _crop(self, crop: Crop) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        units, lengths = (torch.from_numpy(each) for each in self.rows[crop.index])
        frames, places = unit_places(lengths)
        part = slice(crop.start, crop.start + self.plan.crop_samples // self.hop)
        frames, places = frames[part], places[part]
        first, last = int(frames[0]), int(frames[-1])
        target = self.targets[crop.index][part.start * self.upsampling : part.stop * self.upsampling]
        return units[first : last + 1], frames - first, places, torch.from_numpy(target)


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


@dataclass(frozen=True)
class WarpedVoice:
    """Recordings that the voice speaks too: their units, and for each of their frames that of the voice's recording.

    Args:
        spoken: recordings of the voice.
        units: gap-free units of the real recordings, by id.
        warps: by id, (num_frames,) frame of the voice's recording, -1 where the real one is silent.
        repeat: number of times that each is used per epoch.
        digest: identity of the warps.
    """

    spoken: WaveformStore
    units: Mapping[str, Segmentation]
    warps: Mapping[str, npt.NDArray[np.int32]]
    repeat: int
    digest: str

    @property
    def pairs(self) -> dict[int, str]:
        """Ids of the recordings with a warp, by their index in ``spoken``."""
        return {index: item.id for index, item in enumerate(self.spoken.manifest) if item.id in self.warps}


def fit_source_filter(
    config: SourceFilterConfig, voice: VoiceData, run: StageRun, warped: WarpedVoice | None = None
) -> SourceFilterVocoder:
    """Train the source-filter vocoder; where cluster centres are known, embeddings start from their similarity."""
    recordings = voice.store.manifest
    hop = voice.units[recordings[0].id].hop
    sizes = voice.num_units, config.dim, config.blocks, config.kernel, hop, config.spectrum, config.context
    shape = SourceFilterShape(*sizes)

    def covered(row: Segmentation) -> UnitLengths:
        return covered_units(row, voice.num_units, shape.hop, shape.spectrum.sample_rate)

    rows = [covered(voice.units[recording.id]) for recording in recordings]
    targets = []
    pairs = warped.pairs if warped is not None else {}
    with ProgressBar("envelopes", len(rows) + len(pairs)) as bar:
        for index, (_, lengths) in enumerate(rows):
            targets.append(voice_targets(voice.store[index], int(lengths.sum()), shape))
            bar.advance()
        if warped is not None:
            for index, id in pairs.items():
                targets.append(_warped_targets(warped.spoken[index], warped.warps[id], shape))
                rows.append(covered(warped.units[id]))
                bar.advance()
    net = SourceFilterNet(shape)
    if voice.centres is not None:
        net.start_from(voice.centres)
    _standardise(net, targets, len(recordings))
    repeat = 1 if warped is None else warped.repeat
    order = [*range(len(recordings)), *list(range(len(recordings), len(rows))) * repeat]
    task = SourceFilterTask(net, [rows[i] for i in order], [targets[i] for i in order], config, run.seed)
    run.train(task, config.loop, "vocoder")
    net.cpu().eval()
    _restore_spread(net, rows[:SPREAD_RECORDINGS], targets[:SPREAD_RECORDINGS])
    return SourceFilterVocoder(net, voice.acoustic_digest)


def _warped_targets(
    waveform: npt.NDArray[np.float32], warp: npt.NDArray[np.int32], shape: SourceFilterShape
) -> npt.NDArray[np.float32]:
    """Return the targets of a recording of the voice in the order of a warp; its quietest frame where it is silent."""
    targets = voice_targets(waveform, len(waveform) // shape.hop, shape)
    by_frame = targets.reshape(len(waveform) // shape.hop, shape.upsampling, -1)
    quietest = int(by_frame[:, :, 0].sum(1).argmin())
    frames = np.where(warp < 0, quietest, np.minimum(warp, len(by_frame) - 1))
    return by_frame[frames].reshape(len(warp) * shape.upsampling, -1).copy()


def _standardise(net: SourceFilterNet, targets: Sequence[npt.NDArray[np.float32]], own: int) -> None:
    """Standardise the targets, but not the voicing, in place by the first ``own``; the network keeps both numbers."""
    rows = np.concatenate(targets[:own])
    mean, deviation = rows.mean(0), rows.std(0) + 1e-5
    mean[-1], deviation[-1] = 0.0, 1.0
    for target in targets:
        target -= mean
        target /= deviation
    net.mean.copy_(torch.from_numpy(mean))
    net.deviation.copy_(torch.from_numpy(deviation))


@torch.inference_mode()
def _restore_spread(
    net: SourceFilterNet, rows: Sequence[UnitLengths], targets: Sequence[npt.NDArray[np.float32]]
) -> None:
    """Set ``spread``: half of the way (in the logarithm) back to the variance of the voice.

    The mean over all realisations of a unit is flatter than each of them, which blurs vowels (Toda & Tokuda 2007).
    Loudness, pitch and voicing stay as they are.
    """
    predicted = []
    for units, lengths in rows:
        frames, places = unit_places(torch.from_numpy(lengths))
        predicted.append(net(torch.from_numpy(units)[None], frames[None], places[None])[0].numpy())
    predicted = np.concatenate(predicted)
    ratio = np.concatenate(targets).std(0) / (predicted.std(0) + 1e-5)
    ratio[[0, -2, -1]] = 1.0
    net.spread.copy_(torch.from_numpy(np.sqrt(np.clip(ratio, 1.0, 4.0)).astype(np.float32)))
