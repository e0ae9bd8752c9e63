"""Data2Vec 2.0 speech checkpoints of fairseq (``base_libri.pt``), opened without fairseq.

The file holds the weights of its ``data2vec_multi`` model under "model", with those of pre-training among them: the
decoder, and under "_ema" a whole table of the teacher's running averages. Dimensions are read from the weights. The
configuration in the file, where there is one, says whether waveforms are standardised, and must agree with what the
weights do not show: the number of heads, post-norm blocks, the epsilon of the norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from syllablelm.core.errors import FormatError
from syllablelm.encoders.data2vec2 import AUDIO, UNUSED, Data2Vec2Encoder, from_state
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.fairseq import read_settings

WEIGHTS_KEY = "model"
# Where a model that was fine-tuned to transcribe keeps the encoder, and what lies beside it.
FINE_TUNED, TRANSCRIPTION = "w2v_encoder.w2v_model.", "w2v_encoder.proj."


def is_fairseq_data2vec2(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint that was read holds a Data2Vec 2.0 speech model of fairseq."""
    weights = checkpoint.get(WEIGHTS_KEY)
    return isinstance(weights, Mapping) and any(AUDIO in str(name) for name in weights)


def load_fairseq_data2vec2(
    path: str | Path, checkpoint: Mapping[str, Any], layer: int | None = None, *, device: str | torch.device = "auto"
) -> Data2Vec2Encoder:
    """Build the encoder of a fairseq checkpoint.

    Args:
        path: the file, for errors.
        checkpoint: what `read_checkpoint` gave of it.
        layer: 1-based block whose output is the feature; None is the 11th of 12.
        device: "auto", "cpu" or "cuda".

    Returns:
        the encoder; waveforms are standardised as ``task.normalize`` in the file says, and where it says nothing, as
        in the published pre-training.

    Raises:
        FormatError: weights that are missing, unknown or of another shape, or a configuration of another model.
        InputError: there is no such layer.
    """
    if not is_fairseq_data2vec2(checkpoint):
        raise FormatError(f'{path}: not a Data2Vec 2.0 speech model of fairseq (no weights of {AUDIO}* under "model")')
    weights = {str(name): weight for name, weight in checkpoint[WEIGHTS_KEY].items()}
    prefix = FINE_TUNED if any(name.startswith(FINE_TUNED) for name in weights) else ""
    # The averages are a table, not a tensor.
    left_out = (TRANSCRIPTION, *(prefix + name for name in UNUSED))
    state = {name: weight for name, weight in weights.items() if not name.startswith(left_out)}
    for name, weight in state.items():
        if not isinstance(weight, Tensor):
            raise FormatError(f"{path}: {name} is a {type(weight).__name__}, not a tensor; get the whole file")
    scale = state.get(f"{prefix}{AUDIO}alibi_scale")
    if scale is not None and scale.ndim == 4:
        # Before fairseq knew scales of single layers.
        state[f"{prefix}{AUDIO}alibi_scale"] = scale[None]
    model = from_state(state, str(path), prefix)
    settings = read_settings(checkpoint)
    for name, needed in (("num_heads", model.shape.heads), ("layer_norm_first", False), ("norm_eps", 1e-5)):
        given = settings.get(name, needed)
        if given != needed:
            raise FormatError(f"{path}: its configuration has {name} = {given!r} where {needed!r} is expected")
    normalize = settings.get("normalize")
    encoder = Data2Vec2Encoder(model, layer, normalize=normalize if isinstance(normalize, bool) else True)
    return encoder.to(pick_device(device))
