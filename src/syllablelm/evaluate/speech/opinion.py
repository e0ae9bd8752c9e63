"""Mean opinion scores that a network predicts without a reference: DNSMOS P.835 (Reddy et al. 2022, arXiv 2110.01763).

The networks lie in the wheel of speechmos. Its code is not run: it needs librosa and requests, which it does not
declare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, find_optional, import_optional
from syllablelm.data.audio import SAMPLE_RATE

Waveform = npt.NDArray[np.float32]

# Samples of a window, and from one window to the next.
WINDOW, STEP = int(9.01 * SAMPLE_RATE), SAMPLE_RATE
# From the network's outputs (signal, background, overall) to scores; highest power first.
_POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
_NEED, _INSTALL = "opinion scores by DNSMOS need speechmos and onnxruntime", "'syllablelm[quality]'"


@dataclass(frozen=True)
class OpinionScores:
    """Scores from 1 (bad) to 5 (excellent): overall, of the speech signal, and of the background."""

    overall: float
    signal: float
    background: float


class DNSMOS:
    """DNSMOS P.835, as the speechmos package computes it for speech, doubled or not, under 17 s.

    Rounding of times makes the released code skip the windows that begin 7 to 23 s after the start; here all count.

    Raises:
        MissingDependencyError: speechmos or onnxruntime is not installed.
    """

    settings = (
        "DNSMOS P.835 (weights of speechmos) at 16 kHz, level as it is, samples limited to full scale; mean over "
        "windows of 9.01 s every second, shorter speech repeated; the mean over recordings counts each once"
    )

    def __init__(self) -> None:
        runtime = import_optional("onnxruntime", _NEED, _INSTALL)
        path = find_optional("speechmos", _NEED, _INSTALL) / "dnsmos_models" / "sig_bak_ovr.onnx"
        options = runtime.SessionOptions()
        # Threads that wait actively slow down the vocoder and the recognisers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._network: Any = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def score(self, waveform: Waveform) -> OpinionScores:
        """Return the scores of a waveform (num_samples,) at 16 kHz; InputError for an empty one."""
        if not len(waveform):
            raise InputError("an empty waveform has no opinion score")
        wave = np.clip(waveform, -1.0, 1.0).astype(np.float32)
        # Doubled, not repeated as often as needed: the number of windows depends on it.
        while len(wave) < WINDOW:
            wave = np.concatenate([wave, wave])
        # A window that begins in the last second is left out.
        last = max(0, len(wave) // SAMPLE_RATE * SAMPLE_RATE - WINDOW)
        raw = [self._network.run(None, {"input_1": wave[None, a : a + WINDOW]})[0][0] for a in range(0, last + 1, STEP)]
        signal, background, overall = (
            float(np.mean(np.polyval(factors, values)))
            for factors, values in zip(_POLYNOMIALS, np.transpose(raw).astype(np.float64), strict=True)
        )
        return OpinionScores(overall, signal, background)
