"""The network of Whisper's encoder; its weights have the names that transformers gives them.

Importing that library's own module of it takes longer than reading its weights and encoding a short recording.

Shape suffixes: B clips, T frames, D features, H heads, E features of one head.
"""

# No postponed annotations: ``make_config`` reads the types of the fields of `WhisperShape`.

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import FormatError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass
class WhisperShape:
    """Sizes of the encoder half, by the names of transformers' configuration.

    Args:
        mask_embedding: whether there is a vector that masked frames are replaced by; ours, as the next one.
        final_norm: whether the norm after the last block belongs to the encoder; it was not cut off below it.
        attention_left, attention_right: frames before and after its own that a frame sees in each block; -1 for all.
            Ours, too: other programs attend to all.
    """

    num_mel_bins: int = 80
    encoder_layers: int = 4
    encoder_attention_heads: int = 6
    encoder_ffn_dim: int = 1536
    d_model: int = 384
    max_source_positions: int = 1500
    dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    activation_function: str = "gelu"
    mask_embedding: bool = False
    final_norm: bool = True
    attention_left: int = -1
    attention_right: int = -1
    model_type: ClassVar[str] = "whisper"

    @property
    def hidden_size(self) -> int:
        """The name of ``d_model`` in other families."""
        return self.d_model

    @property
    def num_attention_heads(self) -> int:
        """The name of ``encoder_attention_heads`` in other families."""
        return self.encoder_attention_heads

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` so that transformers reads it; of the decoder, which is not there, it has the sizes."""
        decoder = {
            "decoder_layers": self.encoder_layers,
            "decoder_attention_heads": self.encoder_attention_heads,
            "decoder_ffn_dim": self.encoder_ffn_dim,
        }
        table = {"model_type": self.model_type, "architectures": ["WhisperModel"], **asdict(self), **decoder}
        (Path(folder) / CONFIG).write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class WhisperModel(nn.Module):
    """The encoder half of a Whisper checkpoint; weights of the decoder are not read.

    Args:
        config: sizes; a ``WhisperConfig`` of transformers serves, too.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        if config.activation_function != "gelu":
            raise FormatError(f"activation_function {config.activation_function[:40]!r}: a Whisper has 'gelu'")
        self.config = config
        self.encoder = _Encoder(config)
        if getattr(config, "mask_embedding", False):
            self.masked_spec_embed = nn.Parameter(torch.zeros(config.d_model))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights and configuration so that ``transformers`` opens them."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, Path(folder) / WEIGHTS, metadata={"format": "pt"})
        self.config.save_pretrained(folder)

    def add_mask_embedding(self) -> None:
        """Prepare a model without a mask embedding for masked prediction (seed torch first)."""
        if not hasattr(self, "masked_spec_embed"):
            self.config.mask_embedding = True
            self.masked_spec_embed = nn.Parameter(0.02 * torch.randn(self.config.d_model))


class _Encoder(nn.Module):
    """Layers by name; ``encoders.whisper`` puts them together."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.conv1 = nn.Conv1d(config.num_mel_bins, config.d_model, 3, padding=1)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_source_positions, config.d_model).requires_grad_(False)
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)


class _Block(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dropout, self.activation_dropout = config.dropout, config.activation_dropout
        self.self_attn = _Attention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)

    def forward(self, hidden_BTD: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Attention, then two linear layers, each after a norm and added to its input; see attention for the mask."""
        inner_BTD = self.self_attn(self.self_attn_layer_norm(hidden_BTD), attention_mask)
        hidden_BTD = hidden_BTD + F.dropout(inner_BTD, self.dropout, self.training)
        inner = F.gelu(self.fc1(self.final_layer_norm(hidden_BTD)))
        inner_BTD = self.fc2(F.dropout(inner, self.activation_dropout, self.training))
        hidden_BTD = hidden_BTD + F.dropout(inner_BTD, self.dropout, self.training)
        if hidden_BTD.dtype == torch.float16:
            most = torch.finfo(torch.float16).max - 1000
            hidden_BTD = hidden_BTD.clamp(-most, most)
        return hidden_BTD


class _Attention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.encoder_attention_heads, config.attention_dropout
        self.k_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.v_proj = nn.Linear(config.d_model, config.d_model)
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, hidden_BTD: Tensor, mask: Tensor | None) -> Tensor:
        """Attend to the keys that the mask is True for; (B, 1, 1, T) or (B, 1, T, T), None for all."""
        query, key, value = self.q_proj(hidden_BTD), self.k_proj(hidden_BTD), self.v_proj(hidden_BTD)
        heads = (tensor.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for tensor in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        found_BHTE = F.scaled_dot_product_attention(*heads, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(found_BHTE.transpose(1, 2).flatten(2))
