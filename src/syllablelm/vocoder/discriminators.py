"""Discriminators of HiFi-GAN training (Kong et al. 2020): several periods and several scales of the waveform.

Shape suffixes: B clips, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from syllablelm.core.errors import InputError
from syllablelm.vocoder.hifigan import SLOPE

# Channels in and out, kernel, stride, groups of each layer.
_PERIOD_LAYERS = (
    (1, 32, 5, 3, 1),
    (32, 128, 5, 3, 1),
    (128, 512, 5, 3, 1),
    (512, 1024, 5, 3, 1),
    (1024, 1024, 5, 1, 1),
)
_SCALE_LAYERS = (
    (1, 128, 15, 1, 1),
    (128, 128, 41, 2, 4),
    (128, 256, 41, 2, 16),
    (256, 512, 41, 4, 16),
    (512, 1024, 41, 4, 16),
    (1024, 1024, 41, 1, 16),
    (1024, 1024, 5, 1, 1),
)


@dataclass(frozen=True)
class DiscriminatorShape:
    """Number and sizes of the discriminators.

    Args:
        periods, scales: period of each period discriminator, in samples; number of scale discriminators, each of which
            takes the waveform at half the rate of the one before.
        narrower: divisor of the published numbers of channels: 1, 2, 4 or 8.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    scales: int = 3
    narrower: int = 1

    def __post_init__(self) -> None:
        if self.narrower not in (1, 2, 4, 8) or self.scales < 0 or any(period < 1 for period in self.periods):
            raise InputError("discriminators need periods of a sample or more, and narrower = 1, 2, 4 or 8")
        if not self.periods and not self.scales:
            raise InputError("a HiFi-GAN learns from one discriminator at least; give periods or scales")


class PeriodDiscriminator(nn.Module):
    """Convolutions over every ``period``-th sample."""

    def __init__(self, period: int, narrower: int) -> None:
        super().__init__()
        self.period = period
        self.convs = nn.ModuleList(
            weight_norm(
                nn.Conv2d(max(1, a // narrower), b // narrower, (kernel, 1), (stride, 1), padding=(kernel // 2, 0))
            )
            for a, b, kernel, stride, _ in _PERIOD_LAYERS
        )
        self.conv_post = weight_norm(nn.Conv2d(1024 // narrower, 1, (3, 1), padding=(1, 0)))

    def forward(self, wave_BN: Tensor) -> list[Tensor]:
        """Return the outputs of all layers; the last are the scores."""
        missing = -wave_BN.shape[1] % self.period
        x = F.pad(wave_BN[:, None], (0, missing), "reflect") if missing else wave_BN[:, None]
        return _layers(x.unflatten(2, (-1, self.period)), self.convs, self.conv_post)


class ScaleDiscriminator(nn.Module):
    """Convolutions over neighbouring samples; the one of the full rate under spectral norm."""

    def __init__(self, narrower: int, *, spectral: bool) -> None:
        super().__init__()
        norm = spectral_norm if spectral else weight_norm
        self.convs = nn.ModuleList(
            norm(nn.Conv1d(max(1, a // narrower), b // narrower, kernel, stride, padding=kernel // 2, groups=groups))
            for a, b, kernel, stride, groups in _SCALE_LAYERS
        )
        self.conv_post = norm(nn.Conv1d(1024 // narrower, 1, 3, padding=1))

    def forward(self, wave_BN: Tensor) -> list[Tensor]:
        """Return the outputs of all layers; the last are the scores."""
        return _layers(wave_BN[:, None], self.convs, self.conv_post)


class Discriminators(nn.Module):
    """All discriminators."""

    def __init__(self, shape: DiscriminatorShape) -> None:
        super().__init__()
        self.periods = nn.ModuleList(PeriodDiscriminator(period, shape.narrower) for period in shape.periods)
        self.scales = nn.ModuleList(
            ScaleDiscriminator(shape.narrower, spectral=scale == 0) for scale in range(shape.scales)
        )

    def forward(self, wave_BN: Tensor) -> list[list[Tensor]]:
        """(B, N) waveforms, longer than the longest period -> layer outputs of each discriminator, scores last."""
        outputs = [discriminator(wave_BN) for discriminator in self.periods]
        for scale, discriminator in enumerate(self.scales):
            if scale:
                wave_BN = F.avg_pool1d(wave_BN[:, None], 4, 2, padding=2).squeeze(1)
            outputs.append(discriminator(wave_BN))
        return outputs


def _layers(x: Tensor, convs: nn.ModuleList, last: nn.Module) -> list[Tensor]:
    outputs = []
    for convolve in convs:
        x = F.leaky_relu(convolve(x), SLOPE)
        outputs.append(x)
    return [*outputs, last(x)]


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Return the least-squares loss (real: 1, generated: 0), summed over the discriminators."""
    losses = [(1 - r[-1]).square().mean() + f[-1].square().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).sum()


def adversarial_loss(fake: list[list[Tensor]]) -> Tensor:
    """Return the least-squares loss of the generator (generated: 1), summed over the discriminators."""
    return torch.stack([(1 - outputs[-1]).square().mean() for outputs in fake]).sum()


def feature_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Return the mean absolute difference of layer outputs, scores included, summed over layers and discriminators."""
    pairs = [(r, f) for outputs in zip(real, fake, strict=True) for r, f in zip(*outputs, strict=True)]
    return torch.stack([(r - f).abs().mean() for r, f in pairs]).sum()
