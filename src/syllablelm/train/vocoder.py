"""The vocoder's recipe: acoustic units, the vocoder of one voice, and the interleaved vocoder LM (section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load_file, save_file

from syllablelm.artifact import Artifact
from syllablelm.config import check_seed
from syllablelm.corpus import Manifest
from syllablelm.errors import InputError
from syllablelm.formats import open_writer, read_segmentations
from syllablelm.progress import ProgressBar
from syllablelm.quantize import fit_kmeans
from syllablelm.tokenizer import FRAME_UNITS, Tokenizer, model_folder
from syllablelm.train.data import WaveformStore
from syllablelm.train.features import iterate_features
from syllablelm.train.hifigan import HiFiGanConfig, train_hifigan
from syllablelm.train.lm import LMConfig, train_lm
from syllablelm.train.pipeline import DataConfig, read_corpus
from syllablelm.train.processes import join
from syllablelm.train.spectral import SpectralConfig, train_spectral
from syllablelm.train.stage import manifest_digest, run_stage
from syllablelm.types import Segmentation
from syllablelm.vocoder.acoustic import ACOUSTIC_FILE, Source, acoustic_encoder
from syllablelm.vocoder.interleave import StreamInfo, interleaved_store

# Recordings encoded together: enough for batches of like lengths.
GROUP = 64
SYLLABLES_FILE, UNITS_FILE = "syllables.jsonl", "acoustic.jsonl"


@dataclass(frozen=True)
class AcousticConfig:
    """Acoustic units: k-means of frames.

    Args:
        source: "encoder" for a layer of the tokenizer's encoder, "mfcc" for cepstra standardised over the clip.
        layer: 1-based, of the encoder.
        units: clusters.
        frames: k-means is fitted to at most so many, evenly drawn.
        kmeans: algorithm.
    """

    source: Source = "encoder"
    layer: int = 1
    units: int = 200
    frames: int = 200_000
    kmeans: Literal["auto", "minibatch", "lloyd", "faiss"] = "minibatch"


@dataclass(frozen=True)
class VocoderRecipe:
    """Everything that ``train vocoder`` does.

    Args:
        tokenizer: name or folder of the syllable tokenizer.
        voice: recordings of the one voice that the vocoder speaks with.
        data: recordings that the vocoder LM learns from, the voice among them or not.
        acoustic, vocoder_lm: stages.
        vocoder, hifigan: the light vocoder or the unit HiFi-GAN; one of them.
    """

    name: str
    tokenizer: str
    voice: DataConfig
    data: DataConfig
    acoustic: AcousticConfig
    vocoder_lm: LMConfig
    vocoder: SpectralConfig | None = None
    hifigan: HiFiGanConfig | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.vocoder is None) == (self.hifigan is None):
            raise InputError("a vocoder's recipe has one of the tables [vocoder] and [hifigan]")
        check_seed(self.seed)


def train_vocoder_recipe(recipe: VocoderRecipe, out: Path, *, device: str = "auto") -> Artifact:
    """Run the stages of a vocoder's recipe below ``out``; finished ones are skipped.

    Returns:
        the vocoder LM's artifact, the last one made.
    """
    join(device)
    syllables = Tokenizer.load(recipe.tokenizer, device=device)
    voice, data = read_corpus(recipe.voice), read_corpus(recipe.data)
    store = WaveformStore(voice)
    centres = fit_acoustic(
        recipe.acoustic, data, syllables, recipe.tokenizer, out / "acoustic", seed=recipe.seed, device=device
    )
    frames = acoustic_encoder(
        model_folder(recipe.tokenizer), recipe.acoustic.source, recipe.acoustic.layer, device=device
    )
    acoustic = Tokenizer.from_parts(frames, centres.file(ACOUSTIC_FILE), rule=FRAME_UNITS)
    voice_units = make_units(voice, syllables, acoustic, centres, out / "voice_units", store=store)
    spoken = (voice, read_segmentations(voice_units.file(UNITS_FILE)), recipe.acoustic.units, out / "vocoder")
    options: Any = {"tokenizer": voice_units.digest, "seed": recipe.seed, "device": device, "store": store}
    if recipe.vocoder is not None:
        table = load_file(centres.file(ACOUSTIC_FILE))["centres"]
        train_spectral(recipe.vocoder, *spoken, centres=table, **options)
    if recipe.hifigan is not None:
        train_hifigan(recipe.hifigan, *spoken, **options)
    units = make_units(data, syllables, acoustic, centres, out / "units")
    stream = StreamInfo(
        syllables.num_units or 0,
        recipe.acoustic.units,
        acoustic.encoder.hop,
        acoustic.encoder.sample_rate,
        syllables.encoder.hop,
        syllables.digest,
    )
    tokens = make_stream(units, stream, out / "stream")
    return train_lm(recipe.vocoder_lm, tokens, out / "vocoder_lm", seed=recipe.seed, device=device)


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
    """Fit the centres of the acoustic units to frames of a corpus."""
    parents = {"corpus": manifest_digest(manifest), "tokenizer": tokenizer.digest}

    def work(folder: Path, scratch: Path, metrics: dict[str, Any]) -> None:
        encoder = acoustic_encoder(model_folder(name), config.source, config.layer, device=device)
        share = max(1, round(manifest.total_seconds * tokenizer.frame_rate / config.frames))
        store = WaveformStore(manifest, budget_bytes=0)
        frames = [feats[index % share :: share] for index, feats in iterate_features(store, encoder, label="acoustic")]
        centres = fit_kmeans(np.concatenate(frames), config.units, method=config.kmeans, seed=seed)
        said = {"source": config.source, "layer": str(config.layer)}
        save_file({"centres": centres}, folder / ACOUSTIC_FILE, metadata=said)
        metrics["frames"] = sum(len(rows) for rows in frames)

    return run_stage("acoustic", out, config=config, seed=seed, parents=parents, work=work, device=device, alone=True)


def make_units(
    manifest: Manifest,
    syllables: Tokenizer,
    acoustic: Tokenizer,
    centres: Artifact,
    out: Path,
    *,
    store: WaveformStore | None = None,
) -> Artifact:
    """Encode every recording twice: ``syllables.jsonl`` and ``acoustic.jsonl``."""
    store = store or WaveformStore(manifest, budget_bytes=0)
    parents = {"corpus": manifest_digest(manifest), "syllables": syllables.digest, "acoustic": centres.digest}

    def work(folder: Path, scratch: Path, metrics: dict[str, Any]) -> None:
        with (
            open_writer(folder / SYLLABLES_FILE) as first,
            open_writer(folder / UNITS_FILE) as second,
            ProgressBar("units", len(manifest)) as bar,
        ):
            for begin in range(0, len(manifest), GROUP):
                group = manifest[begin : begin + GROUP]
                waves = [store[begin + place] for place in range(len(group))]
                for recording, one, two in zip(group, syllables.encode(waves), acoustic.encode(waves), strict=True):
                    first.write(recording.id, recording.id, one)
                    second.write(recording.id, recording.id, two)
                bar.advance(len(group))

    return run_stage("units", out, config={}, seed=0, parents=parents, work=work, alone=True)


def make_stream(units: Artifact, info: StreamInfo, out: Path) -> Artifact:
    """The interleaved tokens of encoded recordings."""

    def work(folder: Path, scratch: Path, metrics: dict[str, Any]) -> None:
        syllables = read_segmentations(units.file(SYLLABLES_FILE))
        acoustic = read_segmentations(units.file(UNITS_FILE))
        pairs: Mapping[str, tuple[Segmentation, Segmentation]] = {
            name: (row, acoustic[name]) for name, row in syllables.items() if len(row)
        }
        store = interleaved_store(((name, *pair) for name, pair in pairs.items()), info)
        store.save(folder)
        metrics.update(recordings=len(store), tokens=len(store.tokens), hours=store.seconds / 3600)

    return run_stage("tokens", out, config=info, seed=0, parents={"units": units.digest}, work=work, alone=True)
