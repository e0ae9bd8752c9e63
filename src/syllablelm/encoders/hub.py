"""Hugging Face speech encoders: waveforms in, features of one transformer layer out, padding-exact.

Shape suffixes: B clips, N samples, T frames, C channels of the convolutional extractor, D features.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import InputError
from syllablelm.data.audio import load_waveforms
from syllablelm.data.samples import AudioInput
from syllablelm.encoders.attention import GatedRelativeAttention
from syllablelm.encoders.base import Waveform
from syllablelm.encoders.device import autocast, map_on_cores
from syllablelm.encoders.extractor import ConvolvedEncoder, convolve_tiles
from syllablelm.encoders.padding import (
    fold_scaling,
    frame_mask,
    longest_first,
    similar_lengths,
    stack_waveforms,
    standardize,
    start_download,
)
from syllablelm.encoders.quiet import quiet_transformers

PREPROCESSOR = "preprocessor_config.json"
# Held while a module has hooks that belong to one batch.
_HOOKED = Lock()


class HubEncoder(ConvolvedEncoder):
    """A HuBERT-like Hugging Face model cut off after one layer.

    Args:
        model: ``HubertModel``, ``Wav2Vec2Model``, ``Data2VecAudioModel`` or ``WavLMModel``.
        layer: 1-based transformer layer whose output is the feature (0 is the first layer's input); None is the last.
            Layers above it are dropped. Features are outputs of blocks: in models with ``do_stable_layer_norm``
            (large, x-large) the residual stream, to which the model's final norm was never applied.
        normalize: whether each waveform is standardised over its own samples first, as its checkpoint was trained.
        pad: zero samples put before and after each waveform, after it was standardised. HuBERT-like units of the
            field are often made with 40, which gives exactly one frame per hop: those of TWIST's 25 Hz mHuBERT are.

    The same clip gives the same features alone and in any batch: padded frames are masked in attention and zeroed
    before every positional convolution, and group-norm extractors (HuBERT-base) take statistics over each clip's own
    samples. No layer is dropped at random in training, whatever the configuration asks for.

    Attributes:
        precision, takes_pad: see ``load_encoder``, and whether the family's waveforms may be padded (``pad``).
    """

    takes_pad = True

    def __init__(self, model: nn.Module, layer: int | None = None, *, normalize: bool = False, pad: int = 0) -> None:
        super().__init__()
        config: Any = model.config
        self.model: Any = model
        last = self._count_layers()
        self.layer = last if layer is None else layer
        if not 0 <= self.layer <= last:
            raise InputError(f"layer {layer}: this encoder has layers 0 to {last}")
        self.normalize = normalize
        self.hop, self.window = self._frame_grid()
        self.set_pad(pad)
        self.dim = int(config.hidden_size)
        self.model.encoder.layers = self.model.encoder.layers[: max(self.layer, 1)]
        self._choose_attention()
        self.eval()

    def _count_layers(self) -> int:
        """Number of the highest layer that features may be taken from."""
        return int(self.model.config.num_hidden_layers)

    def _set_saved_layers(self, config: Any, count: int) -> None:
        config.num_hidden_layers = count

    def _frame_grid(self) -> tuple[int, int]:
        """Samples from frame to frame, and samples that one frame sees."""
        window, hop = 1, 1
        for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
            window += (kernel - 1) * hop
            hop *= stride
        return hop, window

    def _choose_attention(self) -> None:
        if self.model.config.model_type == "wavlm":
            for block in self.model.encoder.layers:
                # A student may be made of a model that was an encoder before.
                if not isinstance(block.attention, GatedRelativeAttention):
                    block.attention = GatedRelativeAttention(block.attention)
        else:
            self.model.set_attn_implementation("sdpa")

    def set_pad(self, pad: int) -> None:
        """Set the number of zero samples on either side of each waveform, less than half of a frame's samples."""
        if not 0 <= 2 * pad < self.window:
            raise InputError(f"pad {pad}: at least 0, and less than half of the {self.window} samples of a frame")
        self.pad, self.receptive_field = pad, self.window - 2 * pad

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def freeze(self, *, extractor: bool = True, blocks: int = 0) -> None:
        """Freeze parts of the encoder in training.

        Args:
            extractor: the convolutional extractor.
            blocks: number of transformer blocks, from the input on; above 0 everything before them is frozen too.
        """
        parts = self._extractor() if extractor or blocks else []
        if blocks:
            parts += [*self._entry(), *self.model.encoder.layers[:blocks]]
        for part in parts:
            part.requires_grad_(False)
        if parts and hasattr(self.model, "feature_extractor"):
            # transformers' own switch: it also stops the extractor's input from asking for gradients.
            self.model.feature_extractor._freeze_parameters()

    def _extractor(self) -> list[nn.Module]:
        return [self.model.feature_extractor] if hasattr(self.model, "feature_extractor") else []

    def _entry(self) -> list[nn.Module]:
        """What lies between the extractor and the first block."""
        encoder = self.model.encoder
        parts = [self.model.feature_projection, getattr(encoder, "pos_conv_embed", None)]
        if not getattr(self.model.config, "do_stable_layer_norm", False):
            parts.append(getattr(encoder, "layer_norm", None))
        return [part for part in parts if part is not None]

    def rescale(self, mean: Tensor, scale: Tensor) -> bool:
        """Change the weights so that the features become (feature - mean) / scale; mean and scale are (dim,).

        False, and nothing changed, where the chosen layer does not end in a layer norm that could take them in.
        """
        norm = self._last_norm()
        if norm is None:
            return False
        fold_scaling(norm, mean, scale)
        return True

    def _last_norm(self) -> Any:
        """The layer norm that ends the chosen layer; None where there is none."""
        if self.layer == 0 or getattr(self.model.config, "do_stable_layer_norm", False):
            return None
        return getattr(self.model.encoder.layers[self.layer - 1], "final_layer_norm", None)

    def save(self, folder: Path, *, half: bool = False) -> None:
        """Write the encoder, cut off as it is, so that ``transformers`` and ``load_encoder`` open it.

        Args:
            folder: an existing folder.
            half: write weights in float16, half the size; they are opened as float32.
        """
        model = copy.deepcopy(self.model).half() if half else self.model
        with quiet_transformers():
            model.save_pretrained(folder)
            # The configuration still counts the layers that were cut off; it is the caller's, and stays as it is.
            config = copy.deepcopy(model.config)
            self._set_saved_layers(config, len(model.encoder.layers))
            config.save_pretrained(folder)
        # The number of layers does not tell layer 0, the input of the first, from layer 1.
        said = {**self.preprocessor(), "layer": self.layer}
        (folder / PREPROCESSOR).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")

    def convolve(self, wave_BN: Tensor, lengths_B: Tensor) -> Tensor:
        """Convolutional features: (B, T, C)."""
        if self.normalize:
            wave_BN = standardize(wave_BN, lengths_B.to(wave_BN.device, non_blocking=True))
        if self.pad:
            wave_BN = F.pad(wave_BN, (self.pad, self.pad))
        lengths = [int(length) + 2 * self.pad for length in lengths_B.tolist()]
        frames = self.frames(lengths_B).tolist()
        extractor = self.model.feature_extractor
        return convolve_tiles(extractor, wave_BN, lengths, frames, hop=self.hop, window=self.window)

    def project(self, conv_BTC: Tensor) -> Tensor:
        """Convolutional features to transformer inputs: (B, T, D)."""
        projected = self.model.feature_projection(conv_BTC)
        return projected[0] if isinstance(projected, tuple) else projected

    def transform(self, input_BTD: Tensor, frames_B: Tensor, layers: Sequence[int] | None = None) -> dict[int, Tensor]:
        """Run the transformer and return the outputs of the asked layers: {layer: (B, T, D)}.

        Frame counts on the CPU save a GPU the wait for them.
        """
        wanted = [self.layer] if layers is None else list(layers)
        blocks = self.model.encoder.layers
        if any(not 0 <= layer <= len(blocks) for layer in wanted):
            raise InputError(f"layers {wanted}: this encoder was cut to layers 0 to {len(blocks)}")
        mask_BT = None
        # Without padding no mask is passed: attention then takes its fastest path.
        if bool((frames_B < input_BTD.shape[1]).any()):
            mask_BT = frame_mask(frames_B.to(input_BTD.device, non_blocking=True), input_BTD.shape[1])
            input_BTD = input_BTD.masked_fill(~mask_BT[..., None], 0.0)
        mask = self._attention_mask(mask_BT, input_BTD)
        hidden_BTD, shared = self._enter(input_BTD, mask_BT)
        captured = {0: hidden_BTD} if 0 in wanted else {}
        for number, block in enumerate(blocks[: max(wanted, default=0)], start=1):
            hidden_BTD = block(hidden_BTD, attention_mask=mask, **shared)
            if isinstance(hidden_BTD, tuple):
                # WavLM's first layer finds the biases that all layers use.
                hidden_BTD, shared["position_bias"] = hidden_BTD
            if number in wanted:
                captured[number] = hidden_BTD
        return captured

    def _attention_mask(self, mask_BT: Tensor | None, input_BTD: Tensor) -> Tensor | None:
        """True for the keys that a block may attend to; None for all."""
        return None if mask_BT is None else mask_BT[:, None, None, :]

    def _enter(self, input_BTD: Tensor, mask_BT: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
        """The first block's input, and what is passed to every block."""
        encoder = self.model.encoder
        hidden_BTD = input_BTD + self._positions(input_BTD, mask_BT)
        if not getattr(self.model.config, "do_stable_layer_norm", False):
            hidden_BTD = encoder.layer_norm(hidden_BTD)
        return encoder.dropout(hidden_BTD), {}

    def _positions(self, input_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        embed = self.model.encoder.pos_conv_embed
        with _HOOKED:
            handles = []
            if mask_BT is not None:
                # Zero input is not enough: data2vec stacks convolutions, mHuBERT has a batch norm before its only one.
                silent_B1T = ~mask_BT[:, None, :]
                handles = [
                    module.register_forward_pre_hook(lambda _, inputs: (inputs[0].masked_fill(silent_B1T, 0.0),))
                    for module in embed.modules()
                    if isinstance(module, nn.Conv1d)
                ]
            try:
                return embed(input_BTD)
            finally:
                for handle in handles:
                    handle.remove()

    def encode(self, waveforms: Sequence[AudioInput], layers: Sequence[int] | None = None) -> list[Any]:
        """Encode one batch of clips, see ``FrameEncoder.encode``."""
        return next(self.encode_batches([load_waveforms(waveforms)], layers))

    def encode_batches(
        self, batches: Iterable[Sequence[Waveform]], layers: Sequence[int] | None = None
    ) -> Iterator[list[Any]]:
        """Encode batch after batch as ``encode`` does; a GPU works on the next while the caller has the last one."""
        started: deque[Callable[[], list[Any]]] = deque()
        for waveforms in batches:
            started.append(self._start(waveforms, layers))
            if len(started) > (self.device.type == "cuda"):
                yield started.popleft()()
        while started:
            yield started.popleft()()

    @torch.inference_mode()
    def _start(self, waveforms: Sequence[Waveform], layers: Sequence[int] | None) -> Callable[[], list[Any]]:
        """Begin to encode a batch; what is returned waits for the end and gives the result."""
        lengths = [len(waveform) for waveform in waveforms]
        self.check_lengths(lengths)
        device = self.device
        # A CPU gains nothing from large batches; small ones stay in its caches and need little padding.
        groups = similar_lengths(lengths)[::-1] if device.type == "cpu" else [longest_first(lengths)]
        groups = [group for group in groups if group]
        batches = [[waveforms[i] for i in group] for group in groups]
        outputs = map_on_cores(partial(self._outputs, layers=layers), batches, device)
        found = list(zip(groups, outputs, strict=True))
        done = None
        if device.type == "cuda":
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))

        def finish() -> list[Any]:
            if done is not None:
                done.synchronize()
            result: list[Any] = [None] * len(lengths)
            for group, outputs in found:
                for row, i in enumerate(group):
                    clip = {
                        layer: feats[row, : self.num_frames(lengths[i])].numpy() for layer, feats in outputs.items()
                    }
                    if done is not None:
                        # Page-locked memory is scarce and goes back at once.
                        clip = {layer: feats.copy() for layer, feats in clip.items()}
                    result[i] = clip[self.layer] if layers is None else clip
            return result

        return finish

    @torch.inference_mode()
    def _outputs(self, waveforms: Sequence[Waveform], layers: Sequence[int] | None) -> dict[int, Tensor]:
        """Padded features in host memory, on their way there if they come from a GPU."""
        wave_BN = stack_waveforms(waveforms, self.device)
        lengths_B = torch.tensor([len(waveform) for waveform in waveforms])
        with autocast(self.precision, wave_BN.device):
            inputs_BTD = self.project(self.convolve(wave_BN, lengths_B))
            outputs = self.transform(inputs_BTD, self.frames(lengths_B), layers)
        return {layer: start_download(feats) for layer, feats in outputs.items()}

    def preprocessor(self) -> dict[str, Any]:
        """What ``preprocessor_config.json`` says; ``pad`` is ours, and ``save`` adds ``layer``."""
        return {
            "do_normalize": self.normalize,
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "pad": self.pad,
            "padding_value": 0.0,
            "return_attention_mask": True,
            "sampling_rate": self.sample_rate,
        }
