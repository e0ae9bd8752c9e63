"""An encoder with its masked-prediction head: the model that pre-training makes and LossPred reads.

The encoder is a Hugging Face model; the head (final projection and label embeddings, cosine logits divided by a
temperature, Hsu et al. 2021, Eq. 3) is saved beside it, because transformers has no place for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from syllablelm.core.errors import LARGEST_SIZE, FormatError, InputError, check_fields
from syllablelm.encoders.fairseq import FairseqHubert
from syllablelm.encoders.heads import PredictionHead
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.load import load_encoder


@dataclass(frozen=True)
class EncoderShape:
    """Size of a HuBERT encoder; the defaults are HuBERT-base with the layer-norm extractor.

    Args:
        conv_dim, conv_kernel, conv_stride: the convolutional extractor; strides must multiply to 320.
        position_kernel: frames of the positional convolution.
        activation, dropout: convolutions' activation ("relu" is faster on a CPU); dropout of states and attention.
        filterbank: start the first convolution as pairs of Gabor filters spaced evenly in mel (Zeghidour et al. 2018,
            "Learning filterbanks from raw speech"). On little data it saves the long plateau of random filters.
    """

    layers: int = 12
    dim: int = 768
    heads: int = 12
    feed_forward: int = 3072
    conv_dim: tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    position_kernel: int = 128
    position_groups: int = 16
    activation: str = "gelu"
    dropout: float = 0.1
    final_dim: int = 256
    filterbank: bool = False

    def __post_init__(self) -> None:
        sizes = "layers dim heads feed_forward position_kernel position_groups final_dim"
        check_fields(self, f"{sizes} conv_dim conv_kernel conv_stride", least=1, most=LARGEST_SIZE)
        check_fields(self, "dropout", least=0, most=1)
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            raise InputError("conv_dim, conv_kernel and conv_stride need a value for each convolution")
        if self.dim % self.heads or self.dim % self.position_groups:
            raise InputError(
                f"dim {self.dim}: must be a multiple of heads {self.heads} and of position_groups "
                f"{self.position_groups}"
            )

    def build(self) -> nn.Module:
        """A ``HubertModel`` of this shape with random weights."""
        from transformers.models.hubert.configuration_hubert import HubertConfig
        from transformers.models.hubert.modeling_hubert import HubertModel

        model: Any = HubertModel(
            HubertConfig(
                hidden_size=self.dim,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                intermediate_size=self.feed_forward,
                conv_dim=tuple(self.conv_dim),
                conv_kernel=tuple(self.conv_kernel),
                conv_stride=tuple(self.conv_stride),
                num_conv_pos_embeddings=self.position_kernel,
                num_conv_pos_embedding_groups=self.position_groups,
                feat_extract_norm="layer",
                feat_extract_activation=self.activation,
                conv_bias=True,
                hidden_dropout=self.dropout,
                attention_dropout=self.dropout,
                activation_dropout=0.0,
                feat_proj_dropout=0.0,
                layerdrop=0.0,
                # Masks come from the training task, not from inside the model.
                apply_spec_augment=False,
            )
        )
        if self.filterbank:
            set_gabor_filters(model.feature_extractor.conv_layers[0].conv.weight)
        return model


@torch.no_grad()
def set_gabor_filters(weight: Tensor, *, low: float = 60.0, high: float = 7000.0, gain: float = 10.0) -> None:
    """Fill a first convolution (channels, 1, taps) with cosine and sine Gabor filters at mel-spaced centres.

    Args:
        low, high: Hz, edges of the lowest and highest band; the narrowest band is 80 Hz wide to either side.
        gain: norm of each filter; speech samples are small beside one.
    """
    channels, _, taps = weight.shape
    mel = torch.linspace(2595 * math.log10(1 + low / 700), 2595 * math.log10(1 + high / 700), channels // 2 + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    centres, widths = edges[1:-1], ((edges[2:] - edges[:-2]) / 4).clamp(min=80.0)
    seconds = (torch.arange(taps) - (taps - 1) / 2) / 16_000
    gauss = torch.exp(-0.5 * (seconds * 2 * math.pi * widths[:, None] / 1.2) ** 2)
    phase = 2 * math.pi * centres[:, None] * seconds
    pairs = torch.stack([gauss * torch.cos(phase), gauss * torch.sin(phase)], dim=1).reshape(-1, taps)
    pairs = pairs - pairs.mean(1, keepdim=True)
    # An odd channel count leaves the last filter as it was drawn.
    weight[: len(pairs), 0] = gain * pairs / pairs.norm(dim=1, keepdim=True)


class MaskedPredictor(nn.Module):
    """An encoder, uncut, with its head: predicts the label of every frame, under masks."""

    def __init__(self, encoder: HubEncoder, head: PredictionHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @classmethod
    def create(cls, shape: EncoderShape, num_labels: int, *, normalize: bool = False) -> MaskedPredictor:
        """A new model with random weights (seed torch first); ``normalize`` as in ``HubEncoder``."""
        return cls(
            HubEncoder(shape.build(), normalize=normalize), PredictionHead(shape.dim, num_labels, shape.final_dim)
        )

    def inputs(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Everything before masking: (input_BTD, frames_B). Masks act on ``input_BTD``, so one pass serves many."""
        return self.encoder.project(self.encoder.convolve(wave_BN, lengths_B)), self.encoder.frames(lengths_B)

    def hidden(self, input_BTD: Tensor, frames_B: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """What the head reads: the encoder's last output, masked frames replaced by the mask embedding: (B, T, D)."""
        if mask_BT is not None:
            embedding = self.encoder.model.masked_spec_embed.to(input_BTD.dtype)
            input_BTD = torch.where(mask_BT[..., None], embedding, input_BTD)
        output_BTD = self.encoder.transform(input_BTD, frames_B)[self.encoder.layer]
        if getattr(self.encoder.model.config, "do_stable_layer_norm", False):
            # Blocks with the norm before their parts leave the last norm to the encoder as a whole.
            output_BTD = self.encoder.model.encoder.layer_norm(output_BTD)
        return output_BTD

    def forward(self, wave_BN: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        """Logits of the masked frames only: (num_masked, num_labels), in row-major order of the mask."""
        input_BTD, frames_B = self.inputs(wave_BN, lengths_B)
        return self.head(self.hidden(input_BTD, frames_B, mask_BT)[mask_BT])

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` for transformers, and the head beside them."""
        self.encoder.save(folder)
        self.head.save(folder)

    @classmethod
    def load(cls, source: str | Path, *, device: str | torch.device = "auto") -> MaskedPredictor:
        """Open a folder that ``save`` wrote, or a pre-training checkpoint file of fairseq's HuBERT.

        Raises:
            FormatError: no head beside the encoder or in the file, or a damaged one.
        """
        path = Path(source)
        head = FairseqHubert.read(path).head() if path.is_file() else PredictionHead.load(path)
        encoder = load_maskable(path, device=device)
        if encoder.dim != head.dim:
            raise FormatError(f"{path}: a head for {head.dim} dimensions beside an encoder of {encoder.dim}")
        return cls(encoder, head).to(encoder.device).eval()


def load_maskable(
    source: str | Path,
    *,
    device: str | torch.device = "auto",
    add_mask: bool = False,
    normalize: bool | None = None,
) -> HubEncoder:
    """Load a whole encoder from which frames can be hidden; one without a mask embedding is a FormatError.

    Args:
        device, normalize: as of ``load_encoder``.
        add_mask: give a new mask embedding to an encoder that has none and could have one (seed torch first).
    """
    encoder = load_encoder(source, device=device, normalize=normalize)
    if add_mask and isinstance(encoder, HubEncoder) and hasattr(encoder.model, "add_mask_embedding"):
        encoder.model.add_mask_embedding()
    if not isinstance(encoder, HubEncoder) or not hasattr(encoder.model, "masked_spec_embed"):
        raise FormatError(f"{source}: this encoder has no mask embedding, with which LossPred hides frames")
    return encoder
