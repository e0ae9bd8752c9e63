"""Data2Vec 2.0 speech encoder in plain PyTorch: the model of the released SyllableLM tokenizers, padding-exact.

Parameters carry the names of fairseq's ``data2vec_multi`` model, so that a checkpoint's weights go to their places by
name. Twelve post-norm blocks, four of them before fairseq's "main" eight; attention knows positions by ALiBi and by
five stacked convolutions.

Shape suffixes: B clips, N samples, T frames, C channels of the convolutional extractor, D features, H heads,
E features of one head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from syllablelm.encoders.base import Waveform
from syllablelm.encoders.checkpoint import read_checkpoint
from syllablelm.encoders.device import Precision, autocast, check_precision, pick_device
from syllablelm.encoders.extractor import convolve_tiles
from syllablelm.encoders.padding import frame_mask, pad_waveforms, standardize
from syllablelm.errors import FormatError, InputError
from syllablelm.formats import atomic_path

CONV_KERNELS, CONV_STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
HOP, RECEPTIVE_FIELD = 320, 400
PRENET_BLOCKS, MAIN_BLOCKS = 4, 8
NUM_LAYERS = PRENET_BLOCKS + MAIN_BLOCKS
# fairseq's out_layer -2, counted on the main blocks: one before the last.
RELEASED_LAYER = NUM_LAYERS - 1
POSITION_LAYERS, POSITION_KERNEL, POSITION_GROUPS = 5, 19, 16

# Where the released files keep the model, and what is in them that gives no features.
STATE_KEY, PREFIX = "model_seg", "model."
AUDIO = "modality_encoders.AUDIO."
DECODER = f"{AUDIO}decoder."
UNUSED = (DECODER, "_ema")
DECODER_DIM, DECODER_KERNEL, DECODER_LAYERS, DECODER_GROUPS = 384, 7, 4, 16

# Numbers in one block of attention biases: 128 MB.
BIAS_NUMBERS = 1 << 25


@dataclass(frozen=True)
class Data2Vec2Shape:
    """The sizes that may differ from model to model; the defaults are the released ones."""

    channels: int = 512
    dim: int = 768
    heads: int = 12
    feed_forward: int = 3072


def alibi_slopes(heads: int) -> list[float]:
    """Slope of each head, before its learned scale: 2^(-8 h / heads), h = 1, 2, ..., for a power of two.

    Another number takes the slopes of the largest power of two below it, then every second one of twice that power,
    as many as are missing (Press et al., "Train short, test long", as fairseq does it).
    """
    whole = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * head / whole) for head in range(1, whole + 1)]
    between = [2.0 ** (-4.0 * head / whole) for head in range(1, 2 * whole, 2)]
    return slopes + between[: heads - whole]


class Alibi:
    """Attention biases -steepness x |query frame - key frame| of every head.

    The table of all pairs is made once and kept if it is small; for long clips it is made in blocks of queries.
    """

    def __init__(self, scale: Tensor, num_frames: int) -> None:
        scale_H = scale.float().clamp_min(0.0).reshape(-1)
        self._steepness_H11 = (scale_H * scale_H.new_tensor(alibi_slopes(len(scale_H))))[:, None, None]
        self._place_T = torch.arange(num_frames, device=scale.device, dtype=torch.float32)
        self._queries = max(1, BIAS_NUMBERS // max(1, len(scale_H) * num_frames))
        self._whole_HTT = self._rows(0, num_frames) if num_frames <= self._queries else None

    def _rows(self, first: int, last: int) -> Tensor:
        return -self._steepness_H11 * (self._place_T[first:last, None] - self._place_T[None, :]).abs()

    def attend(self, query_BHTE: Tensor, key_BHTE: Tensor, value_BHTE: Tensor) -> Tensor:
        """Attention with these biases, over all the frames given (at most ``num_frames``): (B, H, T, E)."""
        num_frames = query_BHTE.shape[2]
        if self._whole_HTT is not None:
            bias_HTT = self._whole_HTT[:, :num_frames, :num_frames].to(query_BHTE.dtype)
            return functional.scaled_dot_product_attention(query_BHTE, key_BHTE, value_BHTE, attn_mask=bias_HTT[None])
        parts = []
        for first in range(0, num_frames, self._queries):
            last = min(first + self._queries, num_frames)
            bias_HQT = self._rows(first, last)[..., :num_frames].to(query_BHTE.dtype)
            part = query_BHTE[:, :, first:last]
            parts.append(functional.scaled_dot_product_attention(part, key_BHTE, value_BHTE, attn_mask=bias_HQT[None]))
        return torch.cat(parts, dim=2)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BTD: Tensor, frames: Sequence[int], alibi: Alibi) -> Tensor:
        query, key, value = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if min(frames) == x_BTD.shape[1]:
            mixed_BHTE = alibi.attend(query, key, value)
        else:
            # Clip by clip: no work on padding, and the table of biases serves all clips, where masks of keys would
            # need one table each.
            mixed_BHTE = torch.zeros_like(query)
            for b, n in enumerate(frames):
                mixed_BHTE[b, :, :n] = alibi.attend(*(x[b : b + 1, :, :n] for x in (query, key, value)))[0]
        return self.proj(mixed_BHTE.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x_BTD)))


class Block(nn.Module):
    """A post-norm transformer block."""

    def __init__(self, shape: Data2Vec2Shape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.dim)
        self.attn = Attention(shape.dim, shape.heads)
        self.norm2 = nn.LayerNorm(shape.dim)
        self.mlp = FeedForward(shape.dim, shape.feed_forward)

    def forward(self, x_BTD: Tensor, frames: Sequence[int], alibi: Alibi) -> Tensor:
        x_BTD = self.norm1(x_BTD + self.attn(x_BTD, frames, alibi))
        return self.norm2(x_BTD + self.mlp(x_BTD))


class SwapLast(nn.Module):
    """Exchange channels and time, for norms over channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)


