"""The unit HiFi-GAN: embeddings of acoustic units, repeated for their durations -> waveform by transposed convolutions.

The network of Polyak et al. 2021 (after Kong et al. 2020) with the duration predictor of Lee et al. 2021, published by
TWIST as ``hifigan_lj_mhubert_base_25hz``. Modules have the names of those checkpoints; weight norm is folded into the
weights, and restored for training only.

Shape suffixes: B clips, U units or unit frames, D channels, N samples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.results import read_json
from syllablelm.core.segmentation import Segmentation
from syllablelm.encoders.checkpoint import read_checkpoint
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.weights import check_tensors, unwrap_names
from syllablelm.vocoder.unit_vocoder import (
    SHAPE_FILE,
    WEIGHTS_FILE,
    UnitVocoder,
    build_shape,
    make_network,
    read_vocoder,
    unit_frames,
)

Durations = Literal["given", "predicted"]

SLOPE = 0.1
# Further inputs of some published vocoders, by the key that enables them.
_OTHER_INPUTS = ("f0", "multispkr", "embedder_params", "multistyle", "lambda_commit", "lambda_commit_code")


@dataclass(frozen=True)
class DurationShape:
    """The duration predictor, by the keys of the published configurations."""

    encoder_embed_dim: int = 128
    var_pred_hidden_dim: int = 128
    var_pred_kernel_size: int = 3
    var_pred_dropout: float = 0.5


@dataclass(frozen=True)
class HiFiGanShape:
    """The network, by the keys of the published configurations.

    Args:
        num_embeddings, embedding_dim: number of acoustic units, and size of their embeddings.
        upsample_rates, upsample_kernel_sizes: strides and kernels of transposed convolutions that halve the channels.
        upsample_initial_channel: channels before the first of them.
        resblock: "1" pairs every dilated convolution with a plain one, "2" has the dilated ones alone.
        resblock_kernel_sizes, resblock_dilation_sizes: residual blocks after each upsampling, which are averaged.
        sampling_rate: samples per second of the waveform.
        dur_predictor_params: sizes of the duration predictor; None for a vocoder that needs given durations.
    """

    num_embeddings: int
    embedding_dim: int = 128
    upsample_rates: tuple[int, ...] = (5, 4, 4, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (11, 8, 8, 4, 4)
    upsample_initial_channel: int = 512
    resblock: Literal["1", "2"] = "1"
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    sampling_rate: int = 16_000
    dur_predictor_params: DurationShape | None = None

    def __post_init__(self) -> None:
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        blocks, dilations = self.resblock_kernel_sizes, self.resblock_dilation_sizes
        predictor = self.dur_predictor_params
        widths = (self.num_embeddings, self.embedding_dim, self.sampling_rate, *rates)
        if min(widths) < 1 or not rates or len(rates) != len(kernels):
            raise InputError("a HiFi-GAN needs units, upsample_rates, and as many upsample_kernel_sizes")
        if any(kernel < rate or (kernel - rate) % 2 for rate, kernel in zip(rates, kernels, strict=True)):
            raise InputError(f"upsample_kernel_sizes {kernels} must be upsample_rates {rates} plus even numbers")
        if self.upsample_initial_channel < 1 or self.upsample_initial_channel % 2 ** len(rates):
            raise InputError(f"upsample_initial_channel {self.upsample_initial_channel} cannot be halved so often")
        if not blocks or len(blocks) != len(dilations) or any(kernel < 1 or kernel % 2 == 0 for kernel in blocks):
            raise InputError("a HiFi-GAN needs odd resblock_kernel_sizes, and resblock_dilation_sizes for each")
        if any(min(steps, default=0) < 1 for steps in dilations):
            raise InputError(f"resblock_dilation_sizes {dilations} must be lists of numbers from 1")
        if predictor is not None and predictor.encoder_embed_dim != self.embedding_dim:
            raise InputError("dur_predictor_params.encoder_embed_dim must be the embedding_dim")
        if predictor is not None and (predictor.var_pred_kernel_size % 2 == 0 or predictor.var_pred_hidden_dim < 1):
            raise InputError("dur_predictor_params needs an odd var_pred_kernel_size and a var_pred_hidden_dim from 1")

    @property
    def hop(self) -> int:
        """Samples per unit frame."""
        return math.prod(self.upsample_rates)


def _convolution(dim: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
    return nn.Conv1d(dim, dim, kernel, dilation=dilation, padding=dilation * (kernel // 2))


class _PairedBlock(nn.Module):
    def __init__(self, dim: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_convolution(dim, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_convolution(dim, kernel) for _ in dilations)

    def forward(self, x_BDN: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x_BDN = x_BDN + plain(F.leaky_relu(dilated(F.leaky_relu(x_BDN, SLOPE)), SLOPE))
        return x_BDN


class _SingleBlock(nn.Module):
    def __init__(self, dim: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_convolution(dim, kernel, dilation) for dilation in dilations)

    def forward(self, x_BDN: Tensor) -> Tensor:
        for dilated in self.convs:
            x_BDN = x_BDN + dilated(F.leaky_relu(x_BDN, SLOPE))
        return x_BDN


class DurationPredictor(nn.Module):
    """Predicts log(1 + frames) of each unit of a deduplicated sequence."""

    def __init__(self, shape: DurationShape) -> None:
        super().__init__()
        inner, kernel = shape.var_pred_hidden_dim, shape.var_pred_kernel_size
        self.conv1 = nn.Sequential(nn.Conv1d(shape.encoder_embed_dim, inner, kernel, padding=kernel // 2), nn.ReLU())
        self.ln1 = nn.LayerNorm(inner)
        self.conv2 = nn.Sequential(nn.Conv1d(inner, inner, kernel, padding=kernel // 2), nn.ReLU())
        self.ln2 = nn.LayerNorm(inner)
        self.dropout = nn.Dropout(shape.var_pred_dropout)
        self.proj = nn.Linear(inner, 1)

    def forward(self, x_BUD: Tensor, known_BU: Tensor) -> Tensor:
        """(B, U, D) embeddings and their padding mask -> (B, U)."""
        for convolve, norm in ((self.conv1, self.ln1), (self.conv2, self.ln2)):
            # Zeros, as beyond the ends of a single sequence.
            x_BUD = x_BUD * known_BU[..., None]
            x_BUD = self.dropout(norm(convolve(x_BUD.transpose(1, 2)).transpose(1, 2)))
        return self.proj(x_BUD).squeeze(-1)


class HiFiGanNet(nn.Module):
    """Unit frames to waveforms."""

    def __init__(self, shape: HiFiGanShape) -> None:
        super().__init__()
        self.shape = shape
        dim = shape.upsample_initial_channel
        block = _PairedBlock if shape.resblock == "1" else _SingleBlock
        self.dict = nn.Embedding(shape.num_embeddings, shape.embedding_dim)
        self.conv_pre = nn.Conv1d(shape.embedding_dim, dim, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(shape.upsample_rates, shape.upsample_kernel_sizes, strict=True):
            self.ups.append(nn.ConvTranspose1d(dim, dim // 2, kernel, rate, padding=(kernel - rate) // 2))
            dim //= 2
            for size, dilations in zip(shape.resblock_kernel_sizes, shape.resblock_dilation_sizes, strict=True):
                self.resblocks.append(block(dim, size, dilations))
        self.conv_post = nn.Conv1d(dim, 1, 7, padding=3)
        predictor = shape.dur_predictor_params
        self.dur_predictor = None if predictor is None else DurationPredictor(predictor)

    def forward(self, units_BU: Tensor) -> Tensor:
        """(B, U) unit of each frame -> (B, U * hop) waveforms in [-1, 1]."""
        x = self.conv_pre(self.dict(units_BU).transpose(1, 2))
        count = len(self.shape.resblock_kernel_sizes)
        for stage, upsample in enumerate(self.ups):
            x = upsample(F.leaky_relu(x, SLOPE))
            first, *others = self.resblocks[stage * count : (stage + 1) * count]
            total = first(x)
            for block in others:
                total = total + block(x)
            x = total / count
        # The default slope of .01 here, as in the published networks.
        return torch.tanh(self.conv_post(F.leaky_relu(x))).squeeze(1)

    def log_durations(self, units_BU: Tensor, known_BU: Tensor) -> Tensor:
        """(B, U) deduplicated units and their padding mask -> log(1 + frames) (B, U).

        Raises:
            InputError: this network has no duration predictor.
        """
        if self.dur_predictor is None:
            raise InputError("this vocoder has no duration predictor; give units with the durations they last")
        return self.dur_predictor(self.dict(units_BU), known_BU)


class HiFiGanVocoder(UnitVocoder):
    """Acoustic units to a waveform, by a trained network without weight norm; see ``UnitVocoder``."""

    kind = "hifigan"
    net: HiFiGanNet

    def __init__(self, net: HiFiGanNet, acoustic: str = "") -> None:
        super().__init__(net, acoustic)
        self.sample_rate, self.num_units = net.shape.sampling_rate, net.shape.num_embeddings

    @torch.inference_mode()
    def decode(
        self, acoustic: Segmentation, *, seed: int = 0, durations: Durations | None = None
    ) -> npt.NDArray[np.float32]:
        """Synthesize acoustic units: (num_samples,) float32 at ``sample_rate``.

        Args:
            acoustic, seed: the units; the seed is not used, the synthesis is deterministic.
            durations: "given" takes the durations of the units, without gaps and on this vocoder's frame grid;
                "predicted" takes the deduplicated units alone. By default predicted for another frame grid only.

        Raises:
            InputError: units or frames that do not fit, or no duration predictor for "predicted".
        """
        shape = self.net.shape
        if durations is None:
            fits = (acoustic.hop, acoustic.sample_rate) == (shape.hop, shape.sampling_rate)
            durations = "given" if fits or self.net.dur_predictor is None else "predicted"
        if durations == "predicted":
            acoustic = _one_frame_each(acoustic, shape)
        frames = unit_frames(acoustic, shape.num_embeddings, shape.hop, shape.sampling_rate)
        if len(frames) == 0:
            return np.zeros(0, dtype=np.float32)
        units_U = torch.from_numpy(frames).to(self.net.conv_post.weight.device)
        if durations == "predicted":
            units_U = units_U.repeat_interleave(self._predict(units_U))
        return self.net(units_U[None])[0].cpu().numpy()

    def _predict(self, units_U: Tensor) -> Tensor:
        """Predicted frames of each unit, at least 1: (U,)."""
        known_1U = torch.ones(1, len(units_U), dtype=torch.bool, device=units_U.device)
        log_durations_U = self.net.log_durations(units_U[None], known_1U)[0]
        return (log_durations_U.exp() - 1).round().long().clamp(min=1)

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "auto") -> HiFiGanVocoder:
        """Open what ``save`` wrote, or a published unit vocoder.

        Args:
            path: our folder; a folder with ``config.json`` and ``g_00500000`` (the latest of them), ``generator.pt`` or
                a single ``.pt``; or such a file itself, beside ``config.json`` or its own ``..._config.json``.
            device: see ``load_encoder``.

        Raises:
            FormatError: missing or damaged files, weights of another shape, or a vocoder that needs more than units.
        """
        path, acoustic = Path(path), ""
        if (path / SHAPE_FILE).exists():
            config, where = path / SHAPE_FILE, path / WEIGHTS_FILE
            shape, weights, acoustic = read_vocoder(path, cls.kind, HiFiGanShape)
        else:
            config, where = _published_files(path)
            shape, weights = _read_published(config, where)
        net = make_network(lambda: HiFiGanNet(shape), weights, config, where)
        return cls(net.to(pick_device(device)), acoustic)


def _one_frame_each(acoustic: Segmentation, shape: HiFiGanShape) -> Segmentation:
    """Return the deduplicated units, one frame each."""
    if acoustic.unit is None:
        raise InputError("a vocoder needs units; this segmentation has none")
    unit = acoustic.unit[np.diff(acoustic.unit, prepend=-1) != 0]
    edges = np.arange(len(unit) + 1)
    return Segmentation.from_boundaries(edges, unit=unit, hop=shape.hop, sample_rate=shape.sampling_rate)


def fold_weight_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each ``weight_g`` and ``weight_v`` by ``weight`` = g v / |v|, the norm taken for each index of dim 0.

    The product is in float32.
    """
    folded: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        size = weights.get(name.removesuffix("_v") + "_g")
        if name.endswith(".weight_v") and size is not None and tensor.ndim > 1 and size.numel() == len(tensor):
            rows = tensor.float().flatten(1)
            scale = size.float().flatten() / rows.norm(dim=1)
            folded[name.removesuffix("_v")] = (rows * scale[:, None]).view_as(tensor)
        elif not (name.endswith(".weight_g") and name.removesuffix("_g") + "_v" in weights):
            folded[name] = tensor
    return folded


