"""Frame labels for masked prediction: k-means on MFCC, or on a layer of an earlier encoder (Hsu et al. 2021, III-B)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import Artifact, current_digest
from syllablelm.core.errors import FormatError, InputError, check_fields
from syllablelm.core.progress import ProgressBar
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.load import load_encoder
from syllablelm.quantize import Codebook, fit_kmeans
from syllablelm.quantize.kmeans import Method
from syllablelm.segment.mel import mfcc
from syllablelm.train.batches import iterate_features, load_arrays, save_arrays
from syllablelm.train.stage import StageContext, StageRun, external_encoder

MOST_LABELS = 2**15 - 1
CENTRES_FILE = "centres.safetensors"


@dataclass(frozen=True)
class LabelsConfig:
    """Labels of one HuBERT iteration.

    Args:
        source: "mfcc" for iteration 1, "encoder" for a layer of the previous iteration.
        encoder: instead of that, another encoder: a hub id, folder or checkpoint file.
        layer: layer of the encoder.
        whiten: standardise every dimension over the corpus first.
        num_labels: number of clusters (100 in the paper's iteration 1, 500 in iteration 2).
        fit_frames: number of random frames to which k-means is fitted.
        kmeans: algorithm; "auto" depends on the size and on whether faiss is installed, so a recipe that must give
            the same labels everywhere names one.
    """

    source: Literal["mfcc", "encoder"] = "mfcc"
    encoder: str = ""
    layer: int = 6
    whiten: bool = False
    num_labels: int = 100
    fit_frames: int = 200_000
    kmeans: Method = "auto"

    def __post_init__(self) -> None:
        if self.encoder and self.source != "encoder":
            raise InputError(f'labels.encoder: source={self.source!r} reads no encoder; set source = "encoder"')
        check_fields(self, "layer fit_frames", least=1)
        check_fields(self, "num_labels", least=1, most=MOST_LABELS)


def make_labels(config: LabelsConfig, context: StageContext, out: Path, *, encoder: Artifact | None = None) -> Artifact:
    """Label every frame of a corpus; the artifact holds ``labels.safetensors`` (id -> int16 (T,)) and the centres."""
    if config.encoder:
        encoder = external_encoder(config.encoder)
    if (config.source == "encoder") != (encoder is not None):
        raise InputError(
            f"labels with source={config.source!r}: {'give' if encoder is None else 'do not give'} an encoder"
        )

    def work(run: StageRun) -> None:
        feats = _all_features(config, context, encoder)
        rng = np.random.default_rng(context.seed)
        total = sum(len(f) for f in feats.values())
        keep = min(1.0, config.fit_frames / max(total, 1))
        sample = np.concatenate([f[rng.random(len(f)) < keep] for f in feats.values()]).astype(np.float32)
        mean, scale = np.zeros(sample.shape[1], np.float32), np.ones(sample.shape[1], np.float32)
        if config.whiten:
            mean, scale = sample.mean(0), np.maximum(sample.std(0), np.float32(1e-4))
        options: dict[str, Any] = {"method": config.kmeans, "seed": context.seed, "device": pick_device(context.device)}
        centres = fit_kmeans((sample - mean) / scale, config.num_labels, **options)
        codebook = Codebook(centres, np.arange(len(centres), dtype=np.int32), standardize=False)
        labels = {
            context.manifest[i].id: codebook.assign((f.astype(np.float32) - mean) / scale).astype(np.int16)
            for i, f in feats.items()
        }
        counts = np.bincount(np.concatenate(list(labels.values())), minlength=config.num_labels)
        share = counts[counts > 0] / counts.sum()
        run.metrics["frames"] = int(counts.sum())
        run.metrics["label_entropy_bits"] = float(-(share * np.log2(share)).sum())
        save_arrays(run.folder / "labels.safetensors", labels)
        save_arrays(run.folder / CENTRES_FILE, {"centres": centres, "mean": mean, "scale": scale})

    parents = {"encoder": current_digest(encoder)} if encoder else {}
    return context.run("labels", out, config, parents, work, alone=True)


def _all_features(
    config: LabelsConfig, context: StageContext, encoder: Artifact | None
) -> dict[int, npt.NDArray[np.floating]]:
    store = context.store
    if encoder is not None:
        model = load_encoder(encoder.path, config.layer, device=context.device)
        # Half precision halves the memory of a corpus of features; k-means does not need more.
        return {i: f.astype(np.float16) for i, f in iterate_features(store, model, label="features")}
    feats: dict[int, npt.NDArray[np.floating]] = {}
    with ProgressBar("mfcc", len(store)) as bar:
        for index in range(len(store)):
            # Cepstral mean normalisation per recording takes out the channel; labels should not name speakers.
            frames = mfcc(store[index])
            feats[index] = ((frames - frames.mean(0)) / (frames.std(0) + 1e-5)).astype(np.float16)
            bar.advance()
    return feats


def read_labels(artifact: Artifact) -> dict[str, npt.NDArray[np.int16]]:
    """Read the labels of a labels artifact: {recording id: (T,)}."""
    return load_arrays(artifact.file("labels.safetensors"))


def read_centres(
    artifact: Artifact,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Read the k-means of a labels artifact: centres (K, D), and mean and scale (D,) of its features."""
    path = artifact.file(CENTRES_FILE)
    arrays = load_arrays(path)
    try:
        return arrays["centres"], arrays["mean"], arrays["scale"]
    except KeyError as error:
        raise FormatError(f"{path}: holds no {error}; make the labels again") from None
