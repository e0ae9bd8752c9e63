"""Log-magnitude spectra and their inversion by fast Griffin-Lim (Perraudin et al. 2013).

Shape suffixes: B clips, N samples, T spectrum frames, F frequency bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from syllablelm.errors import InputError

FLOOR = 1e-5


@dataclass(frozen=True)
class SpectrumSpec:
    """A short-time Fourier transform.

    Args:
        fft, hop: in samples; the Hann window is as long as the transform.
        sample_rate: of the waveform.
    """

    fft: int = 800
    hop: int = 160
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        if self.hop < 1 or self.fft < 4 * self.hop:
            raise InputError(f"a spectrum of {self.fft} samples needs a hop of at most a quarter of that")

    @property
    def bins(self) -> int:
        """Frequency bins: fft // 2 + 1."""
        return self.fft // 2 + 1

    def transform(self, wave_BN: Tensor) -> Tensor:
        """Complex spectrum (B, F, T); frame t is centred on sample t * hop, T = N // hop + 1."""
        return torch.stft(wave_BN, self.fft, self.hop, window=self._window(wave_BN), return_complex=True)

    def invert(self, spectrum_BFT: Tensor, num_samples: int) -> Tensor:
        """Waveform of a complex spectrum, the least-squares one where frames disagree: (B, N)."""
        window = self._window(spectrum_BFT.real)
        return torch.istft(spectrum_BFT, self.fft, self.hop, window=window, length=num_samples)

    def log_magnitude(self, wave_BN: Tensor) -> Tensor:
        """Natural logarithm of the magnitude, floored: (B, T, F)."""
        return self.transform(wave_BN).abs().clamp(min=FLOOR).log().transpose(1, 2)

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.fft, dtype=like.dtype, device=like.device)


def griffin_lim(
    log_magnitude_BTF: Tensor, spec: SpectrumSpec, *, iterations: int = 32, momentum: float = 0.99, seed: int = 0
) -> Tensor:
    """Find a waveform whose spectrum has the given magnitude.

    Args:
        log_magnitude_BTF: natural logarithm of the magnitude.
        iterations: more come closer.
        momentum: of the fast variant; 0 is the classic algorithm (Griffin & Lim 1984).
        seed: of the first phases.

    Returns:
        (B, (T - 1) * hop) waveform.
    """
    magnitude = log_magnitude_BTF.transpose(1, 2).exp()
    num_samples = (magnitude.shape[-1] - 1) * spec.hop
    generator = torch.Generator().manual_seed(seed)
    turns = torch.rand(magnitude.shape, generator=generator).to(magnitude) * (2 * torch.pi)
    estimate = torch.polar(magnitude, turns)
    before = torch.zeros_like(estimate)
    for _ in range(iterations):
        consistent = spec.transform(spec.invert(estimate, num_samples))
        ahead = consistent + momentum * (consistent - before)
        before = consistent
        estimate = magnitude * ahead / ahead.abs().clamp(min=1e-12)
    return spec.invert(estimate, num_samples)
