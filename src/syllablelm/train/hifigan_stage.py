"""Training of the unit HiFi-GAN on one voice (Kong et al. 2020; Polyak et al. 2021; durations as in Lee et al. 2021).

Generator and discriminators are one module with one loss, which the one training loop takes as any other: the
discriminators' part gets the generated audio detached, the generator's part the discriminators' weights detached, so
each part's gradient reaches its own weights only, and AdamW, which treats every weight by itself, is two optimisers in
one. The published program updates the discriminators first and evaluates them again for the generator; here both are
updated at once, from their state before the step.

Shape suffixes: B clips, U unit frames, R runs of one unit, N samples, M mel bands, T spectrum frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import remove_parametrizations

from syllablelm.core.errors import InputError, check_fields
from syllablelm.data.audio import SAMPLE_RATE
from syllablelm.encoders.whisper import slaney_filters
from syllablelm.train.batches import SHORTEST_CROP, CropPlan, VoiceData
from syllablelm.train.loop import Batch, LoopConfig
from syllablelm.train.stage import StageRun
from syllablelm.vocoder.discriminators import (
    Discriminators,
    DiscriminatorShape,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from syllablelm.vocoder.hifigan import HiFiGanNet, HiFiGanShape, HiFiGanVocoder
from syllablelm.vocoder.unit_vocoder import unit_frames

MEL_WEIGHT, FEATURE_WEIGHT, DURATION_WEIGHT = 45.0, 2.0, 1.0


@dataclass(frozen=True)
class HiFiGanConfig:
    """The network and its training.

    Args:
        loop: optimisation of generator and discriminators.
        shape: generator; its number of units and its hop must be those of the acoustic units.
        discriminators: shape of the discriminators.
        crop_seconds: length of a crop of a recording; published: 8,960 samples.
    """

    loop: LoopConfig
    shape: HiFiGanShape
    discriminators: DiscriminatorShape = field(default_factory=DiscriminatorShape)
    crop_seconds: float = 0.56

    def __post_init__(self) -> None:
        check_fields(self, "crop_seconds", least=SHORTEST_CROP)


class MelSpectrum(nn.Module):
    """Natural logarithm of the mel magnitude spectrum, on which HiFi-GAN's loss is computed."""

    filters_FM: Tensor
    window: Tensor

    def __init__(self, sample_rate: int = SAMPLE_RATE, fft: int = 1024, hop: int = 256, bands: int = 80) -> None:
        super().__init__()
        self.fft, self.hop = fft, hop
        filters_FM = slaney_filters(bands, fft // 2 + 1, sample_rate).T.contiguous()
        self.register_buffer("filters_FM", filters_FM, persistent=False)
        self.register_buffer("window", torch.hann_window(fft), persistent=False)

    def forward(self, wave_BN: Tensor) -> Tensor:
        """(B, N), longer than half a window -> (B, T, M) with T = N // hop."""
        edge = (self.fft - self.hop) // 2
        padded_BN = F.pad(wave_BN[:, None], (edge, edge), "reflect").squeeze(1)
        spectrum = torch.stft(padded_BN, self.fft, self.hop, window=self.window, center=False, return_complex=True)
        # A little under the root: its slope at zero is infinite.
        magnitude_BFT = (torch.view_as_real(spectrum).square().sum(-1) + 1e-9).sqrt()
        return (magnitude_BFT.transpose(1, 2) @ self.filters_FM).clamp(min=1e-5).log()


class HiFiGanLoss(nn.Module):
    """Losses of generator, duration predictor and discriminators on a batch."""

    def __init__(self, net: HiFiGanNet, shape: DiscriminatorShape) -> None:
        super().__init__()
        self.net, self.discriminators = net, Discriminators(shape)
        self.mel = MelSpectrum(net.shape.sampling_rate)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        real_BN = batch["wave"]
        fake_BN = self.net(batch["units"])
        with torch.autocast(real_BN.device.type, enabled=False):
            fake_BN = fake_BN.float()
            mel = F.l1_loss(self.mel(fake_BN), self.mel(real_BN))
        # The discriminators' part.
        of_real, of_detached = self.discriminators(real_BN), self.discriminators(fake_BN.detach())
        discriminator = discriminator_loss(of_real, of_detached)
        # The generator's part, through frozen discriminators.
        frozen = {name: parameter.detach() for name, parameter in self.discriminators.named_parameters()}
        of_fake = functional_call(self.discriminators, frozen, (fake_BN,))
        adversarial = adversarial_loss(of_fake)
        features = feature_loss([[x.detach() for x in outputs] for outputs in of_real], of_fake)
        loss = discriminator + adversarial + FEATURE_WEIGHT * features + MEL_WEIGHT * mel
        parts = {"mel": mel, "features": features, "adversarial": adversarial, "discriminator": discriminator}
        if self.net.dur_predictor is not None:
            parts["durations"] = self._duration_error(batch["runs"], batch["durations"])
            loss = loss + DURATION_WEIGHT * parts["durations"]
        return {"loss": loss, **parts, "batches": torch.tensor(1.0)}

    def _duration_error(self, runs_BR: Tensor, durations_BR: Tensor) -> Tensor:
        """Mean squared error of log(1 + frames) over the runs of the batch."""
        known_BR = durations_BR > 0
        error_BR = self.net.log_durations(runs_BR, known_BR) - (1.0 + durations_BR).log()
        return (error_BR.square() * known_BR).sum() / known_BR.sum()


class HiFiGanTask:
    """Crops of waveforms with their unit frames, and the runs of units of the whole recordings, for the training loop.

    The published program learns durations from the crops; there a run that is longer than a crop is never seen.
    """

    def __init__(self, net: HiFiGanNet, voice: VoiceData, config: HiFiGanConfig, seed: int) -> None:
        self.module, self.store = HiFiGanLoss(net, config.discriminators), voice.store
        shape = net.shape
        self.hop = shape.hop
        names = ["mel", "features", "adversarial", "discriminator"]
        names += [] if net.dur_predictor is None else ["durations"]
        self.ratios: Mapping[str, tuple[str, str]] = {name: (name, "batches") for name in names}
        # The ends of a recording may lack a frame or two; what is left must fill a Fourier window.
        least = self.module.mel.fft + 2 * self.hop
        if shape.sampling_rate != SAMPLE_RATE or config.crop_seconds * SAMPLE_RATE < least:
            raise InputError(
                f"a HiFi-GAN is trained at {SAMPLE_RATE} Hz on crops of {least / SAMPLE_RATE:.2f} s or more"
            )
        self.frames, self.runs = {}, {}
        for recording in self.store.manifest:
            segmentation = voice.units[recording.id]
            frames = unit_frames(segmentation, shape.num_embeddings, self.hop, shape.sampling_rate)
            samples = recording.seconds * SAMPLE_RATE
            if samples < least:
                raise InputError(f"{recording.id}: shorter than {least / SAMPLE_RATE:.2f} s; leave it out")
            if abs(samples - len(frames) * self.hop) > 2 * self.hop:
                raise InputError(
                    f"{recording.id}: {len(frames)} frames of units for {recording.seconds:.2f} s of audio"
                )
            self.frames[recording.id], self.runs[recording.id] = frames, segmentation.deduplicate()
        self.plan = CropPlan.of_stage(config, self.store, self.hop, seed)

    def batch(self, number: int) -> Batch:
        """Waveforms and their unit frames, cut to the shortest so that none is padded; runs are (-, 0) past the end."""
        crops = self.plan.batch(number)
        names = [self.store.manifest[crop.index].id for crop in crops]
        waves = [self.plan.cut(self.store[crop.index], crop) for crop in crops]
        rows = [self.frames[name][crop.start :] for name, crop in zip(names, crops, strict=True)]
        count = min(min(len(row), len(wave) // self.hop) for row, wave in zip(rows, waves, strict=True))
        wave_BN = np.stack([wave[: count * self.hop] for wave in waves])
        runs = [self.runs[name] for name in names]
        runs_BR, durations_BR = np.zeros((2, len(runs), max(map(len, runs))), dtype=np.int64)
        for row, known in enumerate(runs):
            runs_BR[row, : len(known)] = known.unit
            durations_BR[row, : len(known)] = known.end - known.start
        return {
            "wave": torch.from_numpy(wave_BN),
            "units": torch.from_numpy(np.stack([row[:count] for row in rows])),
            "runs": torch.from_numpy(runs_BR),
            "durations": torch.from_numpy(durations_BR),
            "seconds": wave_BN.size / SAMPLE_RATE,
        }


def fit_hifigan(config: HiFiGanConfig, voice: VoiceData, run: StageRun) -> HiFiGanVocoder:
    """Train the unit HiFi-GAN and return its generator; the discriminators stay in the checkpoint."""
    if config.shape.num_embeddings != voice.num_units:
        raise InputError(
            f"shape.num_embeddings is {config.shape.num_embeddings}; the acoustic units are {voice.num_units}"
        )
    net = HiFiGanNet(config.shape)
    add_weight_norm(net)
    run.train(HiFiGanTask(net, voice, config, run.seed), config.loop, "vocoder")
    remove_weight_norm(net.cpu())
    return HiFiGanVocoder(net, voice.acoustic_digest)


def _normed(net: HiFiGanNet) -> list[nn.Module]:
    """The convolutions of the generator; the duration predictor's go without weight norm."""
    parts = [net.conv_pre, *net.ups.modules(), *net.resblocks.modules(), net.conv_post]
    return [part for part in parts if isinstance(part, nn.Conv1d | nn.ConvTranspose1d)]


def add_weight_norm(net: HiFiGanNet) -> None:
    """Train direction and size of the convolutions' weights apart."""
    for convolution in _normed(net):
        weight_norm(convolution)


def remove_weight_norm(net: HiFiGanNet) -> None:
    """Undo ``add_weight_norm``; the weights stay what they are."""
    for convolution in _normed(net):
        remove_parametrizations(convolution, "weight")
