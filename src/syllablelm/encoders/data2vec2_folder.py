"""Data2Vec 2.0 encoders in folders: what an artifact of this package holds where transformers has no model class.

``config.json`` holds {"model_type": "data2vec2", "layer", "normalize"}; ``model.safetensors`` holds the weights in
float32 or float16 under the names of the released files. `Data2Vec2Encoder.save` writes both; nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from syllablelm.core.errors import FormatError, InputError
from syllablelm.encoders.data2vec2 import CONFIG_FILE, MODEL_TYPE, WEIGHTS_FILE, Data2Vec2Encoder, from_state
from syllablelm.encoders.device import pick_device


def is_data2vec2_folder(path: str | Path) -> bool:
    """Whether a folder's ``config.json`` names this family; False where there is none."""
    try:
        config = json.loads((Path(path) / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def load_data2vec2_folder(
    folder: str | Path, layer: int | None = None, *, device: str | torch.device = "auto"
) -> Data2Vec2Encoder:
    """Open what `Data2Vec2Encoder.save` wrote.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        layer: 1-based block whose output is the feature; None is the one that was saved.
        device: "auto", "cpu" or "cuda".

    Raises:
        FormatError: a file is missing or damaged; weights that are missing, unknown or of another shape.
        InputError: there is no such layer, or it lies above the one that was saved.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config_path, weights_path = Path(folder) / CONFIG_FILE, Path(folder) / WEIGHTS_FILE
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        saved_layer, normalize = config["layer"], config["normalize"]
        if type(saved_layer) is not int or type(normalize) is not bool:
            raise ValueError("layer must be an integer and normalize true or false")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{config_path}: not a description of a Data2Vec 2.0 encoder ({error})") from None
    try:
        state = load_file(weights_path)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{weights_path}: not a readable safetensors file ({error})") from None
    if layer is not None and layer > saved_layer:
        # A student learned up to its layer; the blocks above it were the teacher's.
        raise InputError(f"layer {layer}: {folder} was saved for layer {saved_layer}; take that one or one below it")
    model = from_state(state, str(weights_path))
    encoder = Data2Vec2Encoder(model, saved_layer if layer is None else layer, normalize=normalize)
    return encoder.to(pick_device(device))
