"""Decoders of language models of units: OPT and Llama shapes, and text models as a start (TWIST)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from syllablelm.core.errors import LARGEST_SIZE, InputError, check_fields
from syllablelm.core.models import CONFIG_FILE, find_model, read_model_config
from syllablelm.encoders.pretrained import load_pretrained, make_config, open_transformers
from syllablelm.lm.decode import check_decoder
from syllablelm.lm.fused import max_positions
from syllablelm.scaling.flops import Family

MOST_POSITIONS = 2**24
# Names of the feed-forward width in the configurations of transformers.
_FEED_FORWARD = ("ffn_dim", "intermediate_size", "n_inner")


@dataclass(frozen=True)
class LMShape:
    """A decoder; the defaults are the paper's base model (Table 8).

    Args:
        layers, dim, heads, feed_forward: size of the decoder (large: 24, 1024, 16, 4096).
        positions: context length in tokens, BOS included; an OPT learns as many positions.
        dropout: dropout rate of an OPT; attention weights have none, and a Llama has none at all.
        family: "opt", with learned positions, LayerNorm and ReLU; or "llama", with RoPE, RMSNorm and SwiGLU. By default
            that of ``lm.text_model``, "opt" without one.
    """

    layers: int = 12
    dim: int = 768
    heads: int = 12
    feed_forward: int = 3072
    positions: int = 1024
    dropout: float = 0.1
    family: Family | None = None

    def __post_init__(self) -> None:
        check_fields(self, "layers dim heads feed_forward", least=1, most=LARGEST_SIZE)
        check_fields(self, "positions", least=1, most=MOST_POSITIONS)
        check_fields(self, "dropout", least=0, below=1)
        if self.dim % self.heads:
            raise InputError(f"dim {self.dim}: must be a multiple of heads {self.heads}")
        if self.family == "llama" and self.dim // self.heads % 2:
            raise InputError(f"dim {self.dim}: RoPE turns pairs of dimensions; heads ({self.heads}) need an even size")
        if self.family == "llama" and self.dropout:
            raise InputError(f"dropout {self.dropout}: a Llama has none; set it to 0")

    def build(self, num_tokens: int, *, norm_first: bool = True) -> nn.Module:
        """Return a random ``OPTForCausalLM`` or ``LlamaForCausalLM`` over ``num_tokens`` units and BOS.

        Seed torch first. ``norm_first`` is pre-norm layers, with a norm after the last; only opt-350m has post-norm
        layers. Embeddings are tied.
        """
        settings: dict[str, Any] = {
            "vocab_size": num_tokens + 1,
            "hidden_size": self.dim,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.positions,
            "attention_dropout": 0.0,
            "bos_token_id": num_tokens,
            "eos_token_id": None,
            "pad_token_id": None,
        }
        if self.family == "llama":
            from transformers.models.llama.configuration_llama import LlamaConfig
            from transformers.models.llama.modeling_llama import LlamaForCausalLM

            settings |= {"intermediate_size": self.feed_forward, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
            return LlamaForCausalLM(LlamaConfig(**settings))
        from transformers.models.opt.configuration_opt import OPTConfig
        from transformers.models.opt.modeling_opt import OPTForCausalLM

        settings |= {"ffn_dim": self.feed_forward, "word_embed_proj_dim": self.dim, "dropout": self.dropout}
        return OPTForCausalLM(OPTConfig(**settings, layerdrop=0.0, do_layer_norm_before=norm_first))


def load_decoder(folder: Path) -> nn.Module:
    """Open a Hugging Face folder of a causal language model in float32, checking that every weight was there.

    Raises:
        FormatError: no such folder, a damaged one, or one of a family without causal language models.
    """
    table = read_model_config(folder)
    if table["model_type"] == "opt":
        from transformers.models.opt.configuration_opt import OPTConfig
        from transformers.models.opt.modeling_opt import OPTForCausalLM

        return load_pretrained(folder, OPTForCausalLM, make_config(table, OPTConfig, folder / CONFIG_FILE))
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    return open_transformers(str(folder), MODEL_FOR_CAUSAL_LM_MAPPING)[1]


def start_from_text(shape: LMShape, num_tokens: int, source: str) -> nn.Module:
    """Return a model of units with the layers of a text model and random token embeddings (TWIST).

    Args:
        shape: its shape must be the text model's; an OPT's positions are cut to it.
        num_tokens: number of units; BOS follows them.
        source: folder or hub id of a causal language model (Hassid et al. 2023), of any family that ``check_decoder``
            accepts.

    Raises:
        InputError, FormatError: no such model, one of another shape, or one that cannot be used.
    """
    text: Any = load_decoder(find_model(source))
    found = text.config
    shapes = {
        "layers": (shape.layers, found.num_hidden_layers),
        "dim": (shape.dim, found.hidden_size),
        "heads": (shape.heads, found.num_attention_heads),
        "feed_forward": (shape.feed_forward, _first_of(found, _FEED_FORWARD) or shape.feed_forward),
    }
    wrong = [f"{name} = {theirs}" for name, (ours, theirs) in shapes.items() if ours != theirs]
    if shape.family not in (None, found.model_type):
        raise InputError(f"lm.text_model {source}: a decoder of type {found.model_type!r}; leave lm.shape.family out")
    if found.model_type != "opt" and shape.dropout:
        wrong.append("dropout = 0.0")
    if wrong:
        raise InputError(f"lm.text_model {source}: a decoder of another shape; in lm.shape set {', '.join(wrong)}")
    if shape.positions > (known := max_positions(text)):
        raise InputError(
            f"lm.text_model {source}: knows {known} positions; lower lm.shape.positions ({shape.positions}) to that "
            "or less"
        )
    if found.model_type == "opt":
        return _start_from_opt(shape, num_tokens, text, source)
    resize_vocabulary(text, num_tokens)
    scale = float(getattr(found, "initializer_range", 0.02))
    with torch.no_grad():
        for weight in vocabulary_weights(text):
            weight.normal_(0.0, scale) if weight.ndim == 2 else weight.zero_()
    check_decoder(text, f"lm.text_model {source}")
    return text


def _first_of(config: Any, names: Sequence[str]) -> Any:
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)


def _start_from_opt(shape: LMShape, num_tokens: int, text: Any, source: str) -> nn.Module:
    """Copy layers and positions into a model of units.

    Projections between embeddings and layers (opt-350m) belong to the text's vocabulary and are not copied.
    """
    found = text.config
    model: Any = shape.build(num_tokens, norm_first=found.do_layer_norm_before)
    if found.activation_function != model.config.activation_function:
        raise InputError(f"lm.text_model {source}: layers with {found.activation_function}, not an OPT of Meta's kind")
    own, other = model.state_dict(), text.state_dict()
    for name, tensor in own.items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            continue
        if name not in other:
            raise InputError(f"lm.text_model {source}: {name} is missing; not an OPT of Meta's kind")
        # Positions are counted from row 2 in both, and the text model may know more of them.
        tensor.copy_(other[name][: len(tensor)])
    return model


def vocabulary_weights(model: nn.Module) -> list[Tensor]:
    """Return the weights with a row per token: the embedding, and where they are its own the output's and its bias."""
    lm: Any = model
    embedding, output = lm.get_input_embeddings().weight, lm.get_output_embeddings()
    own = [] if output.weight is embedding else [output.weight]
    return [embedding, *own, *([] if output.bias is None else [output.bias])]


def resize_vocabulary(model: nn.Module, num_tokens: int, *, has_bos: bool = True) -> None:
    """Give a model the vocabulary of ``num_tokens`` units and, with ``has_bos``, BOS; fill its weights afterwards."""
    from transformers.generation.configuration_utils import GenerationConfig

    lm: Any = model
    lm.resize_token_embeddings(num_tokens + has_bos, mean_resizing=False)
    # A padding token's embedding would never learn; here every row is a unit.
    lm.get_input_embeddings().padding_idx = None
    config = lm.config
    config.bos_token_id = num_tokens if has_bos else None
    config.eos_token_id = config.pad_token_id = None
    lm.generation_config = GenerationConfig.from_model_config(config)


def keep_tokens(model: nn.Module, rows: Sequence[int], *, has_bos: bool = True) -> None:
    """Reduce the vocabulary of a model to some of its tokens, in this order; with ``has_bos`` the last one is BOS."""
    kept = [weight.detach()[list(rows)].clone() for weight in vocabulary_weights(model)]
    resize_vocabulary(model, len(rows) - has_bos, has_bos=has_bos)
    with torch.no_grad():
        for weight, own in zip(vocabulary_weights(model), kept, strict=True):
            weight.copy_(own)
