"""The vocoder's recipe: acoustic units, the vocoder of one voice, and the interleaved vocoder LM (section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from syllablelm.core.artifact import Artifact, digest_path
from syllablelm.core.config import check_seed
from syllablelm.core.errors import InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.corpus import Manifest
from syllablelm.formats import open_writer, read_segmentations
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.train.acoustic_stage import AcousticConfig, acoustic_tokenizer, fit_acoustic
from syllablelm.train.batches import WaveformStore
from syllablelm.train.hifigan_stage import HiFiGanConfig, train_hifigan
from syllablelm.train.lm_stage import LMConfig, train_lm
from syllablelm.train.pipeline import DataConfig, read_corpus
from syllablelm.train.processes import join
from syllablelm.train.spectral_stage import SpectralConfig, train_spectral
from syllablelm.train.stage import StageRun, manifest_digest, run_stage
from syllablelm.vocoder.acoustic import ACOUSTIC_FILE
from syllablelm.vocoder.hifigan import HiFiGanVocoder
from syllablelm.vocoder.interleave import StreamInfo, interleaved_store

# Recordings encoded together: enough for batches of like lengths.
GROUP = 64
SYLLABLES_FILE, UNITS_FILE = "syllables.jsonl", "acoustic.jsonl"


@dataclass(frozen=True)
class PublishedConfig:
    """A unit vocoder that others trained.

    Args:
        path: what ``HiFiGanVocoder.load`` opens: a folder with ``config.json`` and ``g_00500000``, say.
    """

    path: str


@dataclass(frozen=True)
class VocoderRecipe:
    """Everything that ``train vocoder`` does.

    Args:
        tokenizer: name or folder of the syllable tokenizer.
        data: recordings that the vocoder LM learns from, the voice among them or not.
        acoustic, vocoder_lm: stages.
        vocoder, hifigan, published: the light vocoder, the unit HiFi-GAN, or one that is there already; one of them.
        voice: recordings of the one voice that the vocoder speaks with; none for a published one.
    """

    name: str
    tokenizer: str
    data: DataConfig
    acoustic: AcousticConfig
    vocoder_lm: LMConfig
    voice: DataConfig | None = None
    vocoder: SpectralConfig | None = None
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
        the vocoder LM's artifact, the last one made.
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
    voice = read_corpus(data)
    store = WaveformStore(voice)
    units = make_units(voice, syllables, acoustic, centres, out / "voice_units", store=store)
    spoken = (voice, read_segmentations(units.file(UNITS_FILE)), recipe.acoustic.units, out / "vocoder")
    options = {"tokenizer": units.digest, "acoustic": acoustic.digest, "store": store, **options}
    if recipe.vocoder is not None:
        table = load_file(centres.file(ACOUSTIC_FILE))["centres"]
        train_spectral(recipe.vocoder, *spoken, centres=table, **options)
    if recipe.hifigan is not None:
        train_hifigan(recipe.hifigan, *spoken, **options)


def import_vocoder(config: PublishedConfig, acoustic: Tokenizer, out: Path) -> Artifact:
    """Take over a published unit vocoder; its weights need no unpickling from then on.

    Raises:
        FormatError: it cannot be read.
        InputError: it speaks other units, or frames of another length.
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
                waves = [store[begin + place] for place in range(len(group))]
                for recording, one, two in zip(group, syllables.encode(waves), acoustic.encode(waves), strict=True):
                    first.write(recording.id, recording.id, one)
                    second.write(recording.id, recording.id, two)
                bar.advance(len(group))

    return run_stage("units", out, config={}, seed=0, parents=parents, work=work, alone=True)


def make_stream(units: Artifact, info: StreamInfo, out: Path) -> Artifact:
    """The interleaved tokens of encoded recordings."""

    def work(run: StageRun) -> None:
        syllables = read_segmentations(units.file(SYLLABLES_FILE))
        acoustic = read_segmentations(units.file(UNITS_FILE))
        pairs: Mapping[str, tuple[Segmentation, Segmentation]] = {
            name: (row, acoustic[name]) for name, row in syllables.items() if len(row)
        }
        store = interleaved_store(((name, *pair) for name, pair in pairs.items()), info)
        store.save(run.folder)
        run.metrics.update(recordings=len(store), tokens=len(store.tokens), hours=store.seconds / 3600)

    return run_stage("tokens", out, config=info, seed=0, parents={"units": units.digest}, work=work, alone=True)
