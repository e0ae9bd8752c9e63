"""Boundaries of a whole corpus: the first ones (LossPred, envelope, similarity or both combined) and later rounds'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import Artifact
from syllablelm.core.errors import InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.data.corpus import Manifest
from syllablelm.encoders.load import load_encoder
from syllablelm.encoders.masked_prediction import MaskedPredictor
from syllablelm.segment.registry import Segmenter, make_segmenter, speech_only
from syllablelm.train.batches import WaveformStore
from syllablelm.train.features import check_max_frames, load_arrays, save_arrays
from syllablelm.train.stage import StageRun, manifest_digest, run_stage

Boundaries = npt.NDArray[np.int32]
WITHOUT_ENCODER = ("envelope", "strength")
WITH_HEAD = ("losspred", "combined")
# Read from the last round's student once there is one.
FROM_STUDENT = ("minsum", "peaks", "refined")


@dataclass(frozen=True)
class BoundariesConfig:
    """Where the groups of a SylBoost round come from.

    Args:
        source: "losspred" (MinCut on the loss-prediction matrix), "similarity" (MinCut on the features' similarity),
            "envelope" (valleys of the amplitude envelope), "strength" (peaks of the acoustic score), "combined"
            (LossPred and the acoustic score), or of the last round's features at ``layer``: "minsum" (as in the paper),
            "peaks" (where they change most), "refined" (that and the acoustic score).
        rate: groups per second; k = round(rate x seconds).
        layer: of the encoder, for "similarity" and "minsum".
        span, gap: of LossPred, in frames.
        max_length: longest group, in frames.
        vad: voice activity detection before the cut; only speech is segmented, and pauses become groups.
        encoder: model that the boundaries are read from instead of the teacher or the last student: a hub id, folder or
            checkpoint file. The paper's Data2Vec2 learns from boundaries of HuBERT.
        artifact: folder of boundaries that another run made, taken as they are; the other keys then say nothing.
    """

    source: Literal["losspred", "similarity", "envelope", "strength", "combined", "minsum", "peaks", "refined"] = (
        "losspred"
    )
    rate: float = 6.25
    layer: int = 9
    span: int = 50
    gap: int = 150
    max_length: int = 50
    vad: Literal["none", "energy", "silero"] = "none"
    encoder: str = ""
    artifact: str = ""

    def __post_init__(self) -> None:
        if self.encoder and self.artifact:
            raise InputError("boundaries: give an encoder or an artifact, not both")
        if self.encoder and self.source in WITHOUT_ENCODER:
            raise InputError(f"boundaries.encoder: source={self.source!r} reads no encoder; leave it out")


def find_boundaries(
    config: BoundariesConfig,
    manifest: Manifest,
    out: Path,
    *,
    encoder: Artifact | None = None,
    seed: int = 0,
    device: str = "auto",
    store: WaveformStore | None = None,
) -> Artifact:
    """Segment every recording; the artifact holds ``boundaries.safetensors`` (id -> int32 [0, ..., T])."""
    if encoder is None and config.source not in WITHOUT_ENCODER:
        raise InputError(f"boundaries with source={config.source!r} need an encoder")
    store = store or WaveformStore(manifest)
    parents = {"corpus": manifest_digest(manifest)} | ({"encoder": encoder.digest} if encoder else {})

    def work(run: StageRun) -> None:
        segment = _segmenter(config, encoder, device, manifest)
        found: dict[str, Boundaries] = {}
        with ProgressBar(f"boundaries ({config.source})", len(store)) as bar:
            for index, recording in enumerate(manifest):
                wave = store[index]
                found[recording.id] = segment.cut(wave, segment.count_groups(wave, config.rate, config.max_length))
                bar.advance()
        groups = sum(len(b) - 1 for b in found.values())
        run.metrics["groups"] = groups
        run.metrics["rate"] = groups / manifest.total_seconds
        save_arrays(run.folder / "boundaries.safetensors", found)

    return run_stage("boundaries", out, config=config, seed=seed, parents=parents, work=work, device=device, alone=True)


def _segmenter(config: BoundariesConfig, encoder: Artifact | None, device: str, manifest: Manifest) -> Segmenter:
    features = predictor = None
    if encoder is not None and config.source in ("similarity", *FROM_STUDENT):
        features = load_encoder(encoder.path, config.layer, device=device)
    elif encoder is not None and config.source in WITH_HEAD:
        predictor = MaskedPredictor.load(encoder.path, device=device)
    for model in (features, predictor and predictor.encoder):
        if model is not None:
            check_max_frames(model, manifest)
    segmenter = make_segmenter(
        config.source,
        encoder=features,
        predictor=predictor,
        span=config.span,
        gap=config.gap,
        max_length=config.max_length,
    )
    return speech_only(segmenter, config.vad)


def read_boundaries(artifact: Artifact) -> Mapping[str, Boundaries]:
    """The boundaries of a boundaries artifact: {recording id: [0, ..., T]}."""
    return load_arrays(artifact.file("boundaries.safetensors"))
