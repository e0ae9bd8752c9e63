"""Encoders of every origin, opened by name: hub ids, folders and checkpoint files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.models import HubModel, resolve_model
from syllablelm.encoders.checkpoint import read_checkpoint
from syllablelm.encoders.data2vec2 import Data2Vec2Encoder, is_data2vec2_folder, load_data2vec2, load_data2vec2_folder
from syllablelm.encoders.data2vec2_fairseq import is_fairseq_data2vec2, load_fairseq_data2vec2
from syllablelm.encoders.device import Precision, check_precision, pick_device
from syllablelm.encoders.fairseq import FairseqHubert
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.hub_files import load_model, read_preprocessor
from syllablelm.encoders.w2vbert import W2vBertEncoder


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
            (``hubert_base_ls960.pt``) or Data2Vec 2.0 (``base_libri.pt``), or a released SyllableLM encoder
            (``SylBoost_833Hz.pth``).
        layer: 1-based layer whose output is the feature; None is the one that this package saved, else the last (of
            Data2Vec 2.0 the 11th, of Whisper the state after the final norm).
        device: "auto", "cpu" or "cuda".
        precision: what matrices are multiplied in when clips are encoded: "float32", "bfloat16" or, on a GPU,
            "float16".
        normalize: whether each waveform is standardised first; None does as the checkpoint says.
        pad: zero samples put on both sides of each waveform; None does as the checkpoint says, which is none unless
            this package saved it. The units of TWIST are those of
            ``load_encoder("slprl/mhubert-base-25hz", 11, normalize=False, pad=40)``.
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
