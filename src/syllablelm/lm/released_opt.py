"""OPT language models as a file of weights alone, such as those of the SyllableLM release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders.checkpoint import read_checkpoint
from syllablelm.encoders.weights import build_without_memory, check_tensors, fill_network, read_tensors

_EMBEDDING, _POSITIONS, _OUTPUT = "embed_tokens.weight", "embed_positions.weight", "lm_head.weight"
# Names of fairseq and metaseq, and those of transformers.
_RENAMED = {"layer_norm.weight": "final_layer_norm.weight", "layer_norm.bias": "final_layer_norm.bias",
            "output_projection.weight": _OUTPUT}  # fmt: skip
_LAYER = re.compile(r"layers\.(\d+)\.")
# No weights of theirs: a version number and the device of computed positions.
_LEFT_OUT = ("version", "_float_tensor")
_HEAD_DIM = 64


def load_opt_weights(path: Path, heads: int = 0) -> nn.Module:
    """Open a file of weights, of ``torch.save`` or safetensors, as an ``OPTForCausalLM`` in float32.

    The names may be those of transformers or of fairseq, anywhere in nested tables. All sizes are read from the shapes;
    the activation is taken to be OPT's, ReLU.

    Args:
        path: the file; it is read without running code.
        heads: number of attention heads, which no shape tells; 0: one per 64 dimensions.

    Raises:
        FormatError: a damaged file, or none of an OPT.
        InputError: a number of heads that does not divide the width.
    """
    from transformers.models.opt.configuration_opt import OPTConfig
    from transformers.models.opt.modeling_opt import OPTForCausalLM

    weights = _plain_names(_find_weights(path), path)
    try:
        vocab, width = weights[_EMBEDDING].shape
        inner, dim = weights["layers.0.fc1.weight"].shape
        positions = len(weights[_POSITIONS]) - 2
    except (KeyError, ValueError) as error:
        raise FormatError(f"{path}: not the weights of an OPT language model ({error})") from None
    heads = heads or max(1, dim // _HEAD_DIM)
    if dim % heads:
        raise InputError(f"heads {heads}: must divide the model's {dim} dimensions")
    output = weights.setdefault(_OUTPUT, weights[_EMBEDDING])
    settings: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": dim,
        "word_embed_proj_dim": width,
        "num_hidden_layers": 1 + max(int(match[1]) for name in weights if (match := _LAYER.match(name))),
        "num_attention_heads": heads,
        "ffn_dim": inner,
        "max_position_embeddings": positions,
        "do_layer_norm_before": "final_layer_norm.weight" in weights,
        "tie_word_embeddings": torch.equal(output, weights[_EMBEDDING]),
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    named = {name if name == _OUTPUT else f"model.decoder.{name}": tensor for name, tensor in weights.items()}
    empty: Any = build_without_memory(lambda: OPTForCausalLM(OPTConfig(**settings)), path, len(named))
    model = fill_network(empty, named, path, "OPT language model")
    model.tie_weights()
    return model


def _find_weights(path: Path) -> Mapping[str, Tensor]:
    """Return the innermost table that holds an embedding of tokens."""
    if path.suffix == ".safetensors":
        return read_tensors(path)
    tables: list[Any] = [read_checkpoint(path)]
    while tables:
        table = tables.pop()
        if any(isinstance(name, str) and name.endswith(_EMBEDDING) for name in table):
            tensors = {name: value for name, value in table.items() if isinstance(value, Tensor)}
            return check_tensors(tensors, path)
        tables += [value for value in table.values() if isinstance(value, dict)]
    raise FormatError(f"{path}: no {_EMBEDDING} among its weights; not a language model")


def _plain_names(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return weights by their names within the decoder."""
    plain: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        part = name.replace("_orig_mod.", "").rpartition("decoder.")[2]
        part = _OUTPUT if part.endswith(_OUTPUT) else _RENAMED.get(part, part)
        if not part.endswith(_LEFT_OUT):
            if part in plain:
                raise FormatError(f"{path}: two weights for {part[:80]}; not the weights of one language model")
            plain[part] = tensor
    return plain
