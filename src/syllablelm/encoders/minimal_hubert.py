"""Checkpoints of minimal_hubert, torchaudio and SpidR: their names for weights that fairseq or transformers know.

minimal_hubert and SpidR keep the projections of query, key and value in one matrix. Both were trained on standardised
waveforms. SpidR (and DinoSR in its form) is the network of transformers' Data2Vec audio model; its student is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from syllablelm.core.errors import FormatError
from syllablelm.encoders.weights import build_without_memory, check_tensors, fill_network, unwrap_names

HEAD_DIM = 64
STRIDES = {
    (10, 3, 3, 3, 3, 2, 2): (5, 2, 2, 2, 2, 2, 2),
    (10, 3, 3, 3, 3, 2, 2, 2): (5, 2, 2, 2, 2, 2, 2, 2),
}
"""Strides of the published extractors by their kernels: 20 ms a frame, or 40 ms with one layer more."""

_FUSED = re.compile(r"(.*\.attention)\.qkv\.(weight|bias)")
_MINIMAL = re.compile(
    r"(encoder\.layers\.\d+\.attention\.qkv|(wav2vec2\.)?encoder\.transformer\.layers\.\d+\.attention)\."
)
_SPIDR = re.compile(r"student\.layers\.\d+\.attention\.qkv\.")
# To fairseq's names, applied in this order.
_TO_FAIRSEQ = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^wav2vec2\.", ""),
        (r"^mask_generator\.", ""),
        (r"^mask_embedding$", "mask_emb"),
        (r"^logit_generator\.label_embeddings$", "label_embs_concat"),
        (r"^logit_generator\.final_proj\.", "final_proj."),
        (r"^encoder\.transformer\.", "encoder."),
        (r"^(encoder\.)?feature_projection\.(0\.)?layer_norm\.", "layer_norm."),
        (r"^(encoder\.)?feature_projection\.(0\.)?projection\.", "post_extract_proj."),
        (r"^encoder\.pos_conv_embed\.conv(s\.0)?\.", "encoder.pos_conv.0."),
        (r"^(feature_extractor\.conv_layers\.\d+)\.conv\.", r"\1.0."),
        (r"^(encoder\.layers\.\d+)\.attention\.(out_)?proj\.", r"\1.self_attn.out_proj."),
        (r"^(encoder\.layers\.\d+)\.attention\.", r"\1.self_attn."),
        (r"^(encoder\.layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
        (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
        (r"\.feed_forward\.output_dense\.", ".fc2."),
    )
]
_EXTRACTOR_NORM = re.compile(r"^(feature_extractor\.conv_layers\.\d+)\.layer_norm\.")
_TEMPERATURE, _UNUSED = "logit_generator.logit_temp", ("feature_weight",)


def split_qkv(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with each matrix of query, key and value in three parts."""
    split: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if (found := _FUSED.fullmatch(name)) and tensor.ndim and len(tensor) % 3 == 0:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                split[f"{found[1]}.{part}_proj.{found[2]}"] = rows
        else:
            split[name] = tensor
    return split


def is_minimal_hubert(weights: Mapping[str, Any]) -> bool:
    """Whether weights have the names of minimal_hubert's or torchaudio's HuBERT."""
    return any(_MINIMAL.match(str(name)) for name in weights)