def _conv_layer(channels_in: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    # The second place is fairseq's dropout; without it the norm would have another name.
    norm = nn.Sequential(SwapLast(), nn.LayerNorm(channels), SwapLast())
    conv = nn.Conv1d(channels_in, channels, kernel, stride=stride, bias=False)
    return nn.Sequential(conv, nn.Identity(), norm, nn.GELU())


def _position_layer(dim: int) -> nn.Sequential:
    conv = nn.Conv1d(dim, dim, POSITION_KERNEL, padding=POSITION_KERNEL // 2, groups=POSITION_GROUPS)
    return nn.Sequential(conv, SwapLast(), nn.LayerNorm(dim, elementwise_affine=False), SwapLast(), nn.GELU())


class AudioFrontEnd(nn.Module):
    """Everything before the main blocks, under fairseq's names."""

    def __init__(self, shape: Data2Vec2Shape) -> None:
        super().__init__()
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, shape.heads, 1, 1))
        channels_in = (1, *[shape.channels] * (len(CONV_KERNELS) - 1))
        layers = [
            _conv_layer(before, shape.channels, kernel, stride)
            for before, kernel, stride in zip(channels_in, CONV_KERNELS, CONV_STRIDES, strict=True)
        ]
        self.local_encoder = nn.ModuleDict({"conv_layers": nn.Sequential(*layers)})
        self.project_features = nn.Sequential(
            nn.Identity(), nn.LayerNorm(shape.channels), nn.Linear(shape.channels, shape.dim)
        )
        self.relative_positional_encoder = nn.ModuleDict(
            {str(number): _position_layer(shape.dim) for number in range(1, POSITION_LAYERS + 1)}
        )
        blocks = nn.ModuleList(Block(shape) for _ in range(PRENET_BLOCKS))
        self.context_encoder = nn.ModuleDict({"norm": nn.LayerNorm(shape.dim), "blocks": blocks})


class Data2Vec2(nn.Module):
    """The parameters of a Data2Vec 2.0 speech model; `Data2Vec2Encoder` runs them."""

    def __init__(self, shape: Data2Vec2Shape) -> None:
        super().__init__()
        self.shape = shape
        self.modality_encoders = nn.ModuleDict({"AUDIO": AudioFrontEnd(shape)})
        self.blocks = nn.ModuleList(Block(shape) for _ in range(MAIN_BLOCKS))


