"""The light unit vocoder: acoustic units -> envelope, pitch, voicing by convolutions -> waveform by source and filter.

It trains in minutes on two CPU cores, where a HiFi-GAN needs days on a GPU; it is intelligible and sounds like a robot.
Shape suffixes: B clips, U unit frames, T spectrum frames, D channels, K cepstral coefficients, C outputs (K + 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.config import build
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.encoders.device import pick_device
from syllablelm.vocoder.saved import SHAPE_FILE, WEIGHTS_FILE, read_acoustic, read_shape, read_weights, save_net
from syllablelm.vocoder.source import synthesize_voice
from syllablelm.vocoder.spectrum import SpectrumSpec

# Hz; what is tracked in training and spoken.
PITCH_RANGE = (75.0, 400.0)


@dataclass(frozen=True)
class SpectralShape:
    """The network.

    Args:
        units: acoustic units.
        dim, blocks, kernel: channels, residual blocks (half before, half after upsampling), and their kernel.
        hop: samples per unit frame; a multiple of the spectrum's hop.
        spectrum: what it predicts.
    """

    units: int
    dim: int = 256
    blocks: int = 8
    kernel: int = 7
    hop: int = 320
    spectrum: SpectrumSpec = field(default_factory=SpectrumSpec)

    def __post_init__(self) -> None:
        if self.hop % self.spectrum.hop or self.units < 1 or self.blocks < 2 or self.kernel % 2 == 0:
            raise InputError("a spectral vocoder needs units, two blocks, an odd kernel, and a hop of whole frames")

    @property
    def upsampling(self) -> int:
        """Spectrum frames per unit frame."""
        return self.hop // self.spectrum.hop


class _Block(nn.Module):
    """Depthwise convolution over time, then a pointwise network, both residual (as in ConvNeXt)."""

    def __init__(self, dim: int, kernel: int, dilation: int) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=padding, dilation=dilation, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.wide, self.narrow = nn.Linear(dim, 3 * dim), nn.Linear(3 * dim, dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        y_BTD = self.depthwise(x_BTD.transpose(1, 2)).transpose(1, 2)
        return x_BTD + self.narrow(F.gelu(self.wide(self.norm(y_BTD))))


class SpectralNet(nn.Module):
    """Unit frames to what a voice does in each spectrum frame.

    The outputs are standardised: ``mean`` and ``deviation`` turn them into cepstral coefficients, the logarithm of the
    pitch in Hz, and the logit of voicing. ``spread`` gives cepstra back the variance that averaging took from them.
    """

    mean: Tensor
    deviation: Tensor
    spread: Tensor

    def __init__(self, shape: SpectralShape) -> None:
        super().__init__()
        self.shape = shape
        half = shape.blocks // 2
        self.embedding = nn.Embedding(shape.units, shape.dim)
        self.coarse = nn.Sequential(*(_Block(shape.dim, shape.kernel, 1 + i % 3) for i in range(half)))
        self.upsample = nn.Linear(shape.dim, shape.dim * shape.upsampling)
        self.fine = nn.Sequential(*(_Block(shape.dim, shape.kernel, 1 + i % 3) for i in range(shape.blocks - half)))
        self.norm = nn.LayerNorm(shape.dim)
        outputs = shape.spectrum.order + 2
        self.output = nn.Linear(shape.dim, outputs)
        for name, value in (("mean", torch.zeros), ("deviation", torch.ones), ("spread", torch.ones)):
            self.register_buffer(name, value(outputs))

    @torch.no_grad()
    def start_from(self, centres: npt.NDArray[np.float32]) -> None:
        """Let units that sound alike begin alike: embeddings are a random projection of the units' centres (U, D)."""
        table = torch.from_numpy((centres - centres.mean(0)) / (centres.std(0) + 1e-5))
        projection = torch.randn(table.shape[1], self.shape.dim) / table.shape[1] ** 0.5
        self.embedding.weight.copy_(table @ projection)

    def forward(self, units_BU: Tensor) -> Tensor:
        """(B, U) unit of each frame -> (B, U * upsampling, C) standardised outputs."""
        x = self.coarse(self.embedding(units_BU))
        x = self.upsample(x).reshape(x.shape[0], -1, self.shape.dim)
        return self.output(self.norm(self.fine(x)))

    def voice(self, units_U: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(U,) units -> cepstra (T, K), pitch (T,) in Hz and voicing (T,), all ready for the synthesis."""
        y_TC = (self(units_U[None])[0] * self.spread * self.deviation + self.mean).float()
        low, high = PITCH_RANGE
        return y_TC[:, :-2], y_TC[:, -2].exp().clamp(low, high), y_TC[:, -1].sigmoid()


class SpectralVocoder:
    """Acoustic units to sound.

    Args:
        net: the trained network.
        acoustic: digest of the units that it speaks; "" if unknown.
    """

    def __init__(self, net: SpectralNet, acoustic: str = "") -> None:
        self.net, self.acoustic = net.eval(), acoustic
        self.sample_rate = net.shape.spectrum.sample_rate

    @property
    def num_units(self) -> int:
        """Size of the acoustic vocabulary."""
        return self.net.shape.units

    @torch.inference_mode()
    def decode(self, acoustic: Segmentation, *, seed: int = 0) -> npt.NDArray[np.float32]:
        """Speak acoustic units, each as long as it says.

        Args:
            acoustic: gap-free units on this vocoder's grid.
            seed: of the noise in unvoiced sounds.

        Returns:
            (num_samples,) float32 at ``sample_rate``, at most full scale.

        Raises:
            InputError: units or frames that do not fit.
        """
        frames = unit_frames(acoustic, self.num_units, self.net.shape.hop, self.sample_rate)
        if len(frames) == 0:
            return np.zeros(0, dtype=np.float32)
        device = self.net.output.weight.device
        parts = self.net.voice(torch.from_numpy(frames).to(device))
        cepstra, pitch, voicing = (part.cpu().numpy() for part in parts)
        return _below_full_scale(synthesize_voice(cepstra, pitch, voicing, self.net.shape.spectrum, seed=seed))

    def save(self, folder: Path) -> None:
        """Write weights and shape into an existing folder."""
        save_net(self.net, "spectral", self.net.shape, folder, acoustic=self.acoustic)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "auto") -> SpectralVocoder:
        """Open what ``save`` wrote.

        Raises:
            FormatError: missing or damaged files.
        """
        folder = Path(folder)
        net = SpectralNet(build(SpectralShape, read_shape(folder, "spectral"), str(folder / SHAPE_FILE)))
        weights = read_weights(folder)
        try:
            net.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise FormatError(f"{folder / WEIGHTS_FILE}: not the weights of this vocoder ({reason})") from None
        return cls(net.to(pick_device(device)), read_acoustic(folder))


def unit_frames(acoustic: Segmentation, num_units: int, hop: int, sample_rate: int) -> npt.NDArray[np.int64]:
    """The unit of every frame: (num_frames,).

    Raises:
        InputError: no units, units outside the vocabulary, gaps, or another time grid.
    """
    if acoustic.unit is None:
        raise InputError("a vocoder needs units; this segmentation has none")
    if len(acoustic) and int(acoustic.unit.max()) >= num_units:
        raise InputError(f"unit {int(acoustic.unit.max())} is outside the vocoder's vocabulary of {num_units}")
    if (acoustic.hop, acoustic.sample_rate) != (hop, sample_rate):
        raise InputError(
            f"frames of {acoustic.hop} samples at {acoustic.sample_rate} Hz; this vocoder takes {hop} at {sample_rate}"
        )
    lengths = acoustic.end - acoustic.start
    if int(lengths.sum()) != acoustic.num_frames:
        raise InputError("acoustic units must cover the whole time; this segmentation has gaps")
    return np.repeat(acoustic.unit.astype(np.int64), lengths)


def _below_full_scale(wave: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    peak = float(np.abs(wave).max(initial=0.0))
    return wave / peak * np.float32(0.99) if peak > 0.99 else wave
