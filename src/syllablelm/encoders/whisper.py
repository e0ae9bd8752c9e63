"""The encoder of OpenAI's Whisper: log-mel spectra and a transformer, padding-exact.

Shape suffixes: B clips, N samples, M mel frames (one in 10 ms), F mel bands or frequencies, T frames, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders.base import Waveform
from syllablelm.encoders.device import autocast
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.padding import frame_mask, stack_waveforms, standardize

STEP, STRIDE, FFT = 160, 2, 400
MEL_BANDS = (80, 128)
# Frame t of Whisper is centred at sample 320 t, HuBERT's at 320 t + 200: spectra begin this much later, so that the
# frames of both lie on one grid.
GRID_SHIFT = 200
# Spectra lie within this of the loudest one, in powers of ten.
DYNAMIC_RANGE, POWER_FLOOR = 8.0, 1e-10
# Standard deviation that waveforms are brought to: about that of LibriSpeech, hence of what Whisper is used to.
LEVEL = 0.06


class WhisperEncoder(HubEncoder):
    """A Whisper encoder cut off after one layer.

    Args:
        model: encoder half of a checkpoint.
        layer: 1-based layer whose output is the feature (0 is the first block's input): 1 to n are outputs of the n
            blocks, n + 1 (the default) is the last one after the final norm. Below that norm features are larger by
            far and depend more on the clip's length.
        normalize: whether each clip is brought to one level first, so that loudness changes nothing.

    Clips are not padded to 30 s, as Whisper's own program does, but masked: the spectrum of a clip of T frames is that
    of 320 T of its samples, and padding reaches neither the convolutions nor attention. Frames lie where HuBERT's do;
    there are no positions beyond ``max_frames`` (1,500, 30 s).
    """

    takes_pad = False
    mel_BF: Tensor
    taper: Tensor

    def __init__(self, model: nn.Module, layer: int | None = None, *, normalize: bool = False) -> None:
        config: Any = model.config
        if config.num_mel_bins not in MEL_BANDS:
            raise FormatError(f"a Whisper of {config.num_mel_bins} mel bands; those of 80 and of 128 are supported")
        super().__init__(model, layer, normalize=normalize)
        self.max_frames = int(config.max_source_positions)
        self.register_buffer(
            "mel_BF", slaney_filters(config.num_mel_bins, FFT // 2 + 1, self.sample_rate), persistent=False
        )
        self.register_buffer("taper", torch.hann_window(FFT), persistent=False)

    def _choose_attention(self) -> None:
        """There is one kind only."""

    def _count_layers(self) -> int:
        return int(self.model.config.encoder_layers) + getattr(self.model.config, "final_norm", True)

    def _set_saved_layers(self, config: Any, count: int) -> None:
        config.encoder_layers = count
        # The norm belongs to the last block, which may have been cut off.
        config.final_norm = self.layer > count

    def _frame_grid(self) -> tuple[int, int]:
        return STEP * STRIDE, 2 * GRID_SHIFT

    def _extractor(self) -> list[nn.Module]:
        return [self.model.encoder.conv1, self.model.encoder.conv2]

    def _entry(self) -> list[nn.Module]:
        return []

    def _last_norm(self) -> Any:
        encoder = self.model.encoder
        return encoder.layer_norm if self.layer > len(encoder.layers) else None

    def convolve(self, wave_BN: Tensor, lengths_B: Tensor) -> Tensor:
        """Outputs of both convolutions, (B, T, D); a clip of too many frames is an InputError."""
        frames_B = self.frames(lengths_B)
        self._check_length(int(frames_B.max()))
        if self.normalize:
            wave_BN = LEVEL * standardize(wave_BN, lengths_B.to(wave_BN.device, non_blocking=True))
        mel_BFM = self.log_mel(wave_BN, lengths_B.tolist())
        encoder = self.model.encoder
        inner_BDM = functional.gelu(encoder.conv1(mel_BFM))
        if bool((frames_B < inner_BDM.shape[2] // STRIDE).any()):
            # A clip alone ends in the zeros with which the second convolution pads.
            own_BM = frame_mask(STRIDE * frames_B.to(inner_BDM.device, non_blocking=True), inner_BDM.shape[2])
            inner_BDM = inner_BDM.masked_fill(~own_BM[:, None, :], 0.0)
        # Of transposed frames every sum and every norm that follows would be several times as slow.
        return functional.gelu(encoder.conv2(inner_BDM)).transpose(1, 2).contiguous()

    def log_mel(self, wave_BN: Tensor, lengths: Sequence[int]) -> Tensor:
        """Whisper's log-mel spectra of clips of the given sample counts, zero behind each clip's end: (B, F, M)."""
        frames = [self.num_frames(length) for length in lengths]
        result = wave_BN.new_zeros(len(wave_BN), self.mel_BF.shape[0], STRIDE * max(frames))
        for row, wave_N, length, count in zip(result, wave_BN, lengths, frames, strict=True):
            if count == 0:
                continue
            part_N = wave_N[GRID_SHIFT : min(GRID_SHIFT + self.hop * count, length)].float()
            part_N = functional.pad(part_N, (0, self.hop * count - len(part_N)))
            # Powers overflow float16, and bfloat16 is too coarse for them.
            with torch.autocast(part_N.device.type, enabled=False):
                spectrum = torch.stft(part_N, FFT, STEP, window=self.taper, return_complex=True)[:, :-1]
                log_FM = (self.mel_BF @ spectrum.abs().pow(2)).clamp(min=POWER_FLOOR).log10()
            row[:, : STRIDE * count] = (torch.maximum(log_FM, log_FM.max() - DYNAMIC_RANGE) + 4.0) / 4.0
        return result

    def project(self, conv_BTC: Tensor) -> Tensor:
        """The convolutions' outputs are the transformer's inputs as they are: (B, T, D)."""
        return conv_BTC

    def transform(self, input_BTD: Tensor, frames_B: Tensor, layers: Sequence[int] | None = None) -> dict[int, Tensor]:
        """Run the transformer and return the outputs of the asked layers: {layer: (B, T, D)}."""
        wanted = [self.layer] if layers is None else list(layers)
        last = len(self.model.encoder.layers)
        # Of an encoder that was cut below it, there is no state after the final norm.
        normed = last + 1 if self.layer > last else None
        top = last if normed is None else normed
        if any(not 0 <= layer <= top for layer in wanted):
            raise InputError(f"layers {wanted}: this encoder was cut to layers 0 to {top}")
        below = super().transform(input_BTD, frames_B, [last if layer == normed else layer for layer in wanted])
        if normed in wanted:
            below[last + 1] = self.model.encoder.layer_norm(below[last])
        return {layer: below[layer] for layer in wanted}

    def _enter(self, input_BTD: Tensor, mask_BT: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
        encoder = self.model.encoder
        self._check_length(input_BTD.shape[1])
        length = input_BTD.shape[1]
        first = 0
        if self.training and self._limits != (-1, -1):
            # With limited attention a frame must mean the same wherever a window begins.
            first = int(torch.randint(len(encoder.embed_positions.weight) - length + 1, ()))
        hidden_BTD = input_BTD + encoder.embed_positions.weight[first : first + length]
        return functional.dropout(hidden_BTD, p=encoder.dropout, training=self.training), {}

    @torch.inference_mode()
    def encode_window(self, waveform: Waveform, first: int) -> Any:
        """Encode a window (num_samples,) of a longer recording as its frames from ``first``: (T, D) features.

        Its frames then have the positions that they have in the recording; they are those of ``encode``, up to the
        window's own level, if they see nothing outside of the window (``limit_attention``).
        """
        wave_BN, lengths_B = stack_waveforms([waveform], self.device), torch.tensor([len(waveform)])
        with autocast(self.precision, wave_BN.device):
            input_BTD = self.convolve(wave_BN, lengths_B)
            length = input_BTD.shape[1]
            table = self.model.encoder.embed_positions.weight
            first = min(first, len(table) - length)
            # The transformer adds the positions of a clip that begins the recording.
            input_BTD = input_BTD + (table[first : first + length] - table[:length])
            feats_BTD = self.transform(input_BTD, self.frames(lengths_B))[self.layer]
        return feats_BTD[0].float().cpu().numpy()

    @property
    def _limits(self) -> tuple[int, int]:
        config = self.model.config
        return getattr(config, "attention_left", -1), getattr(config, "attention_right", -1)

    def limit_attention(self, left: int, right: int) -> None:
        """Let a frame see that many frames before and after its own in each block, -1 for all; saved with the model."""
        self.model.config.attention_left, self.model.config.attention_right = left, right

    @property
    def reach(self) -> int | None:
        """Frames after its own that a feature depends on, but for the clip's level; None where on all."""
        right = self._limits[1]
        # The convolutions and the window of the spectrum see 1.6 frames.
        return None if right < 0 else 2 + right * min(self.layer, len(self.model.encoder.layers))

    def _attention_mask(self, mask_BT: Tensor | None, input_BTD: Tensor) -> Tensor | None:
        left, right = self._limits
        if (left, right) == (-1, -1):
            return super()._attention_mask(mask_BT, input_BTD)
        place_T = torch.arange(input_BTD.shape[1], device=input_BTD.device)
        ahead_TT = place_T[None, :] - place_T[:, None]
        seen = (ahead_TT <= (right if right >= 0 else len(place_T))) & (
            ahead_TT >= -(left if left >= 0 else len(place_T))
        )
        if mask_BT is None:
            return seen[None, None]
        # Padding sees itself: attention to nothing is not a number.
        return ((seen & mask_BT[:, None, :]) | (ahead_TT == 0))[:, None]

    def _check_length(self, num_frames: int) -> None:
        most = int(self.model.config.max_source_positions)
        if num_frames > most:
            raise InputError(
                f"a clip of {num_frames} frames ({num_frames * self.hop / self.sample_rate:.1f} s) is longer than "
                f"Whisper's {most} positions; cut it, or encode it by a tokenizer, which uses windows"
            )

    def preprocessor(self) -> dict[str, Any]:
        return {
            "chunk_length": int(self.model.config.max_source_positions) * self.hop // self.sample_rate,
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": self.mel_BF.shape[0],
            "hop_length": STEP,
            "n_fft": FFT,
            "normalize_level": self.normalize,
            "padding_value": 0.0,
            "return_attention_mask": False,
            "sampling_rate": self.sample_rate,
        }


def slaney_filters(bands: int, bins: int, sample_rate: int) -> Tensor:
    """Triangles of equal area on Slaney's mel scale, linear to 1 kHz and logarithmic above: (bands, bins).

    They reach from 0 Hz to half the sample rate, which is above 1 kHz.
    """
    most = 15.0 + 27.0 * np.log(sample_rate / 2000.0) / np.log(6.4)
    mels = np.linspace(0.0, most, bands + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp((mels - 15.0) * np.log(6.4) / 27.0))
    hertz = np.linspace(0.0, sample_rate / 2, bins)
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(triangles).float()
