"""w2v-BERT 2.0: log-mel spectra and a conformer, from Hugging Face, padding-exact.

Shape suffixes: B clips, N samples, M mel frames (one in 10 ms), K samples of a window, F frequencies, T frames,
D features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from syllablelm.core.errors import FormatError
from syllablelm.encoders.attention import ClippedRelativeAttention
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.padding import frame_mask

BANDS, STRIDE = 80, 2
WINDOW, STEP, FFT = 400, 160, 512
PREEMPHASIS, FLOOR = 0.97, 1.192092955078125e-07
SCALE = 2.0**15
"""Kaldi computes its spectra of 16-bit numbers."""


class W2vBertEncoder(HubEncoder):
    """A ``Wav2Vec2BertModel`` cut off after one layer.

    Args:
        model: the model.
        layer: 1-based conformer layer whose output is the feature (0 is the first layer's input); None is the last.

    A frame is two mel frames, 320 samples apart like HuBERT's, and sees 560 samples. Every mel band is standardised
    over the clip's own mel frames, as ``SeamlessM4TFeatureExtractor`` does. The convolutions look back only, so what
    lies behind a clip's end never reaches it.
    """

    takes_pad = False
    mel_FB: Tensor
    taper_K: Tensor

    def __init__(self, model: nn.Module, layer: int | None = None) -> None:
        super().__init__(model, layer)
        size = int(self.model.config.feature_projection_input_dim)
        if size != BANDS * STRIDE:
            raise FormatError(f"a w2v-BERT of {size} inputs; those of {STRIDE} x {BANDS} mel bands are supported")
        self.register_buffer("mel_FB", _mel_filters(), persistent=False)
        self.register_buffer(
            "taper_K", torch.hann_window(WINDOW, periodic=False, dtype=torch.float64).pow(0.85), persistent=False
        )

    def _frame_grid(self) -> tuple[int, int]:
        return STEP * STRIDE, WINDOW + STEP * (STRIDE - 1)

    def _choose_attention(self) -> None:
        super()._choose_attention()
        if self.model.config.position_embeddings_type == "relative_key":
            for block in self.model.encoder.layers:
                if not isinstance(block.self_attn, ClippedRelativeAttention):
                    block.self_attn = ClippedRelativeAttention(block.self_attn)

    def convolve(self, wave_BN: Tensor, lengths_B: Tensor) -> Tensor:
        """Log-mel spectra, standardised and stacked in pairs: (B, T, 160)."""
        mel_BMF = self.log_mel(wave_BN)
        counts_B = ((lengths_B - WINDOW) // STEP + 1).to(wave_BN.device, non_blocking=True)
        own_BM1 = frame_mask(counts_B, mel_BMF.shape[1])[..., None]
        count_B11 = counts_B[:, None, None]
        centred_BMF = (mel_BMF - (mel_BMF * own_BM1).sum(1, keepdim=True) / count_B11) * own_BM1
        variance_B1F = centred_BMF.pow(2).sum(1, keepdim=True) / (count_B11 - 1)
        features_BMF = centred_BMF / torch.sqrt(variance_B1F + 1e-7)
        # An odd last mel frame takes part in the statistics and gives no frame.
        pairs = features_BMF.shape[1] // STRIDE
        return features_BMF[:, : pairs * STRIDE].unflatten(1, (pairs, STRIDE)).flatten(2).to(wave_BN.dtype)

    def log_mel(self, wave_BN: Tensor) -> Tensor:
        """Kaldi's log-mel spectra in float64: (B, M, 80)."""
        windows_BMK = wave_BN.double().unfold(1, WINDOW, STEP) * SCALE
        windows_BMK = windows_BMK - windows_BMK.mean(-1, keepdim=True)
        # The first sample of a window has itself before it.
        before_BMK = torch.cat([windows_BMK[..., :1], windows_BMK[..., :-1]], dim=-1)
        tapered_BMK = (windows_BMK - PREEMPHASIS * before_BMK) * self.taper_K
        power_BMF = torch.fft.rfft(tapered_BMK, FFT).abs().pow(2)
        return torch.log((power_BMF @ self.mel_FB).clamp(min=FLOOR))

    def _enter(self, input_BTD: Tensor, mask_BT: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
        encoder = self.model.encoder
        hidden_BTD = encoder.dropout(input_BTD)
        shared: dict[str, Any] = {"conv_attention_mask": mask_BT}
        if encoder.embed_positions is not None:
            shared["relative_position_embeddings"] = encoder.embed_positions(hidden_BTD)
        return hidden_BTD, shared

    def preprocessor(self) -> dict[str, Any]:
        return {
            "feature_extractor_type": "SeamlessM4TFeatureExtractor",
            "feature_size": BANDS,
            "num_mel_bins": BANDS,
            "padding_value": 1.0,
            "return_attention_mask": True,
            "sampling_rate": self.sample_rate,
            "stride": STRIDE,
        }


def _mel_filters() -> Tensor:
    """Triangles evenly spaced in mel from 20 Hz to 8 kHz, their sides straight in mel: (257, 80)."""

    def mel(hertz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hertz / 700.0)

    low, high = mel(torch.tensor([20.0, 8000.0], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64)
    place_F1 = mel(torch.arange(FFT // 2 + 1, dtype=torch.float64) * (HubEncoder.sample_rate / FFT))[:, None]
    rising_FB = (place_F1 - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling_FB = (edges[2:] - place_F1) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising_FB, falling_FB).clamp(min=0.0)
