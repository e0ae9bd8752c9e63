"""Acoustic units as a stage: k-means of frames, or published centres and encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from syllablelm.core.artifact import Artifact, digest_path
from syllablelm.core.errors import InputError
from syllablelm.core.models import find_model
from syllablelm.data.corpus import Manifest
from syllablelm.encoders.base import FrameEncoder
from syllablelm.encoders.load import load_encoder
from syllablelm.quantize import fit_kmeans
from syllablelm.quantize.centres import read_codebook
from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE, Tokenizer
from syllablelm.train.batches import WaveformStore
from syllablelm.train.features import iterate_features
from syllablelm.train.stage import StageRun, external_encoder, manifest_digest, run_stage
from syllablelm.vocoder.acoustic import ACOUSTIC_FILE, Source, acoustic_encoder, frame_units, open_acoustic


@dataclass(frozen=True)
class AcousticConfig:
    """Acoustic units: clusters of frames.

    Args:
        source: "encoder" for a layer of an encoder, "mfcc" for cepstra standardised over the clip.
        encoder: encoder for ``load_encoder`` (default: that of the syllable tokenizer).
        layer: layer of the encoder, from 1.
        normalize, pad: options of ``load_encoder`` (default: the checkpoint's).
        centres: .npy or .safetensors file of centres (units, dim) (default: fit them).
        units: number of clusters.
        frames: maximum number of frames to which k-means is fitted, evenly spaced.
        kmeans: k-means algorithm.

    Raises:
        InputError: options of an encoder without an encoder.
    """

    source: Source = "encoder"
    encoder: str | None = None
    layer: int = 1
    normalize: bool | None = None
    pad: int | None = None
    centres: str | None = None
    units: int = 200
    frames: int = 200_000
    kmeans: Literal["auto", "minibatch", "lloyd", "faiss"] = "minibatch"

    def __post_init__(self) -> None:
        if self.source == "mfcc" and self.encoder is not None:
            raise InputError('acoustic.encoder: cepstra need none; leave it out, or set source = "encoder"')
        if self.encoder is None and (self.normalize is not None or self.pad is not None):
            raise InputError("acoustic.normalize and acoustic.pad: belong to acoustic.encoder, which is not given")


def fit_acoustic(
    config: AcousticConfig,
    manifest: Manifest,
    tokenizer: Tokenizer,
    name: str,
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
) -> Artifact:
    """Fit the centres of the acoustic units to frames of a corpus, or copy given ones.

    Args:
        config: acoustic units.
        manifest: corpus.
        tokenizer, name: syllable tokenizer and its name; its encoder is used unless ``config`` names one.
        out: output folder.
        seed: random seed.
        device: "auto", "cpu" or "cuda".

    Raises:
        FormatError: an encoder or centres that cannot be read.
        InputError: centres of another number or dimension than those of ``config`` and the encoder.
    """
    parents = {"tokenizer": tokenizer.digest}
    if config.centres is None:
        parents["corpus"] = manifest_digest(manifest)
    else:
        parents["centres"] = digest_path(config.centres)
    if config.encoder is not None:
        parents["encoder"] = external_encoder(config.encoder).digest

    def work(run: StageRun) -> None:
        encoder = _open_encoder(config, name, device)
        if config.centres is None:
            share = max(1, round(manifest.total_seconds * encoder.sample_rate / encoder.hop / config.frames))
            store = WaveformStore(manifest, budget_bytes=0)
            frames = [feats[i % share :: share] for i, feats in iterate_features(store, encoder, label="acoustic")]
            centres = fit_kmeans(np.concatenate(frames), config.units, method=config.kmeans, seed=seed)
            run.metrics["frames"] = sum(len(rows) for rows in frames)
        else:
            centres = read_codebook(config.centres).centres
            if len(centres) != config.units:
                raise InputError(f"{config.centres}: {len(centres)} centres, but acoustic.units is {config.units}")
        metadata = {"source": config.source, "layer": str(config.layer)}
        save_file({"centres": centres}, run.folder / ACOUSTIC_FILE, metadata=metadata)
        if config.encoder is not None:
            frame_units(encoder, run.folder / ACOUSTIC_FILE, "").write_payload(run.folder)

    return run_stage("acoustic", out, config=config, seed=seed, parents=parents, work=work, device=device, alone=True)


def acoustic_tokenizer(config: AcousticConfig, artifact: Artifact, name: str, *, device: str = "auto") -> Tokenizer:
    """Return the tokenizer of the units that ``fit_acoustic`` made."""
    if (artifact.path / CODEBOOK_FILE).exists():
        return open_acoustic(artifact.path, device=device)
    path = artifact.file(ACOUSTIC_FILE)
    return frame_units(_open_encoder(config, name, device), path, digest_path(path))


def _open_encoder(config: AcousticConfig, name: str, device: str) -> FrameEncoder:
    if config.encoder is None:
        return acoustic_encoder(find_model(name), config.source, config.layer, device=device)
    options: Any = {"device": device, "normalize": config.normalize, "pad": config.pad}
    return load_encoder(config.encoder, config.layer, **options)
