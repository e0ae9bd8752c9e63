"""The whole chain by one recipe: HuBERT iterations, SylBoost rounds, codebook, tokenizer."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from syllablelm.artifact import Artifact
from syllablelm.corpus import Manifest, scan
from syllablelm.errors import InputError
from syllablelm.train.bootstrap import WITHOUT_ENCODER, BoundariesConfig, find_boundaries
from syllablelm.train.codebook import CodebookConfig, train_codebook
from syllablelm.train.data import WaveformStore
from syllablelm.train.encoder import EncoderConfig, train_encoder
from syllablelm.train.labels import LabelsConfig, make_labels
from syllablelm.train.sylboost import SylBoostConfig, train_sylboost


@dataclass(frozen=True)
class DataConfig:
    """The training corpus.

    Args:
        sources: folders, manifests or csv files, relative to the current folder.
        min_seconds, max_seconds: recordings outside are left out.
    """

    sources: tuple[str, ...]
    min_seconds: float = 1.0
    max_seconds: float = 40.0


@dataclass(frozen=True)
class Iteration:
    """One HuBERT iteration: labels, then masked prediction of them."""

    labels: LabelsConfig
    encoder: EncoderConfig


@dataclass(frozen=True)
class Round:
    """One SylBoost round: boundaries, then distillation to their group means."""

    boundaries: BoundariesConfig
    sylboost: SylBoostConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that ``train all`` does, in order."""

    name: str
    data: DataConfig
    iteration: tuple[Iteration, ...]
    round: tuple[Round, ...]
    codebook: CodebookConfig
    seed: int = 0


def read_corpus(config: DataConfig) -> Manifest:
    """Collect the recordings of all sources; unusable ones are counted on standard error.

    Raises:
        InputError: nothing usable is left.
    """
    recordings = []
    for source in config.sources:
        manifest, skipped = scan(source)
        for bad in skipped:
            print(f"skipped {bad.path}: {bad.reason}", file=sys.stderr)
        recordings.extend(manifest)
    kept = [r for r in recordings if config.min_seconds <= r.seconds <= config.max_seconds]
    if not kept:
        raise InputError(f"data.sources: no usable recording in {', '.join(config.sources)}")
    corpus = Manifest(kept)
    print(f"corpus: {len(corpus)} recordings, {corpus.total_seconds / 3600:.2f} h", file=sys.stderr)
    return corpus


def train_all(recipe: Recipe, out: Path, *, device: str = "auto") -> Artifact:
    """Run every stage of a recipe below ``out``; finished stages are skipped, a stopped one resumes.

    Returns:
        the tokenizer artifact.
    """
    corpus = read_corpus(recipe.data)
    store = WaveformStore(corpus)
    seed = recipe.seed
    encoder: Artifact | None = None
    for number, step in enumerate(recipe.iteration, 1):
        folder = out / f"iteration{number}"
        labels = make_labels(
            step.labels, corpus, folder / "labels", encoder=encoder, seed=seed, device=device, store=store
        )
        encoder = train_encoder(
            step.encoder,
            corpus,
            labels,
            folder / "encoder",
            previous=encoder,
            seed=seed,
            device=device,
            store=store,
        )
    if encoder is None:
        raise InputError("a recipe needs at least one [[iteration]]")
    teacher, student = encoder, None
    for number, step in enumerate(recipe.round, 1):
        folder = out / f"round{number}"
        boundaries = find_boundaries(
            step.boundaries,
            corpus,
            folder / "boundaries",
            encoder=_boundary_source(step.boundaries, teacher, student),
            seed=seed,
            device=device,
            store=store,
        )
        student = train_sylboost(
            step.sylboost,
            corpus,
            teacher,
            boundaries,
            folder / "encoder",
            previous=student,
            seed=seed,
            device=device,
            store=store,
        )
    return train_codebook(
        recipe.codebook, corpus, student or teacher, out / "tokenizer", seed=seed, device=device, store=store
    )


def _boundary_source(config: BoundariesConfig, teacher: Artifact, student: Artifact | None) -> Artifact | None:
    """The model that a round's boundaries are read from: none, the teacher, or the last round's student."""
    if config.source in WITHOUT_ENCODER:
        return None
    return student if config.source == "minsum" and student is not None else teacher
