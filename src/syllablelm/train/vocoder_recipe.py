"""The vocoder's recipe: acoustic units, the vocoder of one voice, and the interleaved vocoder LM (section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

from syllablelm.core.artifact import Artifact, digest_path
from syllablelm.core.config import check_seed
from syllablelm.core.errors import InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.data.corpus import Manifest
from syllablelm.formats import open_writer, read_segmentations
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.train.acoustic_stage import AcousticConfig, acoustic_tokenizer, fit_acoustic
from syllablelm.train.batches import VoiceData, WaveformStore
from syllablelm.train.hifigan_stage import HiFiGanConfig, fit_hifigan
from syllablelm.train.lm_stage import LMConfig, train_lm
from syllablelm.train.processes import join
from syllablelm.train.source_filter_stage import SourceFilterConfig, fit_source_filter
from syllablelm.train.stage import StageRun, manifest_digest, run_stage
from syllablelm.train.tokenizer_recipe import DataConfig, read_corpus
from syllablelm.vocoder.acoustic import ACOUSTIC_FILE
from syllablelm.vocoder.hifigan import HiFiGanVocoder
from syllablelm.vocoder.interleave import StreamInfo, interleaved_store

# Number of recordings encoded together: enough for batches of similar lengths.
GROUP = 64
SYLLABLES_FILE, UNITS_FILE = "syllables.jsonl", "acoustic.jsonl"


@dataclass(frozen=True)
class PublishedConfig:
    """A unit vocoder that others trained.

    Args:
        path: folder or file for ``HiFiGanVocoder.load``, such as a folder with ``config.json`` and ``g_00500000``.
    """

    path: str


@dataclass(frozen=True)
class VocoderRecipe:
    """The stages of ``train vocoder``, in their order.

    Args:
        name: name of the output folder below runs/.
        tokenizer: name or folder of the syllable tokenizer.
        data: training recordings of the vocoder LM; the voice need not be among them.
        acoustic: acoustic units.
        vocoder_lm: interleaved language model.
        voice: recordings of the vocoder's voice; none for a published vocoder.
        vocoder, hifigan, published: source-filter vocoder, unit HiFi-GAN, or a published vocoder; one of them.
        seed: random seed.
    """

    name: str
    tokenizer: str
    data: DataConfig
    acoustic: AcousticConfig
    vocoder_lm: LMConfig
    voice: DataConfig | None = None
    vocoder: SourceFilterConfig | None = None
    hifigan: HiFiGanConfig | None = None
    published: PublishedConfig | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if [self.vocoder, self.hifigan, self.published].count(None) != 2:
            raise InputError("a vocoder's recipe has one of the tables [vocoder], [hifigan] and [published]")
        if (self.voice is None) != (self.published is not None):
            raise InputError("a vocoder's recipe has a table [voice] where it trains a vocoder, and only there")
        check_seed(self.seed)


def train_vocoder_recipe(recipe: VocoderRecipe, out: Path, *, device: str = "auto") -> Artifact:
    """Run the stages of a vocoder's recipe below ``out``; finished ones are skipped.

    Returns:
        the artifact of the last stage, the vocoder LM.
    """
    join(device)
    syllables = Tokenizer.load(recipe.tokenizer, device=device)
    data = read_corpus(recipe.data)
    options: Any = {"seed": recipe.seed, "device": device}
    centres = fit_acoustic(recipe.acoustic, data, syllables, recipe.tokenizer, out / "acoustic", **options)
    acoustic = acoustic_tokenizer(recipe.acoustic, centres, recipe.tokenizer, device=device)
    if recipe.published is not None:
        import_vocoder(recipe.published, acoustic, out / "vocoder")
    if recipe.voice is not None:
        train_voice(recipe, recipe.voice, syllables, acoustic, centres, out, **options)
    units = make_units(data, syllables, acoustic, centres, out / "units")
    stream = StreamInfo(
        syllables.num_units or 0,
        recipe.acoustic.units,
        acoustic.encoder.hop,
        acoustic.encoder.sample_rate,
        syllables.encoder.hop,
        syllables.digest,
        acoustic.digest,
    )
    tokens = make_stream(units, stream, out / "stream")
    return train_lm(recipe.vocoder_lm, tokens, out / "vocoder_lm", seed=recipe.seed, device=device)


def train_voice(
    recipe: VocoderRecipe,
    data: DataConfig,
    syllables: Tokenizer,
    acoustic: Tokenizer,
    centres: Artifact,
    out: Path,
    **options: Any,
) -> None:
    """Encode the recordings of a voice and train the recipe's vocoder on them."""
    store = WaveformStore(read_corpus(data))
    units = make_units(store.manifest, syllables, acoustic, centres, out / "voice_units", store=store)
    rows, table = read_segmentations(units.file(UNITS_FILE)), load_file(centres.file(ACOUSTIC_FILE))["centres"]
    voice = VoiceData(store, rows, recipe.acoustic.units, units.digest, acoustic.digest, table)
    config = recipe.vocoder or recipe.hifigan
    if config is not None:
        train_vocoder(config, voice, out / "vocoder", **options)


