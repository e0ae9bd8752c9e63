"""The vocoder's recipe: acoustic units, the vocoder of one voice, and the interleaved vocoder LM (section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from syllablelm.core.artifact import Artifact, current_digest, digest_json, digest_path
from syllablelm.core.config import check_seed
from syllablelm.core.errors import LARGEST_SIZE, InputError, check_fields
from syllablelm.core.models import find_model
from syllablelm.core.progress import ProgressBar
from syllablelm.encoders.base import FrameEncoder
from syllablelm.encoders.device import pick_device
from syllablelm.encoders.load import load_encoder
from syllablelm.formats import open_writer, read_segmentations, units_digest
from syllablelm.lm.store import Interleaving, TokenInfo
from syllablelm.quantize import fit_kmeans
from syllablelm.quantize.codebook import read_codebook
from syllablelm.quantize.kmeans import Method
from syllablelm.tokenizer.tokenizer import CODEBOOK_FILE, Tokenizer
from syllablelm.train.batches import KNOWN_FILE, VoiceData, WaveformStore, iterate_features, load_arrays
from syllablelm.train.codebook_stage import MOST_UNITS
from syllablelm.train.hifigan_stage import HiFiGanConfig, fit_hifigan
from syllablelm.train.lm_stage import LMConfig, train_lm
from syllablelm.train.parallel_stage import SYLLABLES_FILE, WARP_FILE, ParallelConfig, warp_pairs
from syllablelm.train.processes import join
from syllablelm.train.source_filter_stage import SourceFilterConfig, WarpedVoice, fit_source_filter
from syllablelm.train.stage import StageContext, StageRun, external_encoder, run_stage
from syllablelm.train.token_stage import EncodedConfig, check_maker, make_stream, tokenizer_info
from syllablelm.train.tokenizer_recipe import DataConfig, read_corpus
from syllablelm.vocoder.acoustic import ACOUSTIC_FILE, Source, acoustic_encoder, frame_units, open_acoustic
from syllablelm.vocoder.hifigan import HiFiGanVocoder
from syllablelm.vocoder.interleave import StreamInfo

# Number of recordings encoded together: enough for batches of similar lengths.
GROUP = 64
UNITS_FILE = "acoustic.jsonl"


@dataclass(frozen=True)
class AcousticConfig:
    """Acoustic units: clusters of frames.

    Args:
        tokenizer: folder of a tokenizer of frames, whose units these are; the other keys are then left out.
        source: "encoder" for a layer of an encoder, "mfcc" for cepstra standardised over the clip.
        encoder: encoder for ``load_encoder`` (default: that of the syllable tokenizer).
        layer: layer of the encoder, from 1.
        normalize, pad: options of ``load_encoder`` (default: the checkpoint's).
        centres: .npy or .safetensors file of centres (units, dim) (default: fit them).
        units: number of clusters.
        frames: maximum number of frames to which k-means is fitted, evenly spaced.
        kmeans: k-means algorithm.
    """

    tokenizer: str = ""
    source: Source = "encoder"
    encoder: str | None = None
    layer: int = 1
    normalize: bool | None = None
    pad: int | None = None
    centres: str | None = None
    units: int = 200
    frames: int = 200_000
    kmeans: Method = "minibatch"

    def __post_init__(self) -> None:
        check_fields(self, "layer", least=1, most=LARGEST_SIZE)
        check_fields(self, "units", least=1, most=MOST_UNITS)
        check_fields(self, "frames", least=1)
        check_fields(self, "pad", least=0)
        if self.tokenizer and any(getattr(self, key.name) != key.default for key in fields(self)[1:]):
            raise InputError("acoustic.tokenizer: the units are those of the tokenizer; leave the other keys out")
        if self.source == "mfcc" and self.encoder is not None:
            raise InputError('acoustic.encoder: cepstra need none; leave it out, or set source = "encoder"')
        if self.encoder is None and (self.normalize is not None or self.pad is not None):
            raise InputError("acoustic.normalize and acoustic.pad: belong to acoustic.encoder, which is not given")


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
        encoded: instead of that, their units.
        acoustic: acoustic units.
        vocoder_lm: interleaved language model; without it, data and acoustic, the vocoder speaks the tokenizer's units.
        interleaving: order of its tokens: "time", or "ella-v" as in the paper (``vocoder.interleave``).
        parallel: real recordings that the voice speaks too, for a source-filter vocoder of syllables.
        voice: recordings of the vocoder's voice; none for a published vocoder.
        vocoder, hifigan, published: source-filter vocoder, unit HiFi-GAN, or a published vocoder; one of them.
        seed: random seed.
    """

    name: str
    tokenizer: str
    data: DataConfig | None = None
    encoded: EncodedConfig | None = None
    acoustic: AcousticConfig | None = None
    vocoder_lm: LMConfig | None = None
    interleaving: Interleaving = "time"
    parallel: ParallelConfig | None = None
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
        source = self.data or self.encoded
        if len({source is None, self.acoustic is None, self.vocoder_lm is None}) > 1:
            raise InputError("a vocoder's recipe has all of the tables [data], [acoustic] and [vocoder_lm], or none")
        if self.encoded is not None and self.data is not None:
            raise InputError("a vocoder's recipe has a table [data] or a table [encoded], not both")
        if self.encoded is not None and self.acoustic is not None and not self.acoustic.tokenizer:
            raise InputError("[encoded] needs acoustic.tokenizer, the tokenizer that made the acoustic units")
        if self.vocoder_lm is None and self.hifigan is not None:
            raise InputError("a vocoder's recipe with [hifigan] speaks acoustic units; add [acoustic] and [vocoder_lm]")
        if self.parallel is not None and self.vocoder_lm is not None:
            raise InputError("[parallel] is for vocoders of syllables; leave it out, or [acoustic] and [vocoder_lm]")
        check_seed(self.seed)


def train_vocoder_recipe(recipe: VocoderRecipe, out: Path, *, device: str = "auto") -> Artifact:
    """Run the stages of a vocoder's recipe below ``out``; finished ones are skipped.

    Returns:
        the artifact of the last stage: the vocoder LM, or the vocoder of syllables.
    """
    join(device)
    if recipe.encoded is not None and recipe.acoustic is not None:
        return _train_on_encoded(recipe, recipe.encoded, recipe.acoustic, out, device)
    syllables = Tokenizer.load(recipe.tokenizer, device=device)
    if recipe.published is not None and recipe.vocoder_lm is None:
        return import_vocoder(recipe.published, syllables, out / "vocoder")
    if recipe.data is None or recipe.acoustic is None or recipe.vocoder_lm is None:
        return _train_on_syllables(recipe, syllables, out, device)
    store = WaveformStore(read_corpus(recipe.data), budget_bytes=0, known=out / KNOWN_FILE)
    context = StageContext(store, recipe.seed, device)
    centres = fit_acoustic(recipe.acoustic, context, syllables, recipe.tokenizer, out / "acoustic")
    acoustic = acoustic_tokenizer(recipe.acoustic, centres, recipe.tokenizer, device=device)
    both = {SYLLABLES_FILE: syllables, UNITS_FILE: acoustic}
    digests = {"syllables": syllables.digest, "acoustic": current_digest(centres)}
    _make_vocoder(recipe, acoustic, both, digests, out, device)
    units = make_units(context.store, both, digests, out / "units")
    grid = syllables.encoder.hop, syllables.encoder.sample_rate
    info = TokenInfo(syllables.num_units or 0, 0, *grid, syllables.digest)
    files = EncodedConfig((str(units.file(SYLLABLES_FILE)),), (str(units.file(UNITS_FILE)),))
    return _train_stream(recipe, files, info, acoustic, {"units": current_digest(units)}, out, device)


def _train_on_encoded(
    recipe: VocoderRecipe, encoded: EncodedConfig, config: AcousticConfig, out: Path, device: str
) -> Artifact:
    """Train on units that were made beforehand."""
    for source in (*encoded.syllables, *encoded.acoustic):
        if not Path(source).exists():
            raise InputError(
                f"{source}: no such units; make them: syllablelm encode MANIFEST --model {recipe.tokenizer} "
                f"--acoustic {config.tokenizer} --out FOLDER"
            )
    info = tokenizer_info(recipe.tokenizer)
    made = import_acoustic(config, out / "acoustic", device=device)
    acoustic = open_acoustic(made.path, device=device)
    check_maker(encoded.syllables, info.tokenizer, "tokenizer")
    check_maker(encoded.acoustic, made.record["parents"]["acoustic"], "acoustic.tokenizer")
    _make_vocoder(recipe, acoustic, {UNITS_FILE: acoustic}, {"acoustic": current_digest(made)}, out, device)
    sides = {"syllables": encoded.syllables, "acoustic": encoded.acoustic}
    parents = {side: digest_json([units_digest(path) for path in paths]) for side, paths in sides.items()}
    return _train_stream(recipe, encoded, info, acoustic, parents, out, device)


def _train_stream(
    recipe: VocoderRecipe,
    units: EncodedConfig,
    info: TokenInfo,
    acoustic: Tokenizer,
    parents: Mapping[str, str],
    out: Path,
    device: str,
) -> Artifact:
    """Interleave units, and train the vocoder LM."""
    if recipe.vocoder_lm is None:
        raise InputError("a vocoder's recipe without [vocoder_lm] interleaves nothing")
    grid = acoustic.encoder.hop, acoustic.encoder.sample_rate, info.hop
    sizes = info.num_tokens, acoustic.num_units or 0
    stream = StreamInfo(*sizes, *grid, info.tokenizer, acoustic.digest, recipe.interleaving)
    # An order that cannot be cropped in training is cut before it is interleaved.
    keys = ("crop_seconds", "row_tokens") if stream.has_ends else ()
    tokens = make_stream(
        units, stream, out / "stream", parents, **{key: getattr(recipe.vocoder_lm, key) for key in keys}
    )
    return train_lm(recipe.vocoder_lm, tokens, out / "vocoder_lm", seed=recipe.seed, device=device)


def _make_vocoder(
    recipe: VocoderRecipe,
    acoustic: Tokenizer,
    tokenizers: Mapping[str, Tokenizer],
    digests: Mapping[str, str],
    out: Path,
    device: str,
) -> None:
    """Convert the published unit vocoder, or train one on the voice, whose units ``tokenizers`` make."""
    if recipe.published is not None:
        import_vocoder(recipe.published, acoustic, out / "vocoder")
    if recipe.voice is not None:
        store = WaveformStore(read_corpus(recipe.voice), known=out / KNOWN_FILE)
        units = make_units(store, tokenizers, digests, out / "voice_units")
        rows = read_segmentations(units.file(UNITS_FILE))
        table = None if acoustic.codebook is None else acoustic.codebook.unit_centres()
        voice = VoiceData(store, rows, acoustic.num_units or 0, current_digest(units), acoustic.digest, table)
        config = recipe.vocoder or recipe.hifigan
        if config is not None:
            train_vocoder(config, voice, out / "vocoder", seed=recipe.seed, device=device)


def _train_on_syllables(recipe: VocoderRecipe, syllables: Tokenizer, out: Path, device: str) -> Artifact:
    """Train a source-filter vocoder on syllables themselves, and on those of real recordings that the voice speaks."""
    if recipe.voice is None or recipe.vocoder is None or syllables.codebook is None:
        raise InputError(f"{recipe.tokenizer}: has no codebook, so no units to speak")
    known = out / KNOWN_FILE
    store, warped = WaveformStore(read_corpus(recipe.voice), budget_bytes=0, known=known), None
    units = make_units(store, {SYLLABLES_FILE: syllables}, {"syllables": syllables.digest}, out / "voice_units")
    if recipe.parallel is not None:
        parallel = recipe.parallel
        real, spoken = (
            WaveformStore(read_corpus(parallel.data(part)), budget_bytes=0, known=known)
            for part in (parallel.sources, parallel.spoken)
        )
        warp = warp_pairs(real, spoken, syllables, out / "warp")
        rows = read_segmentations(warp.file(SYLLABLES_FILE))
        warps = load_arrays(warp.file(WARP_FILE))
        warped = WarpedVoice(spoken, rows, warps, parallel.repeat, current_digest(warp))
    rows = read_segmentations(units.file(SYLLABLES_FILE))
    centres = syllables.codebook.unit_centres()
    voice = VoiceData(store, rows, syllables.num_units or 0, current_digest(units), syllables.digest, centres)
    return train_vocoder(recipe.vocoder, voice, out / "vocoder", seed=recipe.seed, device=device, warped=warped)


def fit_acoustic(config: AcousticConfig, context: StageContext, tokenizer: Tokenizer, name: str, out: Path) -> Artifact:
    """Fit the centres of the acoustic units to frames of a corpus, or copy given ones.

    Args:
        tokenizer, name: syllable tokenizer and its name; its encoder is used unless ``config`` names one.
    """
    if config.tokenizer:
        return import_acoustic(config, out, device=context.device)
    parents = {"tokenizer": tokenizer.digest}
    if config.centres is None:
        parents["corpus"] = context.store.digest
    else:
        parents["centres"] = digest_path(config.centres)
    if config.encoder is not None:
        parents["encoder"] = external_encoder(config.encoder).digest

    def work(run: StageRun) -> None:
        encoder = _open_encoder(config, name, context.device)
        if config.centres is None:
            share = max(1, round(context.manifest.total_seconds * encoder.sample_rate / encoder.hop / config.frames))
            features = iterate_features(context.store, encoder, label="acoustic")
            frames = [feats[i % share :: share] for i, feats in features]
            options = {"method": config.kmeans, "seed": context.seed, "device": pick_device(context.device)}
            centres = fit_kmeans(np.concatenate(frames), config.units, **options)
            run.metrics["frames"] = sum(len(rows) for rows in frames)
        else:
            centres = read_codebook(config.centres).centres
            if len(centres) != config.units:
                raise InputError(f"{config.centres}: {len(centres)} centres, but acoustic.units is {config.units}")
        metadata = {"source": config.source, "layer": str(config.layer)}
        save_file({"centres": centres}, run.folder / ACOUSTIC_FILE, metadata=metadata)
        if config.encoder is not None:
            frame_units(encoder, run.folder / ACOUSTIC_FILE, "").write_payload(run.folder)

    options: dict[str, Any] = {"seed": context.seed, "device": context.device, "alone": True}
    return run_stage("acoustic", out, config=config, parents=parents, work=work, **options)


def import_acoustic(config: AcousticConfig, out: Path, *, device: str = "auto") -> Artifact:
    """Copy a tokenizer of frames as the acoustic units, with its digest as the parent "acoustic"."""
    tokenizer = Tokenizer.load(config.tokenizer, device="cpu")
    if tokenizer.rule.method != "frames" or tokenizer.codebook is None or tokenizer.codec is not None:
        raise InputError(
            f"{config.tokenizer}: its segments are not single frames; acoustic units are clusters of frames"
        )

    def work(run: StageRun) -> None:
        tokenizer.write_payload(run.folder)

    parents = {"acoustic": tokenizer.digest}
    return run_stage("acoustic", out, config={}, seed=0, parents=parents, work=work, device=device, alone=True)


def acoustic_tokenizer(config: AcousticConfig, artifact: Artifact, name: str, *, device: str = "auto") -> Tokenizer:
    """Return the tokenizer of the units that ``fit_acoustic`` made."""
    if (artifact.path / CODEBOOK_FILE).exists():
        return open_acoustic(artifact.path, device=device)
    path = artifact.file(ACOUSTIC_FILE)
    return frame_units(_open_encoder(config, name, device), path, digest_path(path))


def _open_encoder(config: AcousticConfig, name: str, device: str) -> FrameEncoder:
    if config.encoder is None:
        return acoustic_encoder(find_model(name), config.source, config.layer, device=device)
    options: Any = {"device": device, "normalize": config.normalize, "pad": config.pad}
    return load_encoder(config.encoder, config.layer, **options)


def train_vocoder(
    config: SourceFilterConfig | HiFiGanConfig,
    voice: VoiceData,
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    warped: WarpedVoice | None = None,
) -> Artifact:
    """Train a unit vocoder on one voice; a source-filter vocoder on warped recordings of it too."""

    def work(run: StageRun) -> None:
        torch.manual_seed(seed)
        if isinstance(config, HiFiGanConfig):
            fit_hifigan(config, voice, run).save(run.folder)
        else:
            fit_source_filter(config, voice, run, warped).save(run.folder)

    parents = {"corpus": voice.store.digest, "units": voice.units_digest}
    if warped is not None:
        parents |= {"spoken": warped.spoken.digest, "warp": warped.digest, "repeat": str(warped.repeat)}
    return run_stage("vocoder", out, config=config, seed=seed, parents=parents, work=work, device=device)


def import_vocoder(config: PublishedConfig, acoustic: Tokenizer, out: Path) -> Artifact:
    """Convert a published unit vocoder to an artifact, whose weights need no unpickling."""

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
    store: WaveformStore, tokenizers: Mapping[str, Tokenizer], digests: Mapping[str, str], out: Path
) -> Artifact:
    """Encode every recording by each tokenizer into the file of its name: ``syllables.jsonl``, ``acoustic.jsonl``.

    ``digests`` are those of what makes the units, by name.
    """
    manifest, parents = store.manifest, {"corpus": store.digest, **digests}

    def work(run: StageRun) -> None:
        with ExitStack() as files, ProgressBar("units", len(manifest)) as bar:
            writers = [(files.enter_context(open_writer(run.folder / name)), t) for name, t in tokenizers.items()]
            for begin in range(0, len(manifest), GROUP):
                group = manifest[begin : begin + GROUP]
                waves = [store[index] for index in range(begin, begin + len(group))]
                for writer, tokenizer in writers:
                    for recording, row in zip(group, tokenizer.encode(waves), strict=True):
                        writer.write(recording.id, recording.id, row)
                bar.advance(len(group))

    return run_stage("units", out, config={}, seed=0, parents=parents, work=work, alone=True)