def _published_files(path: Path) -> tuple[Path, Path]:
    """Return the files of configuration and checkpoint."""
    if path.is_file():
        own = path.with_name(path.stem + "_config.json")
        return (own if own.exists() else path.with_name("config.json")), path
    numbered = {int(file.name[2:]): file for file in path.glob("g_*") if re.fullmatch(r"g_\d+", file.name)}
    single = [file for file in path.glob("*.pt") if not file.name.startswith(".")]
    if numbered:
        checkpoint = numbered[max(numbered)]
    elif (path / "generator.pt").exists() or len(single) != 1:
        checkpoint = path / "generator.pt"
    else:
        checkpoint = single[0]
    if not checkpoint.exists():
        raise FormatError(f"{path}: no vocoder; give a folder with {SHAPE_FILE}, or with config.json and g_00500000")
    return _published_files(checkpoint)


def _read_published(config: Path, checkpoint: Path) -> tuple[HiFiGanShape, dict[str, Any]]:
    table = read_json(config)
    other = next((key for key in _OTHER_INPUTS if table.get(key)), None)
    if other is None and table.get("model_in_dim", table.get("embedding_dim")) != table.get("embedding_dim"):
        other = "model_in_dim"
    if other is not None:
        raise FormatError(f"{config}: a vocoder that needs more than units ({other} is {table[other]!r})")
    # Published configurations also hold settings of the training, among them code_hop_size.
    known = {field.name for field in fields(HiFiGanShape)}
    shape = build_shape(HiFiGanShape, {key: value for key, value in table.items() if key in known}, config)
    weights = read_checkpoint(checkpoint).get("generator")
    if not isinstance(weights, dict):
        raise FormatError(f"{checkpoint}: not a HiFi-GAN checkpoint (no 'generator' with weights in it)")
    return shape, fold_weight_norm(unwrap_names(check_tensors(weights, checkpoint)))
