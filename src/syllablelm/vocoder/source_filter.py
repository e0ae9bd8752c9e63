"""The source-filter unit vocoder: a network predicts envelope, pitch and voicing; pulses and noise are filtered by it.

After Dudley's vocoder (1939). It trains in minutes on two CPU cores, where a HiFi-GAN needs days on a GPU; speech is
intelligible and sounds robotic.
Shape suffixes: B clips, N samples, S units, U unit frames, T spectrum frames, F frequency bins, D channels, K cepstral
coefficients, P features of a place, C outputs (K + 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import LARGEST_SIZE, InputError, check_fields
from syllablelm.core.segmentation import Segmentation
from syllablelm.encoders.device import pick_device
from syllablelm.vocoder.spectrum import SpectrumSpec
from syllablelm.vocoder.unit_vocoder import (
    SHAPE_FILE,
    WEIGHTS_FILE,
    UnitVocoder,
    covered_units,
    make_network,
    read_vocoder,
)

FloatArray = npt.NDArray[np.float32]
# Hz; tracked in training and spoken.
PITCH_RANGE = (75.0, 400.0)
# Least share of noise: without any, even the most voiced sound buzzes.
BREATH = 0.03
PLACE_FEATURES = 4


@dataclass(frozen=True)
class SourceFilterShape:
    """Sizes of the network.

    Args:
        units, dim, blocks, kernel: units, channels, residual blocks (half before, half after upsampling), and their
            kernel size.
        hop, spectrum: samples per unit frame, a multiple of the spectrum's hop; and the predicted spectrum.
        context: residual blocks over the sequence of units, before every unit is repeated for its frames; with any, the
            network also knows the place of a frame in its unit. For units longer than a few frames.
    """

    units: int
    dim: int = 256
    blocks: int = 8
    kernel: int = 7
    hop: int = 320
    spectrum: SpectrumSpec = field(default_factory=SpectrumSpec)
    context: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "dim kernel hop", least=1, most=LARGEST_SIZE)
        check_fields(self, "units", least=1)
        check_fields(self, "blocks", least=2, most=LARGEST_SIZE)
        check_fields(self, "context", least=0, most=LARGEST_SIZE)
        if self.hop % self.spectrum.hop or self.kernel % 2 == 0:
            raise InputError(
                f"kernel {self.kernel}, hop {self.hop}: an odd kernel is needed, and a hop of whole frames of "
                f"{self.spectrum.hop} samples"
            )

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


class SourceFilterNet(nn.Module):
    """Unit frames to envelope, pitch and voicing of each spectrum frame.

    The outputs are standardised: ``mean`` and ``deviation`` turn them into cepstral coefficients, the logarithm of the
    pitch in Hz, and the logit of voicing. ``spread`` restores the variance of the cepstra that averaging removes.
    """

    mean: Tensor
    deviation: Tensor
    spread: Tensor

    def __init__(self, shape: SourceFilterShape) -> None:
        super().__init__()
        self.shape = shape
        half = shape.blocks // 2
        self.embedding = nn.Embedding(shape.units, shape.dim)
        if shape.context:
            self.context = nn.Sequential(*(_Block(shape.dim, shape.kernel, 1) for _ in range(shape.context)))
            self.place = nn.Linear(PLACE_FEATURES, 2 * shape.dim)
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
        """Initialise the embeddings by a random projection of the cluster centres (U, D): similar units start alike."""
        table = torch.from_numpy((centres - centres.mean(0)) / (centres.std(0) + 1e-5))
        projection = torch.randn(table.shape[1], self.shape.dim) / table.shape[1] ** 0.5
        self.embedding.weight.copy_(table @ projection)

    def forward(self, units_BS: Tensor, frames_BU: Tensor, places_BUP: Tensor) -> Tensor:
        """Return the standardised outputs (B, U * upsampling, C).

        Args:
            units_BS: units.
            frames_BU: index of the unit of each frame.
            places_BUP: places of the frames in their units, see ``unit_places``.
        """
        x = self.embedding(units_BS)
        if self.shape.context:
            x = self.context(x)
        x = x.gather(1, frames_BU[..., None].expand(-1, -1, x.shape[2]))
        if self.shape.context:
            shift, scale = self.place(places_BUP).chunk(2, dim=-1)
            x = x * (1 + scale) + shift
        x = self.upsample(self.coarse(x)).reshape(x.shape[0], -1, self.shape.dim)
        return self.output(self.norm(self.fine(x)))

    def voice(self, units_S: Tensor, lengths_S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return cepstra (T, K), pitch (T,) in Hz and voicing (T,), as ``synthesize_voice`` takes them.

        Args:
            units_S, lengths_S: units, and their lengths in unit frames.
        """
        frames, places = unit_places(lengths_S)
        outputs = self(units_S[None], frames[None], places[None])[0]
        y_TC = (outputs * self.spread * self.deviation + self.mean).float()
        low, high = PITCH_RANGE
        return y_TC[:, :-2], y_TC[:, -2].exp().clamp(low, high), y_TC[:, -1].sigmoid()


