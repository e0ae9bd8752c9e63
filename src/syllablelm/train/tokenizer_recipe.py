"""The tokenizer's recipe: HuBERT iterations, SylBoost rounds, codebook."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from syllablelm.core.artifact import RECORD, Artifact, open_artifact
from syllablelm.core.config import check_seed, read_toml
from syllablelm.core.errors import InputError, check_fields
from syllablelm.data.corpus import Manifest, scan
from syllablelm.encoders.load import load_encoder, weights_digest
from syllablelm.train.batches import KNOWN_FILE, WaveformStore
from syllablelm.train.boundary_stage import FROM_STUDENT, WITH_HEAD, WITHOUT_ENCODER, BoundariesConfig, find_boundaries
from syllablelm.train.codebook_stage import CodebookConfig, train_codebook
from syllablelm.train.labels import LabelsConfig, make_labels
from syllablelm.train.pretrain import EncoderConfig, HeadConfig, fit_head, train_encoder
from syllablelm.train.processes import is_main, join, on_main
from syllablelm.train.stage import StageContext, external_encoder
from syllablelm.train.sylboost import SylBoostConfig, train_sylboost

Until = Literal["encoder", "losspred", "sylboost", "codebook"]
TOKENIZER = "tokenizer"


@dataclass(frozen=True)
class DataConfig:
    """The training corpus.

    Args:
        sources: folders, manifests or csv files, relative to the current folder.
        min_seconds, max_seconds: shortest and longest recording that is used.
    """

    sources: tuple[str, ...]
    min_seconds: float = 1.0
    max_seconds: float = 40.0

    def __post_init__(self) -> None:
        check_fields(self, "min_seconds max_seconds", least=0)
        if self.max_seconds < self.min_seconds:
            raise InputError(f"max_seconds {self.max_seconds}: less than min_seconds {self.min_seconds}")


@dataclass(frozen=True)
class Iteration:
    """One HuBERT iteration: labels, then masked prediction of them."""

    labels: LabelsConfig
    encoder: EncoderConfig


@dataclass(frozen=True)
class Head:
    """A prediction head for a teacher without one: labels of one of its layers, then the head fitted to them."""

    labels: LabelsConfig
    fit: HeadConfig


@dataclass(frozen=True)
class Round:
    """One SylBoost round: boundaries, then distillation to the means of their segments."""

    boundaries: BoundariesConfig
    sylboost: SylBoostConfig


@dataclass(frozen=True)
class TokenizerRecipe:
    """The stages of ``train all``, in their order.

    Args:
        name: name of the output folder below runs/.
        data: training corpus.
        codebook: clustering of segments, and the tokenizer's segmentation rule.
        iteration: iterations of masked prediction, from random weights or from an encoder; may be empty.
        teacher: pre-trained encoder that SylBoost learns from: a hub id, a folder that ``transformers`` opens, or a
            checkpoint file. If empty, the last iteration's encoder is the teacher; with both, only LossPred uses the
            last iteration's.
        teacher_sha256: ``weights_digest`` that the teacher must have; empty accepts any.
        head: prediction head that is fitted to a teacher without one, where a round's LossPred reads the teacher.
        round: SylBoost rounds; may be empty.
        seed: random seed of every stage.
    """

    name: str
    data: DataConfig
    codebook: CodebookConfig
    iteration: tuple[Iteration, ...] = ()
    teacher: str = ""
    teacher_sha256: str = ""
    head: Head | None = None
    round: tuple[Round, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.iteration and not self.teacher:
            raise InputError("a recipe needs [[iteration]] tables, or a teacher, or both")
        if self.teacher_sha256 and not self.teacher:
            raise InputError("teacher_sha256: this recipe has no teacher to check")
        if self.iteration and self.head is not None:
            raise InputError("a recipe with [[iteration]] tables has a prediction head; leave [head] out")
        check_seed(self.seed)
        last = self.iteration[-1].encoder if self.iteration and not self.teacher else None
        for layer in [step.sylboost.layer for step in self.round]:
            if last is not None and last.start == "random" and layer > last.shape.layers:
                raise InputError(f"sylboost.layer {layer}: the last iteration's encoder has {last.shape.layers} layers")


def read_corpus(config: DataConfig) -> Manifest:
    """Collect the recordings of all sources; what is left out is reported on standard error."""
    recordings, unusable = [], []
    for source in config.sources:
        manifest, skipped = scan(source)
        recordings.extend(manifest)
        unusable.extend(skipped)
    kept = [r for r in recordings if config.min_seconds <= r.seconds <= config.max_seconds]
    if not kept:
        raise InputError(f"data.sources: no usable recording in {', '.join(config.sources)}")
    corpus = Manifest(kept)
    if is_main():
        for bad in unusable:
            print(f"skipped {bad.path}: {bad.reason}", file=sys.stderr)
        for why, left_out in (
            (f"shorter than {config.min_seconds:g} s", [r for r in recordings if r.seconds < config.min_seconds]),
            (f"longer than {config.max_seconds:g} s", [r for r in recordings if r.seconds > config.max_seconds]),
        ):
            if left_out:
                hours = sum(recording.seconds for recording in left_out) / 3600
                cut = "; cut them: prepare corpus --segment vad" if why[0] == "l" else ""
                print(
                    f"left out: {len(left_out)} {why} ({hours:.2f} h), such as {left_out[0].id!r}{cut}", file=sys.stderr
                )
        print(f"corpus: {len(corpus)} recordings, {corpus.total_seconds / 3600:.2f} h", file=sys.stderr)
    return corpus


def train_tokenizer_recipe(
    recipe: TokenizerRecipe, out: Path, *, device: str = "auto", until: Until = "codebook"
) -> Artifact:
    """Run the stages of a tokenizer's recipe below ``out`` (``train_recipe``) and return the last one's artifact."""
    if not recipe.round and until in ("losspred", "sylboost"):
        raise InputError(f"this recipe has no [[round]], which {until} needs")
    join(device)
    context = StageContext(WaveformStore(read_corpus(recipe.data), known=out / KNOWN_FILE), recipe.seed, device)
    teacher = _open_teacher(recipe) if recipe.teacher else None
    encoder = None if recipe.iteration else teacher
    for number, step in enumerate(recipe.iteration, 1):
        folder = out / f"iteration{number}"
        labels = make_labels(step.labels, context, folder / "labels", encoder=encoder)
        encoder = train_encoder(step.encoder, context, labels, folder / "encoder", previous=encoder)
    if encoder is None:
        raise InputError("a recipe needs at least one [[iteration]] or a teacher")
    if until == "encoder":
        return encoder
    teacher, predictor, student = teacher or encoder, encoder, None
    # Boundaries of another encoder, or of another run, need no head of this teacher.
    heads = [b for b in (step.boundaries for step in recipe.round) if b.source in WITH_HEAD]
    if recipe.head is not None and not all(b.encoder or b.artifact for b in heads):
        folder = out / "head"
        labels = make_labels(recipe.head.labels, context, folder / "labels", encoder=teacher)
        predictor = fit_head(recipe.head.fit, context, teacher, labels, folder / "predictor")
    for number, step in enumerate(recipe.round, 1):
        folder = out / f"round{number}"
        if step.boundaries.artifact:
            boundaries = open_artifact(step.boundaries.artifact, "boundaries")
        else:
            source = _boundary_source(step.boundaries, teacher, predictor, student)
            boundaries = find_boundaries(step.boundaries, context, folder / "boundaries", encoder=source)
        if until == "losspred":
            return boundaries
        student = train_sylboost(step.sylboost, context, teacher, boundaries, folder / "encoder", previous=student)
    if until == "sylboost" and student is not None:
        return student
    return train_codebook(recipe.codebook, context, student or teacher, codebook_folder(out, recipe.codebook.units))


def codebook_folder(out: Path, units: int) -> Path:
    """Return ``out``/tokenizer, or where that holds a codebook of another size, ``out``/tokenizer_UNITS."""
    folder = out / TOKENIZER
    if not (folder / RECORD).is_file():
        return folder
    made = read_toml(open_artifact(folder, "tokenizer").file("config.toml")).get("units")
    return folder if made == units else out / f"{TOKENIZER}_{units}"


def _open_teacher(recipe: TokenizerRecipe) -> Artifact:
    if recipe.teacher_sha256:
        found = on_main(lambda: weights_digest(load_encoder(recipe.teacher, device="cpu")))
        if found != recipe.teacher_sha256:
            raise InputError(
                f"teacher {recipe.teacher}: its weights have SHA-256 {found}, the recipe wants "
                f"{recipe.teacher_sha256}: it is another model; get the right one, or change teacher_sha256"
            )
    return external_encoder(recipe.teacher)


def _boundary_source(
    config: BoundariesConfig, teacher: Artifact, predictor: Artifact, student: Artifact | None
) -> Artifact | None:
    """Return the model whose features give a round's boundaries."""
    if config.source in WITHOUT_ENCODER:
        return None
    if config.encoder:
        return external_encoder(config.encoder)
    if config.source in WITH_HEAD:
        return predictor
    return student if config.source in FROM_STUDENT and student is not None else teacher
