"""Data2Vec 2.0 speech encoder: the model of the released SyllableLM tokenizers, padding-exact, and its files.

Shape suffixes: B clips, N samples, T frames, C channels of the convolutional extractor, D features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import atomic_path
from syllablelm.core.results import read_json
from syllablelm.data.audio import load_waveforms
from syllablelm.data.samples import AudioInput
from syllablelm.encoders.checkpoint import read_checkpoint
from syllablelm.encoders.data2vec2_model import (
    HOP,
    NUM_LAYERS,
    POSITION_GROUPS,
    RECEPTIVE_FIELD,
    RELEASED_LAYER,
    Alibi,
    Data2Vec2,
    Data2Vec2Shape,
)
from syllablelm.encoders.device import Precision, autocast, check_precision, pick_device
from syllablelm.encoders.extractor import ConvolvedEncoder, convolve_tiles
from syllablelm.encoders.padding import fold_scaling, frame_mask, pad_waveforms, standardize
from syllablelm.encoders.weights import build_without_memory, check_tensors, fill_network, read_tensors, unwrap_names

# Where the released files keep the model.
STATE_KEY, PREFIX = "model_seg", "model."
AUDIO = "modality_encoders.AUDIO."
DECODER = f"{AUDIO}decoder."
# Weights of pre-training that give no features: decoders, and the teacher's running averages.
UNUSED = (DECODER, "_ema", "shared_decoder.", "recon_proj.")
DECODER_DIM, DECODER_KERNEL, DECODER_LAYERS, DECODER_GROUPS = 384, 7, 4, 16
# An encoder in a folder, where transformers has no class for the model: config.json holds {"model_type", "layer",
# "normalize"}, model.safetensors the weights under the names of the released files.
MODEL_TYPE = "data2vec2"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


class Data2Vec2Encoder(ConvolvedEncoder):
    """A Data2Vec 2.0 speech model whose features are the output of one of its twelve blocks.

    Args:
        model: the parameters.
        layer: 1-based block whose output is the feature (0 is the first block's input); None is the 11th, as in the
            released tokenizers. No block above the asked ones is run.
        normalize: whether each waveform is standardised over its own samples first. The released program feeds
            waveforms as they are, although Data2Vec 2.0 was pre-trained on standardised ones.
        precision: data type of matrix products in ``encode``, see ``load_encoder``.

    The same clip gives the same features alone and in any batch: each clip attends to its own frames only, and what
    lies behind a clip's end is zeroed before every one of the stacked positional convolutions. The dropout and layer
    drop of fairseq's pre-training are left out, so that a SylBoost student is deterministic.
    """

    hop, receptive_field = HOP, RECEPTIVE_FIELD

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

    @property
    def _blocks(self) -> list[nn.Module]:
        return [*self._audio.context_encoder["blocks"], *self.model.blocks]

    def freeze(self, *, extractor: bool = True, blocks: int = 0) -> None:
        """Freeze parts of the encoder, always those above the chosen layer; see ``HubEncoder.freeze``.

        Frozen blocks freeze the scales of ALiBi too, which all blocks share.
        """
        parts = self._blocks[self.layer :]
        if extractor or blocks:
            parts.append(self._audio.local_encoder)
        if blocks:
            parts += [self._audio.project_features, self._audio.relative_positional_encoder]
            parts += [self._audio.context_encoder["norm"], *self._blocks[:blocks]]
        for part in parts:
            part.requires_grad_(False)
        if blocks or self.layer == 0:
            self._audio.alibi_scale.requires_grad_(False)

    def rescale(self, mean: Tensor, scale: Tensor) -> bool:
        """Change the weights as ``HubEncoder.rescale``, always; layers above the chosen one are then wrong."""
        norm: Any = self._blocks[self.layer - 1].norm2 if self.layer else self._audio.context_encoder["norm"]
        fold_scaling(norm, mean, scale)
        return True

    def convolve(self, wave_BN: Tensor, lengths_B: Tensor) -> Tensor:
        """Convolutional features: (B, T, C)."""
        if self.normalize:
            # The epsilon of fairseq's layer norm over a waveform.
            wave_BN = standardize(wave_BN, lengths_B.to(wave_BN.device), eps=1e-5)
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
        silent_BT1 = ~frame_mask(frames_B.to(input_BTD.device), num_frames)[..., None]
        place_BTD = input_BTD
        for layer in self._audio.relative_positional_encoder.values():
            place_BTD = layer(place_BTD.masked_fill(silent_BT1, 0.0).transpose(1, 2)).transpose(1, 2)
        x_BTD = self._audio.context_encoder["norm"](input_BTD + place_BTD)
        outputs = {0: x_BTD} if 0 in wanted else {}
        frames = frames_B.tolist()
        alibi = Alibi(self._audio.alibi_scale, num_frames)
        for number, block in enumerate(self._blocks[: max(wanted, default=0)], start=1):
            x_BTD = block(x_BTD, frames, alibi)
            if number in wanted:
                outputs[number] = x_BTD
        return outputs

    @torch.inference_mode()
    def encode(self, waveforms: Sequence[AudioInput], layers: Sequence[int] | None = None) -> list[Any]:
        """Encode one batch of clips, see ``FrameEncoder.encode``."""
        waveforms = load_waveforms(waveforms)
        if not waveforms:
            return []
        self.check_lengths([len(wave) for wave in waveforms])
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

    def save(self, folder: Path, *, half: bool = False) -> None:
        """Write the encoder, all twelve blocks, so that ``load_encoder`` opens it; see ``HubEncoder.save``."""
        state = {name: weight.half() if half else weight for name, weight in self.released_state().items()}
        save_file({name: weight.contiguous() for name, weight in state.items()}, folder / WEIGHTS_FILE)
        config = {"model_type": MODEL_TYPE, "layer": self.layer, "normalize": self.normalize}
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def released_state(self) -> dict[str, Tensor]:
        """Weights in float32 on the CPU, under the names of the released files."""
        return {PREFIX + name: weight.detach().float().cpu() for name, weight in self.model.state_dict().items()}


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
    """Load the encoder of a released SyllableLM tokenizer (``SylBoost_*.pth``); arguments as of ``load_encoder``.

    Args:
        path: a torch file with the weights under "model_seg", each name with "model." before it.

    Raises:
        FormatError: missing, damaged or of another kind; weights that are missing, unknown or of another shape.
        InputError: there is no such layer, or the device does not compute in that precision.
    """
    place = pick_device(device)
    check_precision(precision, place)
    state = read_checkpoint(path).get(STATE_KEY)
    if not isinstance(state, Mapping):
        raise FormatError(f"{path}: not a released SyllableLM encoder (no weights under {STATE_KEY!r})")
    weights = {PREFIX + name: weight for name, weight in unwrap_names(check_tensors(state, Path(path))).items()}
    return Data2Vec2Encoder(from_state(weights, path), layer, precision=precision).to(place)


def is_data2vec2_folder(path: str | Path) -> bool:
    """Whether a folder's ``config.json`` names this family; False where there is none."""
    try:
        return read_json(Path(path) / CONFIG_FILE).get("model_type") == MODEL_TYPE
    except FormatError:
        return False


def load_data2vec2_folder(
    folder: str | Path, layer: int | None = None, *, device: str | torch.device = "auto"
) -> Data2Vec2Encoder:
    """Open the folder that `Data2Vec2Encoder.save` wrote; ``layer`` None is the one that was saved.

    Raises:
        FormatError: a file is missing or damaged; weights that are missing, unknown or of another shape.
        InputError: there is no such layer, or it lies above the one that was saved.
    """
    config_path, weights_path = Path(folder) / CONFIG_FILE, Path(folder) / WEIGHTS_FILE
    config = read_json(config_path)
    saved_layer, normalize = config.get("layer"), config.get("normalize")
    if type(saved_layer) is not int or type(normalize) is not bool or not 0 <= saved_layer <= NUM_LAYERS:
        raise FormatError(
            f"{config_path}: not a description of a Data2Vec 2.0 encoder (layer must be 0 to {NUM_LAYERS} and "
            "normalize true or false)"
        )
    state = read_tensors(weights_path)
    if layer is not None and layer > saved_layer:
        # A student learned up to its layer; the blocks above it were the teacher's.
        raise InputError(f"layer {layer}: {folder} was saved for layer {saved_layer}; take that one or one below it")
    model = from_state(state, weights_path)
    encoder = Data2Vec2Encoder(model, saved_layer if layer is None else layer, normalize=normalize)
    return encoder.to(pick_device(device))


def from_state(state: Mapping[str, Tensor], where: str | Path, prefix: str = PREFIX) -> Data2Vec2:
    """Build a model with the weights of a file.

    Args:
        state, where: checked weights, those of pre-training too, under the names of the file, and the file, for errors.
        prefix: what stands before every name of fairseq's.

    Raises:
        FormatError: weights that are missing, unknown or of another shape.
    """
    where = Path(where)
    shape = _read_shape(state, where, prefix)
    model = build_without_memory(lambda: Data2Vec2(shape), where, len(state))
    expected = {prefix + name: weight.shape for name, weight in model.state_dict().items()}
    unused = tuple(prefix + name for name in UNUSED)
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
    return fill_network(
        model, {name.removeprefix(prefix): weight for name, weight in given.items()}, where, "Data2Vec 2.0 encoder"
    )


def _read_shape(state: Mapping[str, Tensor], where: Path, prefix: str) -> Data2Vec2Shape:
    def size(name: str, axis: int, default: int) -> int:
        # Where a weight is missing, the comparison with the model says so.
        weight = state.get(prefix + name)
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
    state = encoder.released_state()
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
