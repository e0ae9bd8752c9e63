"""The discriminators of a HiFi-GAN, against their layers written out from the weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from syllablelm.core.errors import InputError
from syllablelm.vocoder.discriminators import (
    Discriminators,
    DiscriminatorShape,
    PeriodDiscriminator,
    ScaleDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)


def layers_of(discriminator: Any) -> list[Any]:
    return [*discriminator.convs, discriminator.conv_post]


def folded(convolution) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution under weight norm, by hand."""
    weights = convolution.parametrizations.weight
    size, direction = weights.original0, weights.original1
    return torch.stack(
        [g * v / v.square().sum().sqrt() for g, v in zip(size, direction, strict=True)]
    ), convolution.bias


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@torch.no_grad()
@pytest.mark.parametrize(("period", "samples"), [(2, 400), (3, 400), (7, 401)])
def test_period_discriminator_hears_each_phase_alone(period, samples):
    discriminator, wave = PeriodDiscriminator(period, 8), torch.randn(2, samples)
    mirrored = torch.cat([wave, wave[:, -period:-1].flip(1)], dim=1)[:, : -(-samples // period) * period]
    found = discriminator(wave)
    assert [tuple(output.shape[1::2]) for output in found] == [(n, period) for n in (4, 16, 64, 128, 128, 1)]
    for phase in range(period):
        x = mirrored[:, None, phase::period]
        for number, convolution in enumerate(layers_of(discriminator)):
            weight, bias = folded(convolution)
            last = number == len(discriminator.convs)
            x = F.conv1d(x, weight[..., 0], bias, stride=3 if number < 4 else 1, padding=1 if last else 2)
            x = x if last else torch.where(x > 0, x, 0.1 * x)
            torch.testing.assert_close(found[number][..., phase], x, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_scale_discriminator_layers():
    discriminator, wave = ScaleDiscriminator(8, spectral=False), torch.randn(2, 300)
    found, x = discriminator(wave), wave[:, None]
    strides, groups = (1, 2, 2, 4, 4, 1, 1, 1), (1, 4, 16, 16, 16, 16, 1, 1)
    for number, convolution in enumerate(layers_of(discriminator)):
        weight, bias = folded(convolution)
        x = F.conv1d(x, weight, bias, strides[number], weight.shape[-1] // 2, groups=groups[number])
        x = x if number == 7 else torch.where(x > 0, x, 0.1 * x)
        torch.testing.assert_close(found[number], x, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_further_scales_hear_half_the_rate():
    discriminators, wave = Discriminators(DiscriminatorShape((2,), 3, 8)).eval(), torch.randn(1, 256)
    outputs = discriminators(wave)
    assert len(outputs) == 4
    for scale in (1, 2):
        padded = F.pad(wave, (2, 2))
        wave = torch.stack([padded[:, n : n + 4].mean(1) for n in range(0, padded.shape[1] - 3, 2)], dim=1)
        torch.testing.assert_close(outputs[1 + scale][-1], discriminators.scales[scale](wave)[-1])


def test_spectral_norm_bounds_the_first_scale():
    discriminators = Discriminators(DiscriminatorShape((), 2, 8))
    with torch.no_grad():
        for _ in range(60):
            discriminators(torch.randn(1, 64))
        for number, convolution in enumerate(layers_of(discriminators.scales[0])[:-1]):
            assert torch.linalg.matrix_norm(convolution.weight.flatten(1), 2) == pytest.approx(1.0, abs=0.05), number


def test_published_widths():
    discriminators = Discriminators(DiscriminatorShape(narrower=4))
    periods, scales = (1, 32, 128, 512, 1024, 1024, 1), (1, 128, 128, 256, 512, 1024, 1024, 1024, 1)
    groups = (1, 4, 16, 16, 16, 16, 1, 1)

    def narrow(channels: tuple[int, ...]) -> list[int]:
        return [max(1, count // 4) for count in channels]

    for discriminator in discriminators.periods:
        found = [tuple(convolution.weight.shape) for convolution in layers_of(discriminator)]
        wide = narrow(periods)
        assert found == [(b, a, 5 if n < 5 else 3, 1) for n, (a, b) in enumerate(pairwise(wide))]
    for discriminator in discriminators.scales:
        found = [tuple(convolution.weight.shape) for convolution in layers_of(discriminator)]
        kernels = (15, 41, 41, 41, 41, 41, 5, 3)
        pairs = pairwise(narrow(scales))
        assert found == [(b, a // g, k) for (a, b), g, k in zip(pairs, groups, kernels, strict=True)]
    assert [discriminator.period for discriminator in discriminators.periods] == [2, 3, 5, 7, 11] and len(
        discriminators.scales
    ) == 3


def test_losses_by_hand():
    real = [[torch.tensor([1.0, 2.0]), torch.tensor([[0.5, 1.0]])], [torch.tensor([0.0]), torch.tensor([[1.0]])]]
    fake = [[torch.tensor([1.5, 0.0]), torch.tensor([[0.0, 2.0]])], [torch.tensor([3.0]), torch.tensor([[0.5]])]]
    assert float(discriminator_loss(real, fake)) == pytest.approx(0.125 + 2.0 + 0.0 + 0.25)
    assert float(adversarial_loss(fake)) == pytest.approx(1.0 + 0.25)
    assert float(feature_loss(real, fake)) == pytest.approx(1.25 + 0.75 + 3.0 + 0.5)


@pytest.mark.parametrize("wrong", [{"narrower": 3}, {"periods": (0,)}, {"scales": -1}, {"periods": (), "scales": 0}])
def test_unusable(wrong):
    with pytest.raises(InputError, match="discriminator"):
        DiscriminatorShape(**wrong)
