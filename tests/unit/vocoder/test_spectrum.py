"""Spectra and Griffin-Lim: exact where they should be, closer with every iteration."""

from __future__ import annotations

import pytest
import torch

from syllablelm.errors import InputError
from syllablelm.vocoder.spectrum import SpectrumSpec, griffin_lim

SPEC = SpectrumSpec()


def tone(seconds: float = 1.0) -> torch.Tensor:
    time = torch.arange(int(16_000 * seconds)) / 16_000
    return (0.3 * torch.sin(2 * torch.pi * 220 * time) + 0.1 * torch.sin(2 * torch.pi * 1760 * time))[None]


def test_inversion_of_a_spectrum_is_exact():
    wave = tone()
    back = SPEC.invert(SPEC.transform(wave), wave.shape[1])
    torch.testing.assert_close(back, wave, atol=1e-5, rtol=0)


def test_frames_are_counted_as_promised():
    spectrum = SPEC.log_magnitude(tone())
    assert spectrum.shape == (1, 16_000 // SPEC.hop + 1, SPEC.bins)


def distance(wave: torch.Tensor, target: torch.Tensor) -> float:
    magnitude = SPEC.log_magnitude(wave).exp()
    return float((magnitude - target.exp()).pow(2).sum() / target.exp().pow(2).sum())


def test_more_iterations_come_closer_to_the_magnitude():
    generator = torch.Generator().manual_seed(0)
    wave = tone() + 0.05 * torch.randn(1, 16_000, generator=generator)
    target = SPEC.log_magnitude(wave)
    errors = [distance(griffin_lim(target, SPEC, iterations=n), target) for n in (0, 4, 32)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_momentum_helps():
    target = SPEC.log_magnitude(tone() + 0.05 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)))
    fast, classic = (distance(griffin_lim(target, SPEC, iterations=16, momentum=m), target) for m in (0.99, 0.0))
    assert fast < classic


def test_repeats_by_seed():
    target = SPEC.log_magnitude(tone(0.2))
    first, again, other = (griffin_lim(target, SPEC, iterations=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_hops_that_cannot_be_inverted_are_refused():
    with pytest.raises(InputError, match="quarter"):
        SpectrumSpec(fft=400, hop=160)
