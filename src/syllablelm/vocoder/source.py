"""Speech as a source and a filter: pulses and noise, shaped by spectral envelopes (Dudley's vocoder, 1939).

Shape suffixes: N samples, T spectrum frames, F frequency bins, K cepstral coefficients.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from syllablelm.vocoder.spectrum import SpectrumSpec

FloatArray = npt.NDArray[np.float32]
# Even the most voiced sound has a little breath in it, or it buzzes.
BREATH = 0.03


def excite(pitch: FloatArray, voicing: FloatArray, spec: SpectrumSpec, *, seed: int = 0) -> FloatArray:
    """The source: pulses at the pitch where it is voiced, noise where not, of unit power everywhere.

    Args:
        pitch: (T,) Hz, above 0.
        voicing: (T,) share of the power that is pulses, 0 to 1.
        seed: of the noise.

    Returns:
        (T * hop,) float32.
    """
    num_samples, knots = len(pitch) * spec.hop, np.arange(len(pitch)) * spec.hop
    time = np.arange(num_samples)
    hertz = np.interp(time, knots, pitch)
    turns = np.cumsum(hertz / spec.sample_rate)
    pulses = np.where(np.diff(np.floor(turns), prepend=0.0) > 0, np.sqrt(spec.sample_rate / hertz), 0.0)
    share = np.clip(np.interp(time, knots, voicing), 0.0, 1.0 - BREATH)
    noise = np.random.default_rng(seed).standard_normal(num_samples)
    return (np.sqrt(share) * pulses + np.sqrt(1.0 - share) * noise).astype(np.float32)


def synthesize_voice(
    cepstra: FloatArray, pitch: FloatArray, voicing: FloatArray, spec: SpectrumSpec, *, seed: int = 0
) -> FloatArray:
    """The source, its own envelope taken away and the given one put on.

    Args:
        cepstra: (T, K), see ``SpectrumSpec.cepstrum``.
        pitch, voicing, seed: see ``excite``.

    Returns:
        (T * hop,) float32, as loud as the cepstra say.
    """
    if len(cepstra) == 0:
        return np.zeros(0, dtype=np.float32)
    source_N = excite(pitch, voicing, spec, seed=seed)
    # Reflection at the edges needs more samples than half a window; silence after the end does no harm.
    padded_1N = torch.nn.functional.pad(torch.from_numpy(source_N)[None], (0, spec.fft))
    source_1FT = spec.transform(padded_1N)
    wanted_1TK = torch.from_numpy(np.asarray(cepstra, dtype=np.float32))[None]
    missing = source_1FT.shape[-1] - wanted_1TK.shape[1]
    wanted_1TK = torch.cat([wanted_1TK, wanted_1TK[:, -1:].expand(-1, missing, -1)], dim=1)
    gain_1TF = spec.envelope(wanted_1TK - spec.cepstrum(source_1FT)).exp()
    wave_1N = spec.invert(source_1FT * gain_1TF.transpose(1, 2), padded_1N.shape[1])
    return wave_1N[0, : len(source_N)].numpy()
