"""Fuzzed readers of checkpoints of encoders and vocoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fuzz.registry import READERS, Make, Reader, sample


def _open_encoder(path: Path) -> None:
    from helpers.random_models import noise
    from syllablelm.encoders import load_encoder

    encoder = load_encoder(path, 2, device="cpu")
    features = encoder.encode([noise(8_000)])[0]
    assert features.ndim == 2 and len(features) and encoder.hop > 0


def _hub(family: str, **options: Any) -> Make:
    def make(folder: Path) -> Path:
        from helpers.random_encoders import make_model
        from syllablelm.encoders.quiet import quiet_transformers

        with quiet_transformers():
            make_model(family).save_pretrained(folder / "model", **options)
        return folder / "model"

    return make


READERS["encoder-hubert"] = Reader(_hub("hubert-group"), _open_encoder)
READERS["encoder-wavlm"] = Reader(_hub("wavlm-layer-stable"), _open_encoder)
READERS["encoder-whisper"] = Reader(_hub("whisper"), _open_encoder)
READERS["encoder-w2v-bert"] = Reader(_hub("w2v-bert"), _open_encoder)


@sample("encoder-bin", _open_encoder)
def _bin(folder: Path) -> Path:
    import torch
    from safetensors.torch import load_file

    path = _hub("hubert-layer")(folder)
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    return path


@sample("encoder-fairseq", _open_encoder)
def _fairseq(folder: Path) -> Path:
    import torch

    from helpers.fairseq_checkpoints import Shape, random_weights

    shape = Shape()
    torch.save({"model": random_weights(shape), "cfg": shape.config}, folder / "hubert.pt")
    return folder / "hubert.pt"


@sample("encoder-data2vec2", _open_encoder)
def _data2vec2(folder: Path) -> Path:
    from helpers.data2vec2_checkpoints import write_data2vec2

    return write_data2vec2(folder / "base.pt")


def _open_released(path: Path) -> None:
    from helpers.released_checkpoints import tones
    from syllablelm.tokenizer.tokenizer import Tokenizer

    assert Tokenizer.load(path, rule="released", device="cpu").encode(tones(8_000)).num_frames


@sample("checkpoint-released", _open_released)
def _released(folder: Path) -> Path:
    from helpers.released_checkpoints import write_triple

    return write_triple(folder)


def _open_hifigan(path: Path) -> None:
    from syllablelm.core.segmentation import Segmentation
    from syllablelm.vocoder.hifigan import HiFiGanVocoder

    vocoder = HiFiGanVocoder.load(path, device="cpu")
    units = Segmentation.from_boundaries(
        [0, 1, 2], unit=[3, 1], hop=vocoder.net.shape.hop, sample_rate=vocoder.sample_rate
    )
    assert np.isfinite(vocoder.decode(units)).all()


@sample("checkpoint-hifigan", _open_hifigan)
def _hifigan(folder: Path) -> Path:
    from helpers.published_hifigan import TINY, random_weights, write

    return write(folder / "hifigan", TINY, random_weights(TINY))
