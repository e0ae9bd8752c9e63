"""Opening folders and hub ids of Hugging Face speech models: weights checked, no code of theirs run."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from syllablelm.core.errors import FormatError
from syllablelm.encoders.hub import PREPROCESSOR
from syllablelm.encoders.quiet import quiet_transformers

# Model types and their classes, imported from their own modules: transformers' top-level namespace is slow to fill.
FAMILIES = {
    "hubert": ("transformers.models.hubert.modeling_hubert", "HubertModel"),
    "wav2vec2": ("transformers.models.wav2vec2.modeling_wav2vec2", "Wav2Vec2Model"),
    "data2vec-audio": ("transformers.models.data2vec.modeling_data2vec_audio", "Data2VecAudioModel"),
    "wavlm": ("transformers.models.wavlm.modeling_wavlm", "WavLMModel"),
    "wav2vec2-bert": ("transformers.models.wav2vec2_bert.modeling_wav2vec2_bert", "Wav2Vec2BertModel"),
    "whisper": ("syllablelm.encoders.whisper", "WhisperModel"),
}


def load_model(source: str, revision: str | None = None) -> nn.Module:
    """Open a Hugging Face speech model, checking that every weight was there.

    Args:
        source: folder or hub id.
        revision: branch, tag or commit of a hub id.

    Raises:
        FormatError: nothing loadable there, an unsupported family, or missing or damaged weights.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers.models.auto.configuration_auto import AutoConfig

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source, revision=revision or "main", trust_remote_code=False)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise FormatError(
            f"{source}: not a folder or hub id that transformers can open ({first_line(error)})"
        ) from None
    if config.model_type not in FAMILIES:
        raise FormatError(
            f"{source}: model type {config.model_type!r} is not supported; use one of {', '.join(FAMILIES)}"
        )
    module, name = FAMILIES[config.model_type]
    model_class = getattr(importlib.import_module(module), name)
    try:
        with quiet_transformers():
            # Half-precision files are computed with in float32; code in a model's folder is never run.
            loaded: Any = model_class.from_pretrained(
                source,
                revision=revision or "main",
                output_loading_info=True,
                dtype=torch.float32,
                trust_remote_code=False,
            )
            model, report = loaded
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = first_line(error)
        if "mismatch" in str(error):
            reason = "they are of other shapes than config.json says"
        raise FormatError(f"{source}: its weights cannot be read ({reason})") from None
    # transformers fills gaps with random weights. Fine-tuned checkpoints may lack the mask embedding, which features
    # do not use.
    missing = sorted(name for name in report["missing_keys"] if name != "masked_spec_embed")
    if missing:
        raise FormatError(f"{source}: {len(missing)} weights are missing ({missing[0]}, ...); get the whole checkpoint")
    return model


def first_line(error: Exception) -> str:
    """What another library's error says, short enough for a one-line message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_preprocessor(source: str, revision: str | None = None) -> dict[str, Any]:
    """What ``preprocessor_config.json`` of a checkpoint says; {} where there is none.

    Raises:
        FormatError: a damaged one.
    """
    from transformers.utils.hub import cached_file

    with quiet_transformers():
        path = cached_file(source, PREPROCESSOR, revision=revision, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        for name in ("pad", "layer"):
            value = found.get(name, 0)
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} {value!r}")
    except (ValueError, AttributeError) as error:
        raise FormatError(f"{path}: not a preprocessor description in JSON ({first_line(error)})") from None
    return found
