"""Boundaries of a corpus by any segmentation method: those of the first SylBoost round, and of later ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from syllablelm.core.artifact import Artifact, current_digest
from syllablelm.core.errors import InputError, check_fields
from syllablelm.core.progress import ProgressBar
from syllablelm.encoders.load import load_encoder
from syllablelm.encoders.masked_prediction import MaskedPredictor
from syllablelm.segment.losspred import check_spans
from syllablelm.segment.registry import HIGHEST_RATE, METHODS, get_method
from syllablelm.segment.segmenter import make_segmenter
from syllablelm.train.batches import check_max_frames, load_arrays, save_arrays
from syllablelm.train.stage import StageContext, StageRun

Boundaries = npt.NDArray[np.int32]
# Thresholds of "released" and "penalty" belong to the features of one checkpoint; they are not for training others.
SOURCES = tuple(name for name, method in METHODS.items() if "delta" not in method.parameters)
WITHOUT_ENCODER = tuple(name for name in SOURCES if not {"features", "predictor"} & set(METHODS[name].needs))
WITH_HEAD = tuple(name for name in SOURCES if "predictor" in METHODS[name].needs)
# Read from the last round's student once there is one; the paper's first boundaries by similarity are the teacher's.
FROM_STUDENT = tuple(name for name in SOURCES if "features" in METHODS[name].needs and name != "similarity")


@dataclass(frozen=True)
class BoundariesConfig:
    """Source of the segments of a SylBoost round.

    Args:
        source: segmentation method, any of the registry but "released" and "penalty". The paper's are "losspred" for
            the first round and "minsum" for later ones. What methods on features leave out as silence becomes a
            segment.
        rate: segments per second, k = round(rate x seconds), of methods that take a number of segments.
        layer: layer of the encoder, for methods on features.
        span, gap: of LossPred, in frames.
        max_length: longest segment in frames, of MinSum and MinCut.
        vad: voice activity detection of "losspred": "energy" (unsupervised, as the paper's), "silero" or "none". Only
            speech is segmented, and pauses become segments.
        encoder: hub id, folder or checkpoint file of the model that the boundaries are read from, instead of the
            teacher or the last student. The paper's Data2Vec2 learns from boundaries of HuBERT.
        artifact: folder of boundaries that another run made, taken as they are; the other keys are then ignored.
    """

    source: str = "losspred"
    rate: float = 6.25
    layer: int = 9
    span: int = 50
    gap: int = 150
    max_length: int = 50
    vad: Literal["energy", "silero", "none"] = "energy"
    encoder: str = ""
    artifact: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", get_method(self.source, SOURCES, "boundaries.source").name)
        check_fields(self, "rate", above=0, most=HIGHEST_RATE)
        check_fields(self, "layer max_length", least=1)
        check_spans(self.span, self.gap)
        if self.encoder and self.artifact:
            raise InputError("boundaries: give an encoder or an artifact, not both")
        if self.encoder and self.source in WITHOUT_ENCODER:
            raise InputError(f"boundaries.encoder: source={self.source!r} reads no encoder; leave it out")


def find_boundaries(
    config: BoundariesConfig, context: StageContext, out: Path, *, encoder: Artifact | None = None
) -> Artifact:
    """Segment every recording; the artifact holds ``boundaries.safetensors`` (id -> int32 [0, ..., T])."""
    if encoder is None and config.source not in WITHOUT_ENCODER:
        raise InputError(f"boundaries with source={config.source!r} need an encoder")

    def work(run: StageRun) -> None:
        options: dict[str, Any] = {key: getattr(config, key) for key in ("span", "gap", "max_length", "vad")}
        if encoder is not None and config.source in WITH_HEAD:
            options["predictor"] = predictor = MaskedPredictor.load(encoder.path, device=context.device)
            check_max_frames(predictor.encoder, context.manifest)
        elif encoder is not None and config.source not in WITHOUT_ENCODER:
            options["encoder"] = features = load_encoder(encoder.path, config.layer, device=context.device)
            check_max_frames(features, context.manifest)
        segmenter = make_segmenter(config.source, **options)
        boundaries: dict[str, Boundaries] = {}
        with ProgressBar(f"boundaries ({config.source})", len(context.store)) as bar:
            for index, recording in enumerate(context.manifest):
                wave = context.store[index]
                segments = segmenter(wave, segmenter.count_segments(wave, config.rate, config.max_length))
                edges = np.concatenate([[0, segments.num_frames], segments.boundaries])
                boundaries[recording.id] = np.unique(edges).astype(np.int32)
                bar.advance()
        count = sum(len(edges) - 1 for edges in boundaries.values())
        run.metrics["groups"] = count
        run.metrics["rate"] = count / context.manifest.total_seconds
        save_arrays(run.folder / "boundaries.safetensors", boundaries)

    parents = {"encoder": current_digest(encoder)} if encoder else {}
    return context.run("boundaries", out, config, parents, work, alone=True)


def read_boundaries(artifact: Artifact) -> Mapping[str, Boundaries]:
    """Read the boundaries of a boundaries artifact: {recording id: [0, ..., T]}."""
    return load_arrays(artifact.file("boundaries.safetensors"))