class Data2Vec2Encoder(nn.Module):
    """A Data2Vec 2.0 speech model whose features are the output of one of its twelve blocks.

    Args:
        model: the parameters.
        layer: 1-based block whose output is the feature (0 is the first block's input); None is the 11th, as in the
            released tokenizers. No block above the asked ones is run.
        normalize: whether each waveform is standardised over its own samples first. The released program feeds
            waveforms as they are, although Data2Vec 2.0 was pre-trained on standardised ones.
        precision: of matrix products in ``encode``: "float32", "bfloat16", or "float16" on a GPU.

    The same clip gives the same features alone and in any batch: each clip attends to its own frames only, and what
    lies behind a clip's end is zeroed before every one of the stacked positional convolutions.
    """

    sample_rate = 16_000
    hop = HOP
    receptive_field = RECEPTIVE_FIELD

    def __init__(
        self,
        model: Data2Vec2,
        layer: int | None = None,
        *,
        normalize: bool = False,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.layer = RELEASED_LAYER if layer is None else layer
        _check_layers([self.layer])
        self.model = model
        self.normalize, self.precision = normalize, precision
        self.dim = model.shape.dim
        self.eval()

    @property
    def _audio(self) -> Any:
        return self.model.modality_encoders["AUDIO"]

    @property
    def device(self) -> torch.device:
        return self._audio.alibi_scale.device

    def num_frames(self, num_samples: int) -> int:
        """Frames that a clip of ``num_samples`` samples at 16 kHz gives; 0 below the receptive field."""
        return max(0, (num_samples - RECEPTIVE_FIELD) // HOP + 1)

    def frames(self, lengths_B: Tensor) -> Tensor:
        """Frame counts of clips of the given sample counts."""
        return ((lengths_B - RECEPTIVE_FIELD) // HOP + 1).clamp(min=0)

    def convolve(self, wave_BN: Tensor, lengths_B: Tensor) -> Tensor:
        """Convolutional features: (B, T, C)."""
        if self.normalize:
            # The epsilon of fairseq's layer norm over a waveform.
            wave_BN = standardize(wave_BN, lengths_B, eps=1e-5)
        frames = self.frames(lengths_B).tolist()
        return convolve_tiles(
            self._audio.local_encoder, wave_BN, lengths_B.tolist(), frames, hop=HOP, window=RECEPTIVE_FIELD
        )

    def project(self, conv_BTC: Tensor) -> Tensor:
        """Convolutional features to transformer inputs: (B, T, D)."""
        return self._audio.project_features(conv_BTC)

    def transform(self, input_BTD: Tensor, frames_B: Tensor, layers: Sequence[int] | None = None) -> dict[int, Tensor]:
        """Run the transformer and return the outputs of the asked layers: {layer: (B, T, D)}."""
        wanted = [self.layer] if layers is None else list(layers)
        _check_layers(wanted)
        num_frames = input_BTD.shape[1]
        silent_BT1 = ~frame_mask(frames_B, num_frames)[..., None]
        place_BTD = input_BTD
        for layer in self._audio.relative_positional_encoder.values():
            place_BTD = layer(place_BTD.masked_fill(silent_BT1, 0.0).transpose(1, 2)).transpose(1, 2)
        x_BTD = self._audio.context_encoder["norm"](input_BTD + place_BTD)
        outputs = {0: x_BTD} if 0 in wanted else {}
        frames = frames_B.tolist()
        alibi = Alibi(self._audio.alibi_scale, num_frames)
        blocks = [*self._audio.context_encoder["blocks"], *self.model.blocks]
        for number, block in enumerate(blocks[: max(wanted, default=0)], start=1):
            x_BTD = block(x_BTD, frames, alibi)
            if number in wanted:
                outputs[number] = x_BTD
        return outputs

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the chosen layer: (feats_BTD, frames_B); frames past ``frames_B`` are meaningless."""
        frames_B = self.frames(lengths_B)
        return self.transform(self.project(self.convolve(wave_BN, lengths_B)), frames_B)[self.layer], frames_B

    @torch.inference_mode()
    def encode(self, waveforms: Sequence[Waveform], layers: Sequence[int] | None = None) -> list[Any]:
        """Encode one batch of clips.

        Args:
            waveforms: float32 (num_samples,) at 16 kHz each, at least 400 samples long.
            layers: give several layers and get, per clip, a dict {layer: features}.

        Returns:
            per clip float32 (num_frames, dim).

        Raises:
            InputError: a clip is shorter than one frame, or there is no such layer.
        """
        if not waveforms:
            return []
        shortest = min(len(w) for w in waveforms)
        if shortest < RECEPTIVE_FIELD:
            raise InputError(
                f"a clip of {shortest} samples is shorter than one frame ({RECEPTIVE_FIELD} samples); drop or join it"
            )
        wave_BN, lengths_B = pad_waveforms(waveforms, self.device)
        frames_B = self.frames(lengths_B)
        with autocast(check_precision(self.precision, self.device), self.device):
            outputs = self.transform(self.project(self.convolve(wave_BN, lengths_B)), frames_B, layers)
        arrays = {layer: feats_BTD.float().cpu().numpy() for layer, feats_BTD in outputs.items()}
        result: list[Any] = []
        for b, count in enumerate(frames_B.tolist()):
            # Copies, so that a clip does not keep the batch in memory.
            clip = {layer: feats_BTD[b, :count].copy() for layer, feats_BTD in arrays.items()}
            result.append(clip if layers is not None else clip[self.layer])
        return result


def _check_layers(layers: Sequence[int]) -> None:
    if any(not 0 <= layer <= NUM_LAYERS for layer in layers):
        raise InputError(f"layers {list(layers)}: a Data2Vec 2.0 encoder has layers 0 to {NUM_LAYERS}")


def load_data2vec2(
    path: str | Path,
    layer: int | None = None,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "float32",
) -> Data2Vec2Encoder:
    """Load the encoder of a released SyllableLM tokenizer (``SylBoost_*.pth``).

    Args:
        path: a torch file with the weights under "model_seg", each name with "model." before it.
        layer: 1-based block whose output is the feature; None is the 11th of 12.
        device: "auto", "cpu" or "cuda".
        precision: of matrix products: "float32", "bfloat16", or "float16" on a GPU.

    Raises:
        FormatError: missing, damaged or of another kind; weights that are missing, unknown or of another shape.
        InputError: there is no such layer, or the device does not compute in that precision.
    """
    place = pick_device(device)
    check_precision(precision, place)
    state = read_checkpoint(path).get(STATE_KEY)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FormatError(f"{path}: not a released SyllableLM encoder (no weights under {STATE_KEY!r})")
    return Data2Vec2Encoder(from_state(state, str(path)), layer, precision=precision).to(place)


def from_state(state: Mapping[str, Tensor], where: str) -> Data2Vec2:
    """A model with the weights of a released file; names are reported as the file has them."""
    shape = _read_shape(state, where)
    with torch.device("meta"):
        model = Data2Vec2(shape)
    expected = {PREFIX + name: weight.shape for name, weight in model.state_dict().items()}
    unused = tuple(PREFIX + name for name in UNUSED)
    given = {name: weight for name, weight in state.items() if not name.startswith(unused)}
    missing = sorted(set(expected) - set(given))
    unknown = sorted(set(given) - set(expected))
    if missing:
        raise FormatError(f"{where}: {len(missing)} weights are missing, the first {missing[0]}; get the whole file")
    if unknown:
        raise FormatError(f"{where}: {len(unknown)} unknown weights, the first {unknown[0]}; it is of another model")
    for name, size in expected.items():
        if given[name].shape != size:
            raise FormatError(f"{where}: {name} has shape {tuple(given[name].shape)}, expected {tuple(size)}")
    # Copies: what the reader gives may lie in the file.
    weights = {name[len(PREFIX) :]: weight.to(torch.float32, copy=True) for name, weight in given.items()}
    model.load_state_dict(weights, assign=True)
    return model


def _read_shape(state: Mapping[str, Tensor], where: str) -> Data2Vec2Shape:
    def size(name: str, axis: int, default: int) -> int:
        # Where a weight is missing, the comparison with the model says so.
        weight = state.get(PREFIX + name)
        return default if weight is None or weight.ndim <= axis else weight.shape[axis]

    usual = Data2Vec2Shape()
    shape = Data2Vec2Shape(
        channels=size(f"{AUDIO}local_encoder.conv_layers.0.0.weight", 0, usual.channels),
        dim=size("blocks.0.norm1.weight", 0, usual.dim),
        heads=size(f"{AUDIO}alibi_scale", 2, usual.heads),
        feed_forward=size("blocks.0.mlp.fc1.weight", 0, usual.feed_forward),
    )
    if shape.heads == 0 or shape.dim == 0 or shape.dim % math.lcm(shape.heads, POSITION_GROUPS):
        raise FormatError(
            f"{where}: {shape.dim} features do not divide among {shape.heads} heads and {POSITION_GROUPS} groups"
        )
    return shape


def save_data2vec2(encoder: Data2Vec2Encoder, path: str | Path) -> None:
    """Write a file that `load_data2vec2` and the released program open; it appears under its name once complete."""
    state = {PREFIX + name: weight.detach().float().cpu() for name, weight in encoder.model.state_dict().items()}
    # The released program wants the decoder of pre-training to be there, and never runs it.
    channels_in = encoder.dim
    for number in range(DECODER_LAYERS):
        layer = f"{PREFIX}{DECODER}blocks.{number}.0."
        state[f"{layer}weight"] = torch.zeros(DECODER_DIM, channels_in // DECODER_GROUPS, DECODER_KERNEL)
        state[f"{layer}bias"] = torch.zeros(DECODER_DIM)
        channels_in = DECODER_DIM
    state[f"{PREFIX}{DECODER}proj.weight"] = torch.zeros(encoder.dim, DECODER_DIM)
    state[f"{PREFIX}{DECODER}proj.bias"] = torch.zeros(encoder.dim)
    with atomic_path(path) as temporary:
        torch.save({STATE_KEY: state}, temporary)
