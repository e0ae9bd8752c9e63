"""SylBoost (section 3.2): a student learns, at every frame, the teacher's mean over the frame's segment (Eq. 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from syllablelm.core.artifact import Artifact, current_digest
from syllablelm.core.errors import FormatError, InputError, check_fields
from syllablelm.encoders.base import FrameEncoder, TrainableEncoder
from syllablelm.encoders.load import load_encoder
from syllablelm.encoders.padding import frame_mask
from syllablelm.encoders.whisper import WhisperEncoder
from syllablelm.quantize import pool_segments
from syllablelm.train.batches import (
    SHORTEST_CROP,
    AugmentConfig,
    CropPlan,
    WaveformStore,
    augmented_batch,
    check_max_frames,
    iterate_features,
)
from syllablelm.train.boundary_stage import read_boundaries
from syllablelm.train.loop import Batch, LoopConfig
from syllablelm.train.stage import StageContext, StageRun


@dataclass(frozen=True)
class SylBoostConfig:
    """One round of self-distillation.

    Args:
        loop: optimisation.
        layer: L, the layer whose features are targets and outputs; layers above it are dropped.
        student: initial student: the teacher (as in round 1 of the paper) or the previous round's student.
        train_cnn: whether the convolutional extractor is trained too.
        frozen_blocks: number of frozen transformer blocks, counted from the input; 0 trains all of them.
        whiten: standardise every dimension of the teacher's features over the corpus before averaging; a student that
            starts from the teacher starts there too, if its layer ends in a layer norm.
        normalize: standardise every waveform for teacher and student, which makes them independent of loudness; false
            does as the checkpoint says.
        crop_seconds: maximum length of a crop of a recording.
        left_context, right_context: seconds of audio before and after its own that a frame of the student may see, for
            streams of low latency (Whisper only); None for all.
        augment: distortions of the student's input; the teacher's is always the clean recording.
    """

    loop: LoopConfig
    layer: int = 9
    student: Literal["teacher", "previous"] = "teacher"
    train_cnn: bool = False
    frozen_blocks: int = 0
    whiten: bool = False
    normalize: bool = False
    crop_seconds: float = 15.6
    left_context: float | None = None
    right_context: float | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        check_fields(self, "layer", least=1)
        check_fields(self, "frozen_blocks", least=0, most=self.layer)
        check_fields(self, "crop_seconds", least=SHORTEST_CROP)
        check_fields(self, "left_context right_context", least=0)


@dataclass(frozen=True)
class SegmentTargets:
    """Teacher means of every segment of every recording: small, so the teacher runs once per round.

    Args:
        boundaries: {index: [0, ..., T]} of every recording.
        means: {index: (num_segments, D)}.
        mean, scale: (D,) mean and scale by which the features were standardised; None where they were not.
    """

    boundaries: Mapping[int, npt.NDArray[np.int32]]
    means: Mapping[int, npt.NDArray[np.float32]]
    mean: npt.NDArray[np.float64] | None = None
    scale: npt.NDArray[np.float64] | None = None

    @classmethod
    def compute(
        cls, store: WaveformStore, teacher: FrameEncoder, boundaries: Mapping[str, npt.NDArray[np.int32]], whiten: bool
    ) -> SegmentTargets:
        """Encode the corpus once with the teacher and average over segments."""
        missing = [recording.id for recording in store.manifest if recording.id not in boundaries]
        if missing:
            raise FormatError(
                f"there are no boundaries of {missing[0]!r}, but of {len(boundaries)} other recordings: make them of "
                "this corpus"
            )
        kept: dict[int, npt.NDArray[np.int32]] = {}
        means: dict[int, npt.NDArray[np.float32]] = {}
        total, total_sq, count = 0.0, 0.0, 0
        for index, feats in iterate_features(store, teacher, label="teacher"):
            name = store.manifest[index].id
            kept[index] = boundaries[name]
            if kept[index][-1] != len(feats):
                raise FormatError(
                    f"the boundaries of {name!r} span {kept[index][-1]} frames, the teacher gives {len(feats)}: they "
                    "are of another frame rate or recording; make them of this corpus with an encoder of the same "
                    "frame rate"
                )
            means[index] = pool_segments(feats, kept[index][:-1], kept[index][1:], drop_edges=False)
            total = total + feats.sum(0, dtype=np.float64)
            total_sq = total_sq + np.square(feats, dtype=np.float64).sum(0)
            count += len(feats)
        if not whiten:
            return cls(kept, means)
        mean = np.asarray(total / count)
        scale = np.sqrt(np.maximum(total_sq / count - mean**2, 1e-8))
        means = {index: ((value - mean) / scale).astype(np.float32) for index, value in means.items()}
        return cls(kept, means, mean, scale)

    def frames(self, index: int, start: int, count: int) -> npt.NDArray[np.float32]:
        """(count, D) targets of the frames from ``start``."""
        segments = np.searchsorted(self.boundaries[index], np.arange(start, start + count), side="right") - 1
        return self.means[index][np.minimum(segments, len(self.means[index]) - 1)]


class SylBoostTask:
    """Batches and loss of Eq. 3, for the training loop."""

    ratios: Mapping[str, tuple[str, str]] = {}

    def __init__(
        self,
        student: TrainableEncoder,
        store: WaveformStore,
        targets: SegmentTargets,
        config: SylBoostConfig,
        seed: int,
    ) -> None:
        self.module = _SegmentLoss(student)
        self.student, self.store, self.targets, self.config = student, store, targets, config
        self.plan = CropPlan.of_stage(config, store, student.hop, seed)

    def batch(self, number: int) -> Batch:
        """Waveforms and per-frame targets of one micro-batch."""
        crops, frames_B, batch = augmented_batch(self.config, self.store, self.plan, self.student, number)
        target_BTD = torch.zeros(len(crops), int(frames_B.max()), self.student.dim)
        for row, crop, count in zip(target_BTD, crops, frames_B.tolist(), strict=True):
            row[:count] = torch.from_numpy(self.targets.frames(crop.index, crop.start, count))
        return {**batch, "target": target_BTD}


class _SegmentLoss(nn.Module):
    """Eq. 3 over all frames of a batch, divided by the feature dimension so that its size does not depend on it."""

    def __init__(self, student: TrainableEncoder) -> None:
        super().__init__()
        self.student = student

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        feats_BTD, frames_B = self.student(batch["wave"], batch["lengths"])
        valid = frame_mask(frames_B, feats_BTD.shape[1])
        return {"loss": (feats_BTD - batch["target"])[valid].float().pow(2).mean()}


def train_sylboost(
    config: SylBoostConfig,
    context: StageContext,
    teacher: Artifact,
    boundaries: Artifact,
    out: Path,
    *,
    previous: Artifact | None = None,
) -> Artifact:
    """One round; the artifact is a folder of the student that ``load_encoder`` opens, its layer L being the feature.

    Args:
        teacher: the pre-trained encoder, in every round.
        boundaries: segment boundaries of every recording.
        previous: the last round's student, for ``student = "previous"``.
    """
    start = previous if config.student == "previous" and previous is not None else teacher
    artifacts = {"teacher": teacher, "boundaries": boundaries, "student": start}
    parents = {name: current_digest(artifact) for name, artifact in artifacts.items()}

    def work(run: StageRun) -> None:
        normalize = config.normalize or None
        student = load_encoder(start.path, config.layer, device="cpu", normalize=normalize)
        if not isinstance(student, TrainableEncoder):
            raise InputError(f"{start.path}: a {type(student).__name__} cannot be trained")
        if config.frozen_blocks >= config.layer:
            raise InputError(
                f"frozen_blocks {config.frozen_blocks}: that leaves nothing below layer {config.layer} to train"
            )
        if start is not teacher and not config.normalize and getattr(student, "normalize", False):
            raise InputError(
                "sylboost.normalize is false, but the student before standardises waveforms; set it in this round too"
            )
        _limit_context(student, config)
        check_max_frames(student, context.manifest, config.crop_seconds)
        student.freeze(extractor=not config.train_cnn, blocks=config.frozen_blocks)
        model = load_encoder(teacher.path, config.layer, device=context.device, normalize=normalize)
        targets = SegmentTargets.compute(context.store, model, read_boundaries(boundaries), config.whiten)
        if start is teacher and targets.mean is not None and targets.scale is not None:
            # The student starts at the teacher's standardised features, where its last norm can say so.
            mean, scale = torch.from_numpy(targets.mean), torch.from_numpy(targets.scale)
            run.metrics["starts_standardized"] = student.rescale(mean, scale)
        # The teacher's weights are needed no more.
        del model
        run.train(SylBoostTask(student, context.store, targets, config, context.seed), config.loop, "sylboost")
        student.save(run.folder)

    return context.run("encoder", out, config, parents, work)


def _limit_context(student: TrainableEncoder, config: SylBoostConfig) -> None:
    """Divide the seconds that the student may see evenly among its blocks."""
    sides = (config.left_context, config.right_context)
    if sides == (None, None):
        return
    if not isinstance(student, WhisperEncoder):
        raise InputError(
            f"left_context, right_context: a {type(student).__name__} cannot do with less; leave them out, or take a "
            "Whisper"
        )
    blocks = len(student.model.encoder.layers)
    left, right = (
        -1 if side is None else int(side * student.sample_rate / student.hop / blocks + 1e-6) for side in sides
    )
    student.limit_attention(left, right)
