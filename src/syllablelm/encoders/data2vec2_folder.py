"""Data2Vec 2.0 encoders in folders: what an artifact of this package holds where transformers has no model class.

``config.json`` says {"model_type": "data2vec2", "layer", "normalize"}; ``model.safetensors`` holds the weights under
the names of the released files. No unpickling is needed to open it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from syllablelm.encoders.data2vec2 import PREFIX, Data2Vec2Encoder, from_state
from syllablelm.encoders.device import pick_device
from syllablelm.errors import FormatError

MODEL_TYPE = "data2vec2"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def is_data2vec2_folder(path: str | Path) -> bool:
    """Whether a folder's ``config.json`` names this family; False where there is none."""
    try:
        config = json.loads((Path(path) / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def save_data2vec2_folder(encoder: Data2Vec2Encoder, folder: str | Path) -> None:
    """Write the two files of an encoder into a folder that exists, all twelve blocks."""
    from safetensors.torch import save_file

    state = {PREFIX + name: weight.detach().float().cpu() for name, weight in encoder.model.state_dict().items()}
    save_file({name: weight.contiguous() for name, weight in state.items()}, Path(folder) / WEIGHTS_FILE)
    config = {"model_type": MODEL_TYPE, "layer": encoder.layer, "normalize": encoder.normalize}
    (Path(folder) / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_data2vec2_folder(
    folder: str | Path, layer: int | None = None, *, device: str | torch.device = "auto"
) -> Data2Vec2Encoder:
    """Open what `save_data2vec2_folder` wrote.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        layer: 1-based block whose output is the feature; None is the one that was saved.
        device: "auto", "cpu" or "cuda".

    Raises:
        FormatError: a file is missing or damaged; weights that are missing, unknown or of another shape.
        InputError: there is no such layer.
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
    model = from_state(state, str(weights_path))
    encoder = Data2Vec2Encoder(model, saved_layer if layer is None else layer, normalize=normalize)
    return encoder.to(pick_device(device))
