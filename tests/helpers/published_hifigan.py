"""Checkpoints of unit HiFi-GANs in the layout in which others publish them, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# As facebookresearch/speech-resynthesis publishes it (hubert100_dw1.0.json), settings of the training among it.
PUBLISHED: dict[str, Any] = {
    "resblock": "1",
    "batch_size": 16,
    "upsample_rates": [5, 4, 4, 2, 2],
    "upsample_kernel_sizes": [11, 8, 8, 4, 4],
    "upsample_initial_channel": 512,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "num_embeddings": 100,
    "embedding_dim": 128,
    "model_in_dim": 128,
    "code_hop_size": 320,
    "f0": False,
    "dur_prediction_weight": 1.0,
    "dur_predictor_params": {
        "encoder_embed_dim": 128,
        "var_pred_hidden_dim": 128,
        "var_pred_kernel_size": 3,
        "var_pred_dropout": 0.5,
    },
    "sampling_rate": 16000,
    "fmax_for_loss": None,
    "dist_config": {"dist_backend": "nccl"},
}
# That of 25 units a second, twice as many samples for each; names in the checkpoint are those of textlesslib's
# CodeGenerator, which reads upsample_rates and never code_hop_size.
LJ_25HZ: dict[str, Any] = {
    **PUBLISHED,
    "upsample_rates": [5, 4, 4, 4, 2],
    "upsample_kernel_sizes": [11, 8, 8, 8, 4],
    "num_embeddings": 500,
    "multispkr": None,
    "code_hop_size": 320,
}
# The same kind, small, at 25 Hz as TWIST's: 640 samples for each unit.
TINY: dict[str, Any] = {
    **PUBLISHED,
    "upsample_rates": [16, 10, 4],
    "upsample_kernel_sizes": [20, 16, 8],
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 2]],
    "num_embeddings": 7,
    "embedding_dim": 6,
    "model_in_dim": 6,
    "code_hop_size": 640,
    "dur_predictor_params": {**PUBLISHED["dur_predictor_params"], "encoder_embed_dim": 6, "var_pred_hidden_dim": 5},
}


def published_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a generator's checkpoint, weight norm in two tensors."""
    shapes: dict[str, tuple[int, ...]] = {}

    def normed(name: str, *size: int) -> None:
        bias = size[1] if name.startswith("ups.") else size[0]
        shapes.update({f"{name}.bias": (bias,), f"{name}.weight_g": (size[0], 1, 1), f"{name}.weight_v": size})

    dim, inner = config["upsample_initial_channel"], config["dur_predictor_params"]["var_pred_hidden_dim"]
    shapes["dict.weight"] = (config["num_embeddings"], config["embedding_dim"])
    normed("conv_pre", dim, config["model_in_dim"], 7)
    number = 0
    for stage, kernel in enumerate(config["upsample_kernel_sizes"]):
        normed(f"ups.{stage}", dim, dim // 2, kernel)
        dim //= 2
        for size, dilations in zip(config["resblock_kernel_sizes"], config["resblock_dilation_sizes"], strict=True):
            for i in range(len(dilations)):
                for part in ("convs1", "convs2") if config["resblock"] == "1" else ("convs",):
                    normed(f"resblocks.{number}.{part}.{i}", dim, dim, size)
            number += 1
    normed("conv_post", 1, dim, 7)
    for i, width in ((1, config["embedding_dim"]), (2, inner)):
        shapes[f"dur_predictor.conv{i}.0.weight"] = (inner, width, 3)
        shapes |= {f"dur_predictor.{name}": (inner,) for name in (f"conv{i}.0.bias", f"ln{i}.weight", f"ln{i}.bias")}
    return shapes | {"dur_predictor.proj.weight": (1, inner), "dur_predictor.proj.bias": (1,)}


def random_weights(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of these names and shapes, large enough that every part is heard."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, size in published_shapes(config).items():
        weights[name] = torch.randn(size, generator=generator) * (0.1 if name.endswith("bias") else 1.0)
        if name.endswith("weight_g"):
            weights[name] = weights[name].abs() + 0.3
    return weights


def write(folder: Path, config: dict[str, Any], weights: Any, name: str = "g_00500000") -> Path:
    """A checkpoint file beside its ``config.json``; returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({"generator": weights}, folder / name)
    return folder
