"""Random language models in the layouts in which others released theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from syllablelm.lm.backbone import load_decoder

# What the three models of TWIST start from: OPT-350M (norms last, narrow embeddings), OPT-1.3B, Llama-7B; small here.
TWIST: dict[str, dict[str, Any]] = {
    "350M": {"model_type": "opt", "ffn_dim": 24, "word_embed_proj_dim": 8, "do_layer_norm_before": False},
    "1.3B": {"model_type": "opt", "ffn_dim": 24, "word_embed_proj_dim": 16, "do_layer_norm_before": True},
    "7B": {"model_type": "llama", "intermediate_size": 24, "tie_word_embeddings": False},
}


def write_twist(folder: Path, size: str, *, vocab: int, offset: int) -> Any:
    """Write a folder as TWIST's archives hold them, ``offset`` in its config.json; return the model itself."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    settings = {"vocab_size": vocab, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
                "max_position_embeddings": 48, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None,
                **TWIST[size]}  # fmt: skip
    config = CONFIG_MAPPING[settings.pop("model_type")](**settings)
    torch.manual_seed(1)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).eval()
    _spread(model)
    folder.mkdir(parents=True)
    table = {**config.to_dict(), "model_type": config.model_type, "offset": offset, "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(table), encoding="utf-8")
    torch.save(dict(model.state_dict()), folder / "pytorch_model.bin")
    return load_decoder(folder)


def random_opt(vocab: int, *, layers: int = 2, dim: int = 16, inner: int = 24, positions: int = 48) -> Any:
    """Return a random OPT of the paper's kind: norms first, learned positions."""
    from transformers.models.opt.configuration_opt import OPTConfig
    from transformers.models.opt.modeling_opt import OPTForCausalLM

    torch.manual_seed(2)
    config = OPTConfig(vocab_size=vocab, hidden_size=dim, word_embed_proj_dim=dim, num_hidden_layers=layers,
                       num_attention_heads=max(1, dim // 64), ffn_dim=inner, max_position_embeddings=positions,
                       bos_token_id=None, eos_token_id=None, pad_token_id=None)  # fmt: skip
    model = OPTForCausalLM(config).eval()
    _spread(model)
    return model


def fairseq_names(model: Any) -> dict[str, Tensor]:
    """Return the weights of an OPT under the names of fairseq and metaseq."""
    renamed = {"decoder.version": torch.ones(1)}
    for name, tensor in model.state_dict().items():
        plain = name.removeprefix("model.").replace("decoder.final_layer_norm", "decoder.layer_norm")
        renamed[plain.replace("lm_head", "decoder.output_projection")] = tensor
    return renamed


def _spread(model: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
