"""Encoder pre-training: HuBERT's masked prediction of frame labels (Hsu et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.artifact import Artifact, current_digest
from syllablelm.core.config import read_toml
from syllablelm.core.errors import LARGEST_SIZE, InputError, check_fields
from syllablelm.encoders.heads import PredictionHead
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.load import load_encoder
from syllablelm.encoders.masked_prediction import EncoderShape, MaskedPredictor, load_maskable
from syllablelm.train.batches import (
    SHORTEST_CROP,
    AugmentConfig,
    Crop,
    CropPlan,
    WaveformStore,
    augmented_batch,
    check_max_frames,
)
from syllablelm.train.labels import read_centres, read_labels
from syllablelm.train.loop import Batch, LoopConfig
from syllablelm.train.stage import StageContext, StageRun, external_encoder

IGNORED = -1


@dataclass(frozen=True)
class EncoderConfig:
    """Masked-prediction pre-training.

    Args:
        loop: optimisation.
        shape: network, where it starts from random weights or the last iteration's.
        crop_seconds: maximum length of a crop of a recording.
        mask_prob: expected share of frames covered by spans if these never overlapped.
        mask_length: frames per span.
        masked_weight: alpha in L = alpha L_masked + (1 - alpha) L_unmasked (Hsu et al. 2021, II-B); 1 in the paper.
        start: initial weights: "random", "previous" (the last iteration's, with a new head), or those of an encoder: a
            hub id, folder or checkpoint file.
        head: initial prediction head: "random", or "centres": its first guess is the label whose k-means centre is
            nearest in angle. The labels must be of the layer that the head reads.
        train_cnn: whether the convolutional extractor is trained too.
        normalize: whether the encoder standardises each waveform, which makes it independent of loudness.
        augment: distortions of the model's input; labels are those of the clean recording.
    """

    loop: LoopConfig
    shape: EncoderShape = field(default_factory=EncoderShape)
    crop_seconds: float = 15.6
    mask_prob: float = 0.8
    mask_length: int = 10
    masked_weight: float = 1.0
    start: str = "random"
    head: Literal["random", "centres"] = "random"
    train_cnn: bool = True
    normalize: bool = False
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        check_masking(self)


def check_masking(config: EncoderConfig | HeadConfig) -> None:
    """Refuse (InputError) lengths, probabilities and weights of masked prediction out of their ranges."""
    check_fields(config, "crop_seconds", least=SHORTEST_CROP)
    check_fields(config, "mask_prob masked_weight", least=0, most=1)
    check_fields(config, "mask_length", least=1)


def span_mask(num_frames: int, prob: float, length: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Random span mask as HuBERT draws it: ``prob * T / length`` spans (rounded at random), distinct starts.

    At least one frame is masked, so that every clip that has frames has a loss.
    """
    mask = np.zeros(num_frames, dtype=bool)
    if num_frames == 0:
        return mask
    length = min(length, num_frames)
    count = max(1, int(prob * num_frames / length + rng.random()))
    starts = rng.choice(num_frames - length + 1, size=min(count, num_frames - length + 1), replace=False)
    mask[(starts[:, None] + np.arange(length)).ravel()] = True
    return mask


class MaskedPredictionTask:
    """Batches and loss of masked prediction, for the training loop."""

    ratios: Mapping[str, tuple[str, str]] = {
        "masked_accuracy": ("hits", "targets"),
        "masked_loss": ("masked_loss", "batches"),
    }

    def __init__(
        self,
        model: MaskedPredictor,
        store: WaveformStore,
        labels: Mapping[str, npt.NDArray[np.int16]],
        config: EncoderConfig,
        seed: int,
    ) -> None:
        self.module = _MaskedLoss(model, config.masked_weight)
        self.encoder, self.store, self.labels, self.config = model.encoder, store, labels, config
        self.plan = CropPlan.of_stage(config, store, model.encoder.hop, seed)

    def batch(self, number: int) -> Batch:
        """Waveforms, labels (-1 past the end) and masks of one micro-batch."""
        crops, frames_B, batch = augmented_batch(self.config, self.store, self.plan, self.encoder, number)
        shape = (len(crops), int(frames_B.max()))
        labels_BT = torch.full(shape, IGNORED, dtype=torch.long)
        mask_BT = torch.zeros(shape, dtype=torch.bool)
        for b, (crop, count) in enumerate(zip(crops, frames_B.tolist(), strict=True)):
            labels_BT[b, :count], mask_BT[b, :count] = self._targets(crop, count)
        return {**batch, "labels": labels_BT, "mask": mask_BT}

    def _targets(self, crop: Crop, count: int) -> tuple[Tensor, Tensor]:
        labels = self.labels[self.store.manifest[crop.index].id][crop.start : crop.start + count]
        row = np.full(count, IGNORED, dtype=np.int64)
        row[: len(labels)] = labels
        rng = np.random.default_rng((*crop.seed, 1))
        mask = span_mask(count, self.config.mask_prob, self.config.mask_length, rng) & (row != IGNORED)
        return torch.from_numpy(row), torch.from_numpy(mask)


class _MaskedLoss(nn.Module):
    """Mean cross-entropy over the masked frames, and with weight 1 - alpha over the others."""

    def __init__(self, model: MaskedPredictor, masked_weight: float) -> None:
        super().__init__()
        self.model = model
        self.masked_weight = masked_weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        mask, labels = batch["mask"], batch["labels"]
        input_BTD, frames_B = self.model.inputs(batch["wave"], batch["lengths"])
        hidden_BTD = self.model.hidden(input_BTD, frames_B, mask)
        logits, target = self.model.head(hidden_BTD[mask]), labels[mask]
        loss = F.cross_entropy(logits, target)
        hits = (logits.argmax(-1) == target).sum()
        result = {"masked_loss": loss, "hits": hits, "targets": torch.tensor(len(target))}
        seen = ~mask & (labels != IGNORED)
        if self.masked_weight < 1 and bool(seen.any()):
            unmasked = F.cross_entropy(self.model.head(hidden_BTD[seen]), labels[seen])
            loss = self.masked_weight * loss + (1 - self.masked_weight) * unmasked
        return result | {"loss": loss, "batches": torch.tensor(1.0)}


def train_encoder(
    config: EncoderConfig, context: StageContext, labels: Artifact, out: Path, *, previous: Artifact | None = None
) -> Artifact:
    """Pre-train an encoder; the artifact is a Hugging Face folder with the head beside it.

    Args:
        previous: the last iteration's encoder, for ``start = "previous"``.
    """
    parents = {"labels": current_digest(labels)}
    if config.start == "previous":
        if previous is None:
            raise InputError('encoder.start = "previous": there is no earlier iteration to start from')
        parents["previous"] = current_digest(previous)
    elif config.start != "random":
        parents["start"] = external_encoder(config.start).digest

    def work(run: StageRun) -> None:
        by_id = read_labels(labels)
        torch.manual_seed(context.seed)
        num_labels = int(max(int(row.max()) for row in by_id.values())) + 1
        model = _start(config, num_labels, previous)
        check_max_frames(model.encoder, context.manifest, config.crop_seconds)
        if config.head == "centres":
            _start_at_centres(model, labels, parents.get("start", parents.get("previous", "")))
        model.encoder.freeze(extractor=not config.train_cnn)
        if hasattr(model.encoder.model, "feature_extractor"):
            # transformers would compute the waveform's gradient too, for checkpointing that is not used here: on a CPU
            # a tenth of a step.
            model.encoder.model.feature_extractor._requires_grad = False
        run.train(MaskedPredictionTask(model, context.store, by_id, config, context.seed), config.loop, "encoder")
        model.save(run.folder)

    return context.run("encoder", out, config, parents, work)


def _start(config: EncoderConfig, num_labels: int, previous: Artifact | None) -> MaskedPredictor:
    if config.start not in ("random", "previous"):
        encoder = load_maskable(config.start, device="cpu", add_mask=True, normalize=config.normalize or None)
        final_dim = encoder.dim if config.head == "centres" else config.shape.final_dim
        return MaskedPredictor(encoder, PredictionHead(encoder.dim, num_labels, final_dim))
    shape = replace(config.shape, final_dim=config.shape.dim) if config.head == "centres" else config.shape
    model = MaskedPredictor.create(shape, num_labels, normalize=config.normalize)
    if config.start == "previous" and previous is not None:
        _take_weights(model, previous)
    return model


def _start_at_centres(model: MaskedPredictor, labels: Artifact, start: str) -> None:
    """Let the head compare features with the k-means centres of the labels, in the space they were found in.

    ``start`` is the digest of the encoder that the model starts from.
    """
    made, read = read_toml(labels.file("config.toml")), labels.record["parents"].get("encoder", "")
    if not start or read != start or made.get("layer") != model.encoder.layer:
        raise InputError(
            f'encoder.head = "centres": the labels are not of layer {model.encoder.layer} of the encoder that this '
            'iteration starts from; make them of it, or set head = "random"'
        )
    centres, mean, scale = (torch.from_numpy(array).float() for array in read_centres(labels))
    with torch.no_grad():
        model.head.projection.weight.copy_(torch.diag(1 / scale))
        model.head.projection.bias.copy_(-mean / scale)
        model.head.label_embeddings.copy_(centres)


def _take_weights(model: MaskedPredictor, earlier: Artifact) -> None:
    weights = load_encoder(earlier.path, device="cpu").state_dict()
    own = model.encoder.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        here, there = (list(d[name].shape) if name in d else "none" for d in (own, weights))
        if here != there:
            raise InputError(
                f'encoder.start = "previous": {earlier.path} has another shape ({name}: {there} there, {here} here); '
                'give this iteration the same encoder.shape, or start = "random"'
            )
    model.encoder.load_state_dict(weights)


@dataclass(frozen=True)
class HeadConfig:
    """Fitting of a prediction head to an encoder without one, under masking, the encoder frozen.

    Args:
        loop: optimisation.
        final_dim: dimension of the label embeddings.
        crop_seconds, mask_prob, mask_length, masked_weight: as of ``EncoderConfig``. Both parts of the loss are needed:
            LossPred takes its labels from the head on clean audio, its probabilities on masked audio.
    """

    loop: LoopConfig
    final_dim: int = 256
    crop_seconds: float = 15.6
    mask_prob: float = 0.8
    mask_length: int = 10
    masked_weight: float = 0.5

    def __post_init__(self) -> None:
        check_masking(self)
        check_fields(self, "final_dim", least=1, most=LARGEST_SIZE)


class FrozenEncoder(nn.Module):
    """A masked predictor whose encoder is no submodule: it is neither trained nor saved, and has no dropout."""

    def __init__(self, predictor: MaskedPredictor) -> None:
        super().__init__()
        self.head = predictor.head
        # In a tuple, which torch does not search for submodules.
        self._whole = (predictor.eval(),)

    @property
    def encoder(self) -> HubEncoder:
        return self._whole[0].encoder

    @torch.no_grad()
    def inputs(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """See ``MaskedPredictor.inputs``."""
        # The loop moves only its own module to the device of the process.
        return self._whole[0].to(wave_BN.device).inputs(wave_BN, lengths_B)

    @torch.no_grad()
    def hidden(self, input_BTD: Tensor, frames_B: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """See ``MaskedPredictor.hidden``."""
        return self._whole[0].hidden(input_BTD, frames_B, mask_BT)


def fit_head(config: HeadConfig, context: StageContext, encoder: Artifact, labels: Artifact, out: Path) -> Artifact:
    """Fit a head to the last layer of an encoder, for LossPred.

    Args:
        encoder: any encoder with a mask embedding; its weights are frozen.
        labels: k-means labels of one of its layers (``make_labels`` with source "encoder").

    Returns:
        a predictor: the encoder and its head, for ``MaskedPredictor.load``; its record states that the head was fitted,
        and the layer, number and seed of its labels.
    """
    parents = {"encoder": current_digest(encoder), "labels": current_digest(labels)}
    made = read_toml(labels.file("config.toml"))
    record = {"fitted": True, "layer": made["layer"], "num_labels": made["num_labels"], "seed": labels.record["seed"]}

    def work(run: StageRun) -> None:
        model = load_maskable(encoder.path, device="cpu")
        torch.manual_seed(context.seed)
        predictor = MaskedPredictor(model, PredictionHead(model.dim, made["num_labels"], config.final_dim))
        frozen: Any = FrozenEncoder(predictor)
        shared = {field.name: getattr(config, field.name) for field in fields(config) if field.name != "final_dim"}
        by_id, batches = read_labels(labels), EncoderConfig(**shared)
        run.train(MaskedPredictionTask(frozen, context.store, by_id, batches, context.seed), config.loop, "head")
        predictor.save(run.folder)

    return context.run("predictor", out, config, parents, work, extra={"head": record})
