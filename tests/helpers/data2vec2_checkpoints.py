"""Random Data2Vec 2.0 speech checkpoints in fairseq's own layout, as ``base_libri.pt`` has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.released_checkpoints import random_weights

# What the configuration in the file says of task and model, as far as a reader may care.
TASK: dict[str, Any] = {"_name": "audio_pretraining", "normalize": True, "sample_rate": 16_000}
MODEL: dict[str, Any] = {
    "_name": "data2vec_multi",
    "depth": 8,
    "num_heads": 12,
    "norm_eps": 1e-5,
    "layer_norm_first": False,
    "modalities": {"_name": None, "audio": {"prenet_depth": 4, "learned_alibi_scale_per_head": True}},
}


def fairseq_weights(weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Weights of a released file under fairseq's own names, with the table of the teacher's averages."""
    weights = random_weights() if weights is None else weights
    plain: dict[str, Any] = {name.removeprefix("model."): weight for name, weight in weights.items()}
    averages = {name: weight + 1.0 for name, weight in plain.items() if ".decoder." not in name}
    return {**plain, "_ema": averages}


def write_data2vec2(
    path: Path, weights: Mapping[str, Any] | None = None, *, config: Mapping[str, Any] | None = None
) -> Path:
    """Write a checkpoint as fairseq's trainer does.

    Args:
        weights: under fairseq's names; None is a random model of small dimensions.
        config: of task and model; None is that of the published pre-training.
    """
    checkpoint = {
        "args": None,
        "cfg": {"task": TASK, "model": MODEL} if config is None else dict(config),
        "model": fairseq_weights() if weights is None else dict(weights),
        "criterion": None,
        "optimizer_history": [{"num_updates": 400_000}],
        "task_state": {},
        "extra_state": {"epoch": 1},
        "last_optimizer_state": None,
    }
    torch.save(checkpoint, path)
    return path