def to_fairseq(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights of minimal_hubert or torchaudio under fairseq's names, and what is known of their training."""
    fused = any(_FUSED.fullmatch(name) for name in weights)
    # Only minimal_hubert has a temperature in the file, and standardised waveforms in every size.
    settings: dict[str, Any] = {"normalize": True} if fused else {}
    layer_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in {
        name.removeprefix("wav2vec2.") for name in weights
    }
    named: dict[str, Tensor] = {}
    for name, tensor in split_qkv(weights).items():
        if name == _TEMPERATURE:
            settings["logit_temp"] = float(tensor) if tensor.numel() == 1 else None
        elif name not in _UNUSED:
            for pattern, new in _TO_FAIRSEQ:
                name = pattern.sub(new, name)
            named[_EXTRACTOR_NORM.sub(r"\1.2.1." if layer_norm else r"\1.2.", name)] = tensor
    norm = named.get("encoder.layer_norm.weight")
    if "mask_emb" not in named and norm is not None:
        # An encoder alone: features do not use the embedding.
        named["mask_emb"] = torch.zeros(norm.shape)
    return named, settings


def is_spidr(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint that was read holds a SpidR, or a DinoSR in its form."""
    return any(_SPIDR.search(str(name)) for name in _state(checkpoint))


def _state(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    model = checkpoint.get("model")
    return model if isinstance(model, Mapping) else checkpoint


def load_spidr(path: Path, checkpoint: Mapping[str, Any]) -> nn.Module:
    """Return the student of a SpidR checkpoint as a ``Data2VecAudioModel``; heads, codebooks and teacher are left out.

    Args:
        path, checkpoint: the file, for errors, and what ``read_checkpoint`` gave of it.

    Raises:
        FormatError: weights missing, or of other shapes; blocks with the norm before their parts are not supported.
    """
    from transformers.models.data2vec.configuration_data2vec_audio import Data2VecAudioConfig
    from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioModel

    state = unwrap_names(check_tensors(_state(checkpoint), path))
    weights: dict[str, Tensor] = {}
    for name, tensor in split_qkv(state).items():
        name = name.replace("student.pos_conv_embed.convs.", "encoder.pos_conv_embed.layers.")
        if name.startswith("encoder.pos_conv_embed."):
            name = re.sub(r"(layers\.\d+)\.", r"\1.conv.", name)
        name = name.replace("student.", "encoder.").replace(".attention.proj.", ".attention.out_proj.")
        name = "masked_spec_embed" if name == "mask_embedding" else name
        if name.startswith(("encoder.", "feature_extractor.", "feature_projection.", "masked_spec_embed")):
            weights[name] = tensor
    for name in [name for name in weights if re.search(r"\.[qkv]_proj\.weight$", name)]:
        # SpidR's projections have no biases.
        weights.setdefault(f"{name.removesuffix('weight')}bias", torch.zeros(len(weights[name])))

    def size(name: str, axis: int) -> int:
        tensor = weights.get(name)
        if tensor is None or tensor.ndim <= axis or tensor.shape[axis] < 1:
            raise FormatError(f"{path}: not a whole SpidR ({name} is missing); get the whole file")
        return tensor.shape[axis]

    def count(pattern: str) -> int:
        return len({found[1] for found in map(re.compile(pattern).match, weights) if found})

    convolutions = [
        f"feature_extractor.conv_layers.{i}.conv.weight" for i in range(count(r"feature_.*layers\.(\d+)\."))
    ]
    kernels, place = tuple(size(name, 2) for name in convolutions), "encoder.pos_conv_embed.layers.0.conv.weight"
    if kernels not in STRIDES:
        raise FormatError(f"{path}: the strides of its extractor cannot be told from its kernels {list(kernels)[:9]}")
    dim = size("encoder.layer_norm.weight", 0)

    def build() -> nn.Module:
        return Data2VecAudioModel(
            Data2VecAudioConfig(
                hidden_size=dim,
                num_hidden_layers=count(r"encoder\.layers\.(\d+)\."),
                num_attention_heads=max(1, dim // HEAD_DIM),
                intermediate_size=size("encoder.layers.0.feed_forward.intermediate_dense.bias", 0),
                conv_dim=tuple(size(name, 0) for name in convolutions),
                conv_kernel=kernels,
                conv_stride=STRIDES[kernels],
                conv_bias=f"{convolutions[0].removesuffix('weight')}bias" in weights,
                conv_pos_kernel_size=size(place, 2),
                num_conv_pos_embeddings=count(r"encoder\.pos_conv_embed\.layers\.(\d+)\."),
                num_conv_pos_embedding_groups=dim // size(place, 1),
                layerdrop=0.0,
            )
        )

    return fill_network(build_without_memory(build, path, len(state)), weights, path, "SpidR").eval()
