"""Hugging Face speech encoders: waveforms in, features of one transformer layer out, padding-exact.

Shape suffixes: B clips, N samples, T frames, C channels of the convolutional extractor, D features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from syllablelm.encoders.device import pick_device
from syllablelm.encoders.quiet import quiet_transformers
from syllablelm.errors import FormatError, InputError

Waveform = npt.NDArray[np.float32]
PREPROCESSOR = "preprocessor_config.json"


def pad_waveforms(waveforms: Sequence[Waveform], device: torch.device) -> tuple[Tensor, Tensor]:
    """Stack waveforms of different lengths: (wave_BN zero-padded float32, lengths_B in samples)."""
    lengths = torch.tensor([len(w) for w in waveforms])
    wave_BN = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(wave_BN, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    return wave_BN.to(device), lengths.to(device)


def frame_mask(lengths_B: Tensor, num_frames: int) -> Tensor:
    """(B, T) True where a frame belongs to the clip."""
    return torch.arange(num_frames, device=lengths_B.device)[None, :] < lengths_B[:, None]


class HubEncoder(nn.Module):
    """A HuBERT-like Hugging Face model cut off after one layer.

    Args:
        model: ``HubertModel``, ``Wav2Vec2Model``, ``Data2VecAudioModel`` or ``WavLMModel``.
        layer: 1-based transformer layer whose output is the feature (0 is the first layer's input); None is the last.
            Layers above it are dropped.
        normalize: whether each waveform is standardised over its own samples first, as its checkpoint was trained.

    The same clip gives the same features alone and in any batch: padded frames are masked in attention and zeroed
    before the positional convolution, and group-norm extractors (HuBERT-base) take statistics over each clip's own
    samples.
    """

    sample_rate = 16_000

    def __init__(self, model: nn.Module, layer: int | None = None, *, normalize: bool = False) -> None:
        super().__init__()
        config: Any = model.config
        if layer is None:
            layer = int(config.num_hidden_layers)
        if not 0 <= layer <= config.num_hidden_layers:
            raise InputError(f"layer {layer}: this encoder has layers 0 to {config.num_hidden_layers}")
        self.model: Any = model
        self.layer = layer
        self.normalize = normalize
        self.hop = int(np.prod(config.conv_stride))
        self.dim = int(config.hidden_size)
        self._kernels = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self._per_clip_statistics = getattr(config, "feat_extract_norm", "layer") == "group"
        self.model.encoder.layers = self.model.encoder.layers[: max(layer, 1)]
        # A dropped layer has no output to teach or learn from; published configs ask for it in training.
        config.layerdrop = 0.0
        self.receptive_field = self._receptive_field()
        self.eval()

    def _receptive_field(self) -> int:
        field, jump = 1, 1
        for kernel, stride in self._kernels:
            field += (kernel - 1) * jump
            jump *= stride
        return field

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def num_frames(self, num_samples: int) -> int:
        """Frames that a clip of ``num_samples`` samples at 16 kHz gives; 0 below the receptive field."""
        return max(0, (num_samples - self.receptive_field) // self.hop + 1)

    def convolve(self, wave_BN: Tensor, lengths_B: Tensor) -> Tensor:
        """Convolutional features: (B, T, C)."""
        if self.normalize:
            valid = frame_mask(lengths_B, wave_BN.shape[1])
            count = lengths_B[:, None].to(wave_BN.dtype)
            mean = wave_BN.sum(1, keepdim=True) / count
            var = ((wave_BN - mean) * valid).pow(2).sum(1, keepdim=True) / count
            wave_BN = (wave_BN - mean) / torch.sqrt(var + 1e-7) * valid
        if not self._per_clip_statistics or len(wave_BN) == 1:
            return self.model.feature_extractor(wave_BN).transpose(1, 2)
        # Group norm averages over time, so each clip must be convolved without its neighbours' padding.
        clips = [
            self.model.feature_extractor(wave_BN[b : b + 1, : int(n)])[0].T for b, n in enumerate(lengths_B.tolist())
        ]
        return nn.utils.rnn.pad_sequence(clips, batch_first=True)

    def project(self, conv_BTC: Tensor) -> Tensor:
        """Convolutional features to transformer inputs: (B, T, D)."""
        projected = self.model.feature_projection(conv_BTC)
        return projected[0] if isinstance(projected, tuple) else projected

    def transform(self, input_BTD: Tensor, frames_B: Tensor, layers: Sequence[int] | None = None) -> dict[int, Tensor]:
        """Run the transformer and return the outputs of the asked layers: {layer: (B, T, D)}."""
        wanted = [self.layer] if layers is None else list(layers)
        blocks = self.model.encoder.layers
        if any(not 0 <= layer <= len(blocks) for layer in wanted):
            raise InputError(f"layers {wanted}: this encoder was cut to layers 0 to {len(blocks)}")
        captured: dict[int, Tensor] = {}
        handles = []

        def keep_output(layer: int) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                captured[layer] = output[0] if isinstance(output, tuple) else output

            return hook

        def keep_input(module: nn.Module, inputs: Any, kwargs: Any) -> None:
            captured[0] = inputs[0] if inputs else kwargs["hidden_states"]

        for layer in wanted:
            if layer == 0:
                handles.append(blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True))
            else:
                handles.append(blocks[layer - 1].register_forward_hook(keep_output(layer)))
        try:
            num_frames = input_BTD.shape[1]
            # Without padding no mask is passed: attention then takes its fastest path.
            mask = None
            if bool((frames_B < num_frames).any()):
                mask = frame_mask(frames_B, num_frames)
                # A copy, because transformers zeroes the padding in place.
                input_BTD = input_BTD.masked_fill(~mask[..., None], 0.0)
                handles.extend(self._keep_padding_silent(mask))
            self.model.encoder(input_BTD, attention_mask=mask)
        finally:
            for handle in handles:
                handle.remove()
        return captured

    def _keep_padding_silent(self, mask_BT: Tensor) -> list[Any]:
        # Data2Vec stacks positional convolutions; what one of them writes into the padding the next would read.
        stacked = getattr(self.model.encoder.pos_conv_embed, "layers", ())
        silent_B1T = ~mask_BT[:, None, :]
        return [
            layer.register_forward_pre_hook(lambda module, inputs: (inputs[0].masked_fill(silent_B1T, 0.0),))
            for layer in stacked
        ]

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the chosen layer: (feats_BTD, frames_B); frames past ``frames_B`` are meaningless."""
        frames_B = self.frames(lengths_B)
        conv_BTC = self.convolve(wave_BN, lengths_B)
        return self.transform(self.project(conv_BTC), frames_B)[self.layer], frames_B

    def frames(self, lengths_B: Tensor) -> Tensor:
        """Frame counts of clips of the given sample counts."""
        return ((lengths_B - self.receptive_field) // self.hop + 1).clamp(min=0)

    @torch.inference_mode()
    def encode(self, waveforms: Sequence[Waveform], layers: Sequence[int] | None = None) -> list[Any]:
        """Encode one batch of clips.

        Args:
            waveforms: float32 (num_samples,) at 16 kHz each, at least ``receptive_field`` samples long.
            layers: give several layers and get, per clip, a dict {layer: features}.

        Returns:
            per clip float32 (num_frames, dim).
        """
        if not waveforms:
            return []
        shortest = min(len(w) for w in waveforms)
        if shortest < self.receptive_field:
            raise InputError(
                f"a clip of {shortest} samples is shorter than one frame ({self.receptive_field} samples); "
                "drop or join it"
            )
        wave_BN, lengths_B = pad_waveforms(waveforms, self.device)
        frames_B = self.frames(lengths_B)
        outputs = self.transform(self.project(self.convolve(wave_BN, lengths_B)), frames_B, layers)
        result: list[Any] = []
        for b, count in enumerate(frames_B.tolist()):
            clip = {layer: feats[b, :count].float().cpu().numpy() for layer, feats in outputs.items()}
            result.append(clip if layers is not None else clip[self.layer])
        return result


def load_encoder(name: str | Path, layer: int | None = None, *, device: str | torch.device = "auto") -> HubEncoder:
    """Load an encoder from a hub id or a folder.

    Args:
        name: Hugging Face id ("facebook/hubert-base-ls960"), a folder that ``transformers`` opens, or an encoder
            artifact of this package.
        layer: 1-based layer whose output is the feature; None is the last.
        device: "auto", "cpu" or "cuda".

    Raises:
        FormatError: nothing loadable there, or a model family without a supported class.
    """
    source = str(name)
    model = load_model(source)
    return HubEncoder(model, layer, normalize=wants_normalisation(source)).to(pick_device(device))


def load_model(source: str) -> nn.Module:
    """Open a Hugging Face speech model, checking that every weight was there.

    Raises:
        FormatError: nothing loadable there, an unsupported family, or missing or damaged weights.
    """
    # The classes are imported from their own modules: transformers' top-level namespace is slow to fill.
    from safetensors import SafetensorError
    from transformers.models.auto.configuration_auto import AutoConfig

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(
            f"{source}: not a folder or hub id that transformers can open ({first_line(error)})"
        ) from None
    family = config.model_type
    if family == "hubert":
        from transformers.models.hubert.modeling_hubert import HubertModel as Model
    elif family == "wav2vec2":
        from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Model as Model
    elif family == "data2vec-audio":
        from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioModel as Model
    elif family == "wavlm":
        from transformers.models.wavlm.modeling_wavlm import WavLMModel as Model
    else:
        raise FormatError(
            f"{source}: model type {family!r} is not supported; use hubert, wav2vec2, data2vec-audio or wavlm"
        )
    try:
        with quiet_transformers():
            loaded: Any = Model.from_pretrained(source, output_loading_info=True)
            model, report = loaded
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise FormatError(f"{source}: its weights cannot be read ({first_line(error)})") from None
    # transformers fills gaps with random weights. Fine-tuned checkpoints may lack the mask embedding, which features
    # do not use.
    missing = sorted(name for name in report["missing_keys"] if name != "masked_spec_embed")
    if missing:
        raise FormatError(f"{source}: {len(missing)} weights are missing ({missing[0]}, ...); get the whole checkpoint")
    return model


def first_line(error: Exception) -> str:
    """What another library's error says, short enough for a one-line message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def wants_normalisation(source: str) -> bool:
    """Whether the checkpoint's preprocessor standardises waveforms; False where it does not say."""
    from transformers.utils.hub import cached_file

    with quiet_transformers():
        path = cached_file(source, PREPROCESSOR, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return False
    try:
        return bool(json.loads(Path(path).read_text(encoding="utf-8")).get("do_normalize", False))
    except (ValueError, AttributeError) as error:
        raise FormatError(f"{path}: not a preprocessor description in JSON ({first_line(error)})") from None


def save_encoder(encoder: HubEncoder, folder: Path) -> None:
    """Write an encoder, cut off as it is, so that ``transformers`` and ``load_encoder`` open it."""
    encoder.model.config.num_hidden_layers = len(encoder.model.encoder.layers)
    with quiet_transformers():
        encoder.model.save_pretrained(folder)
    preprocessor = {
        "do_normalize": encoder.normalize,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": encoder.sample_rate,
    }
    (folder / PREPROCESSOR).write_text(json.dumps(preprocessor, indent=2) + "\n", encoding="utf-8")
