"""Short-time spectra, and their smooth envelopes as a few cepstral coefficients.

Shape suffixes: B clips, N samples, T spectrum frames, F frequency bins, K cepstral coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from syllablelm.core.errors import LARGEST_SIZE, InputError, check_fields

FLOOR = 1e-5


@dataclass(frozen=True)
class SpectrumSpec:
    """A short-time Fourier transform and the order of its cepstral envelope.

    Args:
        fft, hop, sample_rate: length of the transform and of its Hann window, samples per frame, and per second.
        order: cepstral coefficients of an envelope, the mean log-magnitude first; below the shortest pitch period in
            samples, or the envelope would follow harmonics.
    """

    fft: int = 800
    hop: int = 160
    sample_rate: int = 16_000
    order: int = 40

    def __post_init__(self) -> None:
        check_fields(self, "fft hop order", least=1, most=LARGEST_SIZE)
        check_fields(self, "sample_rate", least=1, most=768_000)
        if self.fft < 4 * self.hop:
            raise InputError(f"hop {self.hop}: must be at most a quarter of fft {self.fft}")
        if self.order > self.fft // 2:
            raise InputError(f"order {self.order}: must be at most half of fft {self.fft}")

    @property
    def bins(self) -> int:
        """Frequency bins: fft // 2 + 1."""
        return self.fft // 2 + 1

    def transform(self, wave_BN: Tensor) -> Tensor:
        """Return the complex spectrum (B, F, T) of unit gain; frame t is centred on sample t * hop, T = N // hop + 1.

        Unit gain: white noise of unit variance has magnitudes of mean square 1.
        """
        window = self._window(wave_BN)
        spectrum = torch.stft(wave_BN, self.fft, self.hop, window=window, return_complex=True)
        return spectrum / self._gain

    def invert(self, spectrum_BFT: Tensor, num_samples: int) -> Tensor:
        """Return the least-squares waveform of a complex spectrum: (B, N)."""
        window = self._window(spectrum_BFT.real)
        return torch.istft(spectrum_BFT * self._gain, self.fft, self.hop, window=window, length=num_samples)

    def cepstrum(self, spectrum_BFT: Tensor) -> Tensor:
        """Return the cepstral coefficients of the envelope of the log-magnitude, (B, T, K): its low quefrencies."""
        log_BTF = spectrum_BFT.abs().clamp(min=FLOOR).log().transpose(1, 2)
        return torch.fft.irfft(log_BTF.to(torch.complex64), n=self.fft)[..., : self.order]

    def envelope(self, cepstrum_BTK: Tensor) -> Tensor:
        """Return the log-magnitudes (B, T, F) of the envelope; the inverse of ``cepstrum``."""
        quefrency = torch.arange(self.order, device=cepstrum_BTK.device)
        frequency = torch.arange(self.bins, device=cepstrum_BTK.device) * (2 * math.pi / self.fft)
        cosines_KF = torch.cos(quefrency[:, None] * frequency) * torch.where(quefrency[:, None] == 0, 1.0, 2.0)
        return cepstrum_BTK @ cosines_KF

    @property
    def _gain(self) -> float:
        """Root of the sum of the squared Hann window."""
        return math.sqrt(3 / 8 * self.fft)

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.fft, dtype=like.dtype, device=like.device)