def unit_places(lengths_S: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of the unit of each frame (U,), and the frame's place in it, (U, 4).

    The place is its share of the unit, its distances from start and end (at most half a second) and the logarithm of
    the unit's length, all in frames.

    Args:
        lengths_S: lengths of the units in frames.
    """
    frames_U = torch.repeat_interleave(lengths_S)
    length_U = lengths_S[frames_U].float()
    since_U = torch.arange(len(frames_U), device=lengths_S.device) - (lengths_S.cumsum(0) - lengths_S)[frames_U]
    edges = (since_U.clamp(max=25) / 10, (length_U - since_U).clamp(max=25) / 10)
    return frames_U, torch.stack([(since_U + 0.5) / length_U, *edges, length_U.log()], dim=1)


class SourceFilterVocoder(UnitVocoder):
    """Acoustic units to a waveform, by a trained network; see ``UnitVocoder``."""

    kind = "spectral"
    net: SourceFilterNet

    def __init__(self, net: SourceFilterNet, acoustic: str = "") -> None:
        super().__init__(net, acoustic)
        self.sample_rate, self.num_units = net.shape.spectrum.sample_rate, net.shape.units

    @torch.inference_mode()
    def decode(self, acoustic: Segmentation, *, seed: int = 0) -> npt.NDArray[np.float32]:
        """Synthesize acoustic units with their durations: (num_samples,) float32 at ``sample_rate``, within full scale.

        Args:
            acoustic: units without gaps on this vocoder's frame grid; others are an InputError.
            seed: random seed of the noise in unvoiced sounds.
        """
        units, lengths = covered_units(acoustic, self.num_units, self.net.shape.hop, self.sample_rate)
        if len(units) == 0:
            return np.zeros(0, dtype=np.float32)
        device = self.net.output.weight.device
        parts = self.net.voice(*(torch.from_numpy(each).to(device) for each in (units, lengths)))
        cepstra, pitch, voicing = (part.cpu().numpy() for part in parts)
        return _below_full_scale(synthesize_voice(cepstra, pitch, voicing, self.net.shape.spectrum, seed=seed))

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "auto") -> SourceFilterVocoder:
        """Open what ``save`` wrote; a FormatError for missing or damaged files."""
        folder = Path(folder)
        shape, weights, acoustic = read_vocoder(folder, cls.kind, SourceFilterShape)
        net = make_network(lambda: SourceFilterNet(shape), weights, folder / SHAPE_FILE, folder / WEIGHTS_FILE)
        return cls(net.to(pick_device(device)), acoustic)


def excite(pitch: FloatArray, voicing: FloatArray, spec: SpectrumSpec, *, seed: int = 0) -> FloatArray:
    """Return the source signal, (T * hop,) float32 of unit power: pulses where it is voiced, noise elsewhere.

    Args:
        pitch, voicing: (T,) Hz, above 0; and share of the pulses in the power, 0 to 1.
        spec, seed: spectrum whose hop and sample rate the frames have; random seed of the noise.
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
    """Return the source signal with the given spectral envelope in place of its own: (T * hop,) float32.

    Args:
        cepstra: (T, K), see ``SpectrumSpec.cepstrum``.
        pitch, voicing, spec, seed: see ``excite``.
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


def _below_full_scale(wave: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    peak = float(np.abs(wave).max(initial=0.0))
    return wave / peak * np.float32(0.99) if peak > 0.99 else wave
