"""Training of the light unit vocoder on one voice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from syllablelm.artifact import Artifact, fingerprint
from syllablelm.corpus import Manifest
from syllablelm.encoders.padding import pad_waveforms
from syllablelm.train.data import CropPlan, WaveformStore
from syllablelm.train.loop import Batch, LoopConfig, run_loop
from syllablelm.train.stage import manifest_digest, run_stage
from syllablelm.types import Segmentation
from syllablelm.vocoder.spectral import SpectralNet, SpectralShape, SpectralVocoder, unit_frames
from syllablelm.vocoder.spectrum import SpectrumSpec

IGNORED = -1


@dataclass(frozen=True)
class SpectralConfig:
    """The network and its training.

    Args:
        loop: the optimisation.
        dim, blocks, kernel: see ``SpectralShape``.
        crop_seconds: longest stretch of a recording in a batch.
        spectrum: what is predicted.
    """

    loop: LoopConfig
    dim: int = 256
    blocks: int = 8
    kernel: int = 7
    crop_seconds: float = 6.0
    spectrum: SpectrumSpec = field(default_factory=SpectrumSpec)


class _SpectralLoss(nn.Module):
    """Mean absolute error of log-magnitudes and of their change from frame to frame."""

    def __init__(self, net: SpectralNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        units_BU, wave_BN = batch["units"], batch["wave"]
        shape = self.net.shape
        predicted_BTF = self.net(units_BU.clamp(min=0))
        target_BTF = shape.spectrum.log_magnitude(wave_BN)[:, : predicted_BTF.shape[1]]
        known_BT1 = (units_BU != IGNORED).repeat_interleave(shape.upsampling, dim=1)[..., None]
        error = (predicted_BTF - target_BTF).abs() * known_BT1
        steps = (predicted_BTF.diff(dim=1) - target_BTF.diff(dim=1)).abs() * known_BT1[:, 1:]
        count = known_BT1.sum() * shape.spectrum.bins
        level = error.sum() / count
        return {
            "loss": level + steps.sum() / count,
            "level_error": level,
            "batches": torch.tensor(1.0),
        }


class SpectralTask:
    """Batches of waveforms and their unit frames, for the training loop."""

    ratios: Mapping[str, tuple[str, str]] = {"level_error": ("level_error", "batches")}

    def __init__(
        self,
        net: SpectralNet,
        store: WaveformStore,
        units: Mapping[str, Segmentation],
        config: SpectralConfig,
        seed: int,
    ) -> None:
        self.module, self.store = _SpectralLoss(net), store
        shape = net.shape
        self.hop = shape.hop
        self.frames = {
            key: unit_frames(seg, shape.units, shape.hop, shape.spectrum.sample_rate) for key, seg in units.items()
        }
        self.plan = CropPlan(
            [r.seconds for r in store.manifest],
            crop_seconds=config.crop_seconds,
            batch_seconds=config.loop.batch_seconds,
            hop=self.hop,
            seed=seed,
        )

    def batch(self, number: int) -> Batch:
        """Waveforms cut to whole unit frames, and the unit of each frame (-1 past the end)."""
        waves, rows = [], []
        for crop in self.plan.batch(number):
            wave = self.plan.cut(self.store[crop.index], crop)
            row = self.frames[self.store.manifest[crop.index].id][crop.start : crop.start + len(wave) // self.hop]
            rows.append(row)
            waves.append(wave[: len(row) * self.hop])
        wave_BN, lengths_B = pad_waveforms(waves, torch.device("cpu"))
        units_BU = torch.full((len(rows), int(lengths_B.max()) // self.hop), IGNORED)
        for target, row in zip(units_BU, rows, strict=True):
            target[: len(row)] = torch.from_numpy(row)
        return {"wave": wave_BN, "units": units_BU, "seconds": float(lengths_B.sum()) / 16_000}


def train_spectral(
    config: SpectralConfig,
    manifest: Manifest,
    units: Mapping[str, Segmentation],
    num_units: int,
    out: Path,
    *,
    tokenizer: str = "",
    seed: int = 0,
    device: str = "auto",
    store: WaveformStore | None = None,
) -> Artifact:
    """Train the light vocoder.

    Args:
        manifest: recordings of one voice.
        units: their gap-free acoustic units by id.
        num_units: size of the acoustic vocabulary.
        tokenizer: digest of what made the units.
    """
    parents = {"corpus": manifest_digest(manifest), "units": tokenizer}
    store = store or WaveformStore(manifest)

    def work(folder: Path, scratch: Path, metrics: dict[str, Any]) -> None:
        torch.manual_seed(seed)
        first = next(iter(units.values()))
        shape = SpectralShape(num_units, config.dim, config.blocks, config.kernel, first.hop, config.spectrum)
        net = SpectralNet(shape)
        with torch.no_grad():
            net.output.bias.copy_(_mean_spectrum(store, config.spectrum))
        task = SpectralTask(net, store, units, config, seed)
        identity = fingerprint("vocoder", config, seed, parents)
        metrics.update(
            run_loop(task, config.loop, scratch, seed=seed, fingerprint=identity, device=device, label="vocoder")
        )
        SpectralVocoder(net.cpu()).save(folder)

    return run_stage("vocoder", out, config=config, seed=seed, parents=parents, work=work, device=device)


def _mean_spectrum(store: WaveformStore, spec: SpectrumSpec, recordings: int = 20) -> Tensor:
    """Average log-magnitude of some recordings, where the network starts: (F,)."""
    rows = [
        spec.log_magnitude(torch.from_numpy(np.array(store[i]))[None])[0] for i in range(min(recordings, len(store)))
    ]
    return torch.cat(rows).mean(0)
