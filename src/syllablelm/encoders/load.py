"""Encoders of every origin, opened by name: hub ids, folders and checkpoint files; no code of theirs is run."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.models import CONFIG_FILE, find_model, read_model_config
from syllablelm.core.progress import note
from syllablelm.core.results import read_json
from syllablelm.encoders.checkpoint import read_checkpoint
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder, is_data2vec2_folder, load_data2vec2, load_data2vec2_folder
from syllablelm.encoders.device import Precision, check_precision, pick_device
from syllablelm.encoders.fairseq import FairseqHubert, is_fairseq_data2vec2, load_fairseq_data2vec2
from syllablelm.encoders.hub import PREPROCESSOR, HubEncoder
from syllablelm.encoders.minimal_hubert import is_minimal_hubert, is_spidr, load_spidr
from syllablelm.encoders.pretrained import load_pretrained, make_config
from syllablelm.encoders.w2vbert import W2vBertEncoder

# Model types with the modules and names of their configuration and model: transformers' top-level namespace is slow to
# fill.
_MODULES, _WHISPER = "transformers.models.", "syllablelm.encoders.whisper_network"
FAMILIES = {
    "hubert": ("hubert.configuration_hubert", "HubertConfig", "hubert.modeling_hubert", "HubertModel"),
    "wav2vec2": ("wav2vec2.configuration_wav2vec2", "Wav2Vec2Config", "wav2vec2.modeling_wav2vec2", "Wav2Vec2Model"),
    "data2vec-audio": (
        "data2vec.configuration_data2vec_audio",
        "Data2VecAudioConfig",
        "data2vec.modeling_data2vec_audio",
        "Data2VecAudioModel",
    ),
    "wavlm": ("wavlm.configuration_wavlm", "WavLMConfig", "wavlm.modeling_wavlm", "WavLMModel"),
    "wav2vec2-bert": (
        "wav2vec2_bert.configuration_wav2vec2_bert",
        "Wav2Vec2BertConfig",
        "wav2vec2_bert.modeling_wav2vec2_bert",
        "Wav2Vec2BertModel",
    ),
    # Ours: importing transformers takes longer than encoding a short recording.
    "whisper": (_WHISPER, "WhisperShape", _WHISPER, "WhisperModel"),
}
# Where transformers keeps the settings of a feature extractor: alone, or (since its version 5) inside a processor's.
_PROCESSOR, _NESTED = "processor_config.json", "feature_extractor"


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
        normalize: whether each waveform is standardised first; None does as the checkpoint says, or, if it does not,
            as is usual in its family, with a line on standard error.
        pad: zero samples put on both sides of each waveform; None does as the checkpoint says. The units of TWIST are
            those of ``load_encoder("slprl/mhubert-base-25hz", 11, normalize=False, pad=40)``.
        revision: branch, tag or commit of a hub id.

    Raises:
        FormatError: no such model, a damaged one, or one of an unsupported family.
        InputError: no such layer, device or precision, or an option that this family does not have.
    """
    place = pick_device(device)
    check_precision(precision, place)
    path = find_model(name, revision)
    if path.is_file():
        encoder = _open_file(path, layer, place)
    elif is_data2vec2_folder(path):
        encoder = load_data2vec2_folder(path, layer, device=place)
    else:
        try:
            encoder = _open_folder(path, layer, normalize)
        except (FormatError, InputError) as error:
            # Those of the encoders themselves do not know the folder.
            raise type(error)(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    _set_options(encoder, str(name), normalize, pad)
    encoder.precision = precision
    return encoder.to(place)


def _open_file(path: Path, layer: int | None, device: torch.device) -> HubEncoder | Data2Vec2Encoder:
    checkpoint = read_checkpoint(path)
    if "model_seg" in checkpoint:
        return load_data2vec2(path, layer, device=device)
    if is_fairseq_data2vec2(checkpoint):
        return load_fairseq_data2vec2(path, checkpoint, layer, device=device)
    if is_spidr(checkpoint):
        return HubEncoder(load_spidr(path, checkpoint), layer, normalize=True)
    if "model" in checkpoint or is_minimal_hubert(checkpoint):
        hubert = FairseqHubert.read(path)
        return HubEncoder(hubert.model(), layer, normalize=hubert.normalize)
    raise FormatError(
        f"{path}: holds neither a HuBERT or Data2Vec 2.0 of fairseq nor a released SyllableLM encoder (no weights "
        'under "model" or "model_seg")'
    )


def _open_folder(folder: Path, layer: int | None, normalize: bool | None) -> HubEncoder:
    model: Any = load_model(folder)
    settings = read_preprocessor(folder)
    if layer is None:
        # Set where this package saved the encoder: all of its layers, but layer 0.
        layer = settings.get("layer")
    if model.config.model_type == "wav2vec2-bert":
        return W2vBertEncoder(model, layer)
    if model.config.model_type == "whisper":
        from syllablelm.encoders.whisper import WhisperEncoder

        return WhisperEncoder(model, layer, normalize=settings.get("normalize_level", False))
    if normalize is None and (normalize := settings.get("do_normalize")) is None:
        normalize = _usual_normalize(model.config)
        said = f"the encoder's usual do_normalize {str(normalize).lower()} is taken; set it with normalize="
        note(f"{folder}: neither {PREPROCESSOR} nor {_PROCESSOR} says whether waveforms are standardised: {said}")
    return HubEncoder(model, layer, normalize=bool(normalize), pad=settings.get("pad", 0))


def _usual_normalize(config: Any) -> bool:
    """Whether models of this kind were trained on standardised waveforms: those with an extractor of layer norms.

    fairseq's recipes of HuBERT, wav2vec 2.0, WavLM and the like ask for both or for neither; data2vec has layer norms.
    """
    return getattr(config, "feat_extract_norm", "layer") == "layer"


def load_model(folder: Path) -> nn.Module:
    """Open a Hugging Face speech model in a folder, checking that every weight was there.

    Raises:
        FormatError: nothing loadable there, an unsupported family, or missing or damaged weights.
    """
    path = folder / CONFIG_FILE
    table = read_model_config(folder)
    family = table["model_type"]
    if family not in FAMILIES:
        raise FormatError(f"{path}: model type {family[:40]!r} is not supported; use one of {', '.join(FAMILIES)}")
    config_module, config_name, module, name = FAMILIES[family]
    config_class, model_class = (
        getattr(importlib.import_module(module if module == _WHISPER else _MODULES + module), name)
        for module, name in ((config_module, config_name), (module, name))
    )
    config = make_config(table, config_class, path)
    # Fine-tuned checkpoints may lack the mask embedding, which features do not use.
    return load_pretrained(folder, model_class, config, optional=("masked_spec_embed",))


def read_preprocessor(folder: Path) -> dict[str, Any]:
    """Return what ``preprocessor_config.json`` or ``processor_config.json`` of a checkpoint say; {} without either.

    The settings in a processor's file count before the others, as in transformers.
    """
    found: dict[str, Any] = {}
    for name in (PREPROCESSOR, _PROCESSOR):
        path = folder / name
        if path.is_file():
            table = read_json(path)
            if name == _PROCESSOR:
                table = table.get(_NESTED, {})
            _check_preprocessor(table, path)
            found |= table
    return found


def _check_preprocessor(table: Any, path: Path) -> None:
    if not isinstance(table, dict):
        raise FormatError(f"{path}: not a preprocessor description in JSON ({_NESTED} is no table)")
    if table.get("sampling_rate", HubEncoder.sample_rate) != HubEncoder.sample_rate:
        rate = str(table["sampling_rate"])[:40]
        raise FormatError(f"{path}: sampling_rate {rate}; only encoders of {HubEncoder.sample_rate} Hz are supported")
    for name, kind, noun in (
        ("pad", int, "a whole number from 0"),
        ("layer", int, "a whole number from 0"),
        ("do_normalize", bool, "true or false"),
        ("normalize_level", bool, "true or false"),
    ):
        value = table.get(name, kind())
        if type(value) is not kind or value < 0:
            raise FormatError(
                f"{path}: not a preprocessor description in JSON ({name} {str(value)[:40]!r}: {noun} is needed)"
            )


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
