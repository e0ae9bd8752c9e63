"""Encoders of every origin, opened by name: hub ids, folders and checkpoint files; no code of theirs is run."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.models import HubModel, resolve_model
from syllablelm.encoders.checkpoint import read_checkpoint
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder, is_data2vec2_folder, load_data2vec2, load_data2vec2_folder
from syllablelm.encoders.device import Precision, check_precision, pick_device
from syllablelm.encoders.fairseq import FairseqHubert, is_fairseq_data2vec2, load_fairseq_data2vec2
from syllablelm.encoders.hub import PREPROCESSOR, HubEncoder
from syllablelm.encoders.quiet import quiet_transformers
from syllablelm.encoders.w2vbert import W2vBertEncoder

# Model types and their classes, imported from their own modules: transformers' top-level namespace is slow to fill.
FAMILIES = {
    "hubert": ("transformers.models.hubert.modeling_hubert", "HubertModel"),
    "wav2vec2": ("transformers.models.wav2vec2.modeling_wav2vec2", "Wav2Vec2Model"),
    "data2vec-audio": ("transformers.models.data2vec.modeling_data2vec_audio", "Data2VecAudioModel"),
    "wavlm": ("transformers.models.wavlm.modeling_wavlm", "WavLMModel"),
    "wav2vec2-bert": ("transformers.models.wav2vec2_bert.modeling_wav2vec2_bert", "Wav2Vec2BertModel"),
    "whisper": ("syllablelm.encoders.whisper", "WhisperModel"),
}


def load_encoder(
    name: str | Path,
    layer: int | None = None,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "float32",
    normalize: bool | None = None,
    pad: int | None = None,
    revision: str | None = None,
) -> HubEncoder | Data2Vec2Encoder:
    """Load an encoder.

    Args:
        name: Hugging Face id ("facebook/hubert-base-ls960"), a folder that ``transformers`` opens, an encoder or
            tokenizer artifact of this package, a bundled name ("small"), or a checkpoint file: fairseq's HuBERT
            (``hubert_base_ls960.pt``) or Data2Vec 2.0 (``base_libri.pt``), or a released SyllableLM encoder.
        layer: 1-based layer whose output is the feature; None is the one that this package saved, else the last (of
            Data2Vec 2.0 the 11th, of Whisper the state after the final norm).
        device: "auto", "cpu" or "cuda".
        precision: data type of matrix products: "float32", "bfloat16" or, on a GPU, "float16".
        normalize: whether each waveform is standardised first; None does as the checkpoint says.
        pad: zero samples put on both sides of each waveform; None does as the checkpoint says. The units of TWIST are
            those of ``load_encoder("slprl/mhubert-base-25hz", 11, normalize=False, pad=40)``.
        revision: branch, tag or commit of a hub id.

    Raises:
        FormatError: no such model, a damaged one, or one of an unsupported family.
        InputError: no such layer, device or precision, or an option that this family does not have.
    """
    place = pick_device(device)
    check_precision(precision, place)
    found = resolve_model(name, revision)
    if isinstance(found, HubModel):
        encoder = _open_hub(found.id, layer, found.revision)
    elif (path := found).is_file():
        checkpoint = read_checkpoint(path)
        if "model_seg" in checkpoint:
            encoder = load_data2vec2(path, layer, device=place)
        elif is_fairseq_data2vec2(checkpoint):
            encoder = load_fairseq_data2vec2(path, checkpoint, layer, device=place)
        elif "model" in checkpoint:
            hubert = FairseqHubert.read(path)
            encoder = HubEncoder(hubert.model(), layer, normalize=hubert.normalize)
        else:
            raise FormatError(
                f"{path}: holds neither a HuBERT or Data2Vec 2.0 of fairseq nor a released SyllableLM encoder (no "
                'weights under "model" or "model_seg")'
            )
    elif is_data2vec2_folder(path):
        encoder = load_data2vec2_folder(path, layer, device=place)
    else:
        try:
            encoder = _open_hub(str(path), layer)
        except FormatError as error:
            # Those of the encoders themselves do not know the folder.
            raise FormatError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    _set_options(encoder, str(name), normalize, pad)
    encoder.precision = precision
    return encoder.to(place)


def _open_hub(source: str, layer: int | None, revision: str | None = None) -> HubEncoder:
    model: Any = load_model(source, revision)
    settings = read_preprocessor(source, revision)
    if layer is None:
        # Set where this package saved the encoder: all of its layers, but layer 0.
        layer = settings.get("layer")
    if model.config.model_type == "wav2vec2-bert":
        return W2vBertEncoder(model, layer)
    if model.config.model_type == "whisper":
        from syllablelm.encoders.whisper import WhisperEncoder

        return WhisperEncoder(model, layer, normalize=bool(settings.get("normalize_level", False)))
    return HubEncoder(
        model, layer, normalize=bool(settings.get("do_normalize", False)), pad=int(settings.get("pad", 0))
    )


def load_model(source: str, revision: str | None = None) -> nn.Module:
    """Open a Hugging Face speech model, a folder or hub id, checking that every weight was there.

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
    """What ``preprocessor_config.json`` of a checkpoint says; {} where there is none."""
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


def _set_options(encoder: HubEncoder | Data2Vec2Encoder, name: str, normalize: bool | None, pad: int | None) -> None:
    if normalize is not None:
        if isinstance(encoder, W2vBertEncoder):
            raise InputError(f"{name}: w2v-BERT standardises its spectra, not waveforms; leave normalize out")
        encoder.normalize = normalize
    if pad is not None:
        if not isinstance(encoder, HubEncoder) or not encoder.takes_pad:
            raise InputError(f"{name}: this family takes no pad")
        encoder.set_pad(pad)


def weights_digest(encoder: nn.Module) -> str:
    """SHA-256 of an encoder's weights as float16, by name: the same for copies in float16 and in float32.

    Tables of fixed positions (Whisper's sinusoids) and mask embeddings are left out: copies differ in whether they hold
    them.
    """
    hasher = hashlib.sha256()
    for name, weight in sorted(encoder.state_dict().items()):
        if name.endswith(("embed_positions.weight", "masked_spec_embed")):
            continue
        hasher.update(name.encode())
        hasher.update(np.ascontiguousarray(weight.detach().cpu().to(torch.float16).numpy()).tobytes())
    return hasher.hexdigest()
