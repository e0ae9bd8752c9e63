"""Spectra and their envelopes: exact where they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from syllablelm.core.errors import InputError
from syllablelm.vocoder.spectrum import SpectrumSpec

SPEC = SpectrumSpec()


def tone(seconds: float = 1.0) -> torch.Tensor:
    time = torch.arange(int(16_000 * seconds)) / 16_000
    return (0.3 * torch.sin(2 * torch.pi * 220 * time) + 0.1 * torch.sin(2 * torch.pi * 1760 * time))[None]


def test_inversion_of_a_spectrum_is_exact():
    wave = tone()
    back = SPEC.invert(SPEC.transform(wave), wave.shape[1])
    torch.testing.assert_close(back, wave, atol=1e-5, rtol=0)


def test_frames_are_counted_as_promised():
    spectrum = SPEC.transform(tone())
    assert spectrum.shape == (1, SPEC.bins, 16_000 // SPEC.hop + 1)
    assert SPEC.cepstrum(spectrum).shape == (1, 16_000 // SPEC.hop + 1, SPEC.order)


def test_noise_of_unit_variance_has_unit_magnitudes():
    noise = torch.randn(1, 160_000, generator=torch.Generator().manual_seed(0))
    assert float(SPEC.transform(noise).abs().square().mean()) == pytest.approx(1.0, rel=0.02)


def test_envelope_is_the_inverse_of_the_cepstrum_on_smooth_spectra():
    generator = torch.Generator().manual_seed(0)
    cepstrum = torch.randn(1, 7, SPEC.order, generator=generator) / torch.arange(1, SPEC.order + 1)
    envelope = SPEC.envelope(cepstrum)
    torch.testing.assert_close(
        SPEC.cepstrum(envelope.exp().transpose(1, 2).to(torch.complex64)), cepstrum, atol=1e-5, rtol=0
    )


def test_envelope_against_its_definition():
    cepstrum = np.array([0.5, -0.2, 0.1])
    spec = SpectrumSpec(fft=16, hop=4, order=3)
    slow = [cepstrum[0] + 2 * sum(cepstrum[k] * np.cos(2 * np.pi * k * f / 16) for k in (1, 2)) for f in range(9)]
    fast = spec.envelope(torch.tensor(cepstrum, dtype=torch.float32)[None, None])[0, 0]
    np.testing.assert_allclose(fast.numpy(), slow, atol=1e-6)


@pytest.mark.parametrize("options", [{"fft": 800, "hop": 400}, {"hop": 0}, {"order": 0}, {"fft": 64, "hop": 8}])
def test_unusable_settings(options):
    with pytest.raises(InputError):
        SpectrumSpec(**options)