def train_vocoder(
    config: SourceFilterConfig | HiFiGanConfig, voice: VoiceData, out: Path, *, seed: int = 0, device: str = "auto"
) -> Artifact:
    """Train a unit vocoder on one voice.

    Raises:
        InputError: units or recordings that do not fit the configuration.
    """

    def work(run: StageRun) -> None:
        torch.manual_seed(seed)
        if isinstance(config, HiFiGanConfig):
            vocoder = fit_hifigan(config, voice, run)
        else:
            vocoder = fit_source_filter(config, voice, run)
        vocoder.save(run.folder)

    parents = {"corpus": manifest_digest(voice.store.manifest), "units": voice.units_digest}
    return run_stage("vocoder", out, config=config, seed=seed, parents=parents, work=work, device=device)


def import_vocoder(config: PublishedConfig, acoustic: Tokenizer, out: Path) -> Artifact:
    """Convert a published unit vocoder to an artifact, whose weights need no unpickling.

    Raises:
        FormatError: it cannot be read.
        InputError: its units or its frame length are not those of the acoustic units.
    """

    def work(run: StageRun) -> None:
        vocoder = HiFiGanVocoder.load(config.path, device="cpu")
        grid = (acoustic.encoder.hop / acoustic.encoder.sample_rate, acoustic.num_units)
        own = (vocoder.net.shape.hop / vocoder.sample_rate, vocoder.num_units)
        if own[1] != grid[1] or abs(own[0] - grid[0]) > 1e-6:
            raise InputError(
                f"{config.path}: speaks {own[1]} units in frames of {1000 * own[0]:g} ms; the acoustic units are "
                f"{grid[1]} in frames of {1000 * grid[0]:g} ms"
            )
        HiFiGanVocoder(vocoder.net, acoustic.digest).save(run.folder)

    parents = {"published": digest_path(config.path), "acoustic": acoustic.digest}
    return run_stage("vocoder", out, config={}, seed=0, parents=parents, work=work, alone=True)


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

    def work(run: StageRun) -> None:
        with (
            open_writer(run.folder / SYLLABLES_FILE) as first,
            open_writer(run.folder / UNITS_FILE) as second,
            ProgressBar("units", len(manifest)) as bar,
        ):
            for begin in range(0, len(manifest), GROUP):
                group = manifest[begin : begin + GROUP]
                waves = [store[index] for index in range(begin, begin + len(group))]
                for recording, one, two in zip(group, syllables.encode(waves), acoustic.encode(waves), strict=True):
                    first.write(recording.id, recording.id, one)
                    second.write(recording.id, recording.id, two)
                bar.advance(len(group))

    return run_stage("units", out, config={}, seed=0, parents=parents, work=work, alone=True)


def make_stream(units: Artifact, info: StreamInfo, out: Path) -> Artifact:
    """Interleave the two unit streams of encoded recordings into packed tokens."""

    def work(run: StageRun) -> None:
        syllables = read_segmentations(units.file(SYLLABLES_FILE))
        acoustic = read_segmentations(units.file(UNITS_FILE))
        store = interleaved_store(((name, row, acoustic[name]) for name, row in syllables.items() if len(row)), info)
        store.save(run.folder)
        run.metrics.update(recordings=len(store), tokens=len(store.tokens), hours=store.seconds / 3600)

    return run_stage("tokens", out, config=info, seed=0, parents={"units": units.digest}, work=work, alone=True)
