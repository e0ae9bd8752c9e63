"""A prediction head for an encoder without one: fitted under masking, the encoder frozen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from syllablelm.core.artifact import Artifact
from syllablelm.core.config import read_toml
from syllablelm.data.corpus import Manifest
from syllablelm.encoders.heads import PredictionHead
from syllablelm.encoders.hub import HubEncoder
from syllablelm.encoders.masked_prediction import MaskedPredictor, load_maskable
from syllablelm.train.batches import WaveformStore
from syllablelm.train.labels import read_labels
from syllablelm.train.loop import LoopConfig
from syllablelm.train.pretrain import EncoderConfig, MaskedPredictionTask
from syllablelm.train.stage import StageRun, manifest_digest, run_stage


@dataclass(frozen=True)
class HeadConfig:
    """Fitting of a prediction head.

    Args:
        loop: optimisation.
        final_dim: dimension of the label embeddings.
        crop_seconds: maximum length of a crop of a recording.
        mask_prob: expected share of frames covered by spans if these never overlapped.
        mask_length: frames per span.
        masked_weight: alpha in L = alpha L_masked + (1 - alpha) L_unmasked. Both are needed: LossPred takes its labels
            from the head on clean audio, its probabilities on masked audio.
    """

    loop: LoopConfig
    final_dim: int = 256
    crop_seconds: float = 15.6
    mask_prob: float = 0.8
    mask_length: int = 10
    masked_weight: float = 0.5


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


def fit_head(
    config: HeadConfig,
    manifest: Manifest,
    encoder: Artifact,
    labels: Artifact,
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    store: WaveformStore | None = None,
) -> Artifact:
    """Fit a head to the last layer of an encoder, for LossPred.

    Args:
        encoder: any encoder with a mask embedding; its weights are frozen.
        labels: k-means labels of one of its layers (``make_labels`` with source "encoder").

    Returns:
        a predictor: the encoder and its head, for ``MaskedPredictor.load``; its record states that the head was fitted,
        and the layer, number and seed of its labels.

    Raises:
        FormatError: an encoder without a mask embedding.
    """
    parents = {"corpus": manifest_digest(manifest), "encoder": encoder.digest, "labels": labels.digest}
    store = store or WaveformStore(manifest)
    made = read_toml(labels.file("config.toml"))
    record = {"fitted": True, "layer": made["layer"], "num_labels": made["num_labels"], "seed": labels.record["seed"]}

    def work(run: StageRun) -> None:
        model = load_maskable(encoder.path, device="cpu")
        torch.manual_seed(seed)
        predictor = MaskedPredictor(model, PredictionHead(model.dim, made["num_labels"], config.final_dim))
        frozen: Any = FrozenEncoder(predictor)
        shared = {field.name: getattr(config, field.name) for field in fields(config) if field.name != "final_dim"}
        batches = EncoderConfig(**shared)
        task = MaskedPredictionTask(frozen, store, read_labels(labels), batches, seed)
        run.train(task, config.loop, "head")
        predictor.save(run.folder)

    extra = {"head": record}
    return run_stage("predictor", out, config=config, seed=seed, parents=parents, work=work, extra=extra, device=device)
