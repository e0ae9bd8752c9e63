"""Compare first boundaries by their own score and by the scores of students trained on them (Table 4, extended).

Run: python examples/compare_bootstraps.py --encoder runs/tiny/iteration2/encoder \\
         --manifest data/librispeech/train.csv --alignments data/librispeech/train.alignments.jsonl \\
         --every 9 --steps 60 --rounds 2 --gap 50 --out runs/bootstraps

Every Nth recording is segmented by each source, and a SylBoost student learns each segmentation under the same
settings; later rounds take their boundaries from MinSum on the student, as in the paper. "itself" is the score of the
first boundaries on those recordings; teacher and students are scored on other recordings (every ninth from the fifth),
with as many segments as the reference has. All numbers are boundary F1 at 50 ms against syllables with 95 % bootstrap
intervals over recordings. Alignments are used for the scores only. Finished stages are kept in --out, where a stopped
run resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from syllablelm.core.artifact import Artifact
from syllablelm.core.document import format_table
from syllablelm.core.errors import InputError, SyllableLMError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, read_alignments
from syllablelm.data.corpus import Manifest, scan
from syllablelm.encoders import MaskedPredictor, load_encoder
from syllablelm.evaluate.boundaries.comparison import (
    BoundaryRow,
    compare_segmentations,
    reference_count,
    segment_corpus,
)
from syllablelm.segment.segmenter import make_segmenter
from syllablelm.train.batches import WaveformStore
from syllablelm.train.boundary_stage import BoundariesConfig, find_boundaries, read_boundaries
from syllablelm.train.loop import LoopConfig
from syllablelm.train.stage import StageContext, external_encoder
from syllablelm.train.sylboost import SylBoostConfig, train_sylboost

SOURCES = ("similarity", "envelope", "strength", "losspred", "combined")
HELD_OUT = slice(4, None, 9)
METHODS = {"minsum": "MinSum", "peaks": "peaks"}


@dataclass(frozen=True)
class Settings:
    """Settings that all students share.

    Args:
        layer: layer of the teacher and the student, 1-based; its similarity is segmented too.
        rate: segments per second while training.
        gap: visible frames between two spans that LossPred masks in one pass; a smaller gap needs fewer passes.
        steps, lr, batch_seconds, crop_seconds, precision: training of a round.
        rounds: number of rounds.
        normalize: standardise every waveform; as the teacher does, in the command.
        seed: random seed.
        device: "auto", "cpu" or "cuda".
    """

    layer: int = 4
    rate: float = 4.7
    gap: int = 150
    steps: int = 60
    rounds: int = 1
    lr: float = 1e-3
    batch_seconds: float = 48.0
    crop_seconds: float = 6.0
    precision: str = "auto"
    normalize: bool = False
    seed: int = 0
    device: str = "auto"

    def boundaries(self, source: str) -> BoundariesConfig:
        """Return the configuration of the boundary stage."""
        return BoundariesConfig(source=source, rate=self.rate, layer=self.layer, gap=self.gap)  # type: ignore[arg-type]

    def sylboost(self, number: int) -> SylBoostConfig:
        """Return the configuration of a round, counted from 1."""
        loop = LoopConfig(self.steps, self.lr, 0.1, batch_seconds=self.batch_seconds, precision=self.precision)  # type: ignore[arg-type]
        student = "teacher" if number == 1 else "previous"
        options = {"whiten": True, "normalize": self.normalize, "crop_seconds": self.crop_seconds}
        return SylBoostConfig(loop, self.layer, student, **options)  # type: ignore[arg-type]


def split(manifest: Manifest, references: Mapping[str, Alignment], every: int) -> tuple[Manifest, Manifest]:
    """Return the recordings to train on, and others with an alignment to score on.

    Raises:
        InputError: one of the lists is empty.
    """
    training = manifest[::every]
    used = {recording.id for recording in training}
    held_out = manifest[HELD_OUT].filter(lambda recording: recording.id not in used and recording.id in references)
    if not held_out or not used & references.keys():
        raise InputError(
            f"{len(manifest)} recordings, {len(references)} alignments: none is left to score on; "
            "give more recordings, another --every, or the alignments of these recordings"
        )
    return training, held_out


def run_rounds(
    source: str, store: WaveformStore, teacher: Artifact, settings: Settings, out: Path
) -> tuple[Artifact, list[Artifact]]:
    """Return the first boundaries of a source and the student of each round."""
    boundaries, students = [], []
    for number in range(1, settings.rounds + 1):
        folder = out / source / f"round{number}"
        config = settings.boundaries("minsum" if students else source)
        previous = students[-1] if students else None
        needed = previous or (None if source in ("envelope", "strength") else teacher)
        context = StageContext(store, settings.seed, settings.device)
        boundaries.append(find_boundaries(config, context, folder / "boundaries", encoder=needed))
        inputs = (context, teacher, boundaries[-1], folder / "encoder")
        students.append(train_sylboost(settings.sylboost(number), *inputs, previous=previous))
    return boundaries[0], students


def score_first(boundaries: Artifact, references: Mapping[str, Alignment], resamples: int = 1000) -> str:
    """Return the score of the first boundaries themselves."""
    found = {id: Segmentation.from_boundaries(edges) for id, edges in read_boundaries(boundaries).items()}
    aligned = {id: segmentation for id, segmentation in found.items() if id in references}
    (row,) = compare_segmentations({"itself": aligned}, references).rows(resamples=resamples)
    return cell(row)


def score_encoder(
    encoder: Artifact,
    held_out: Manifest,
    references: Mapping[str, Alignment],
    settings: Settings,
    resamples: int = 1000,
) -> dict[str, str]:
    """Return the score of an encoder's features by each segmentation method."""
    model = load_encoder(encoder.path, settings.layer, device=settings.device)
    segmenters = {name: make_segmenter(name, encoder=model) for name in METHODS}
    found = segment_corpus(held_out, segmenters, reference_count(references))
    rows = compare_segmentations(found, references).rows(resamples=resamples)
    return {row.segmenter: cell(row) for row in rows}


def cell(row: BoundaryRow) -> str:
    """Return F1 at 50 ms with its interval: ".628 (.601 to .655)"."""
    value, low, high = (f"{number:.3f}".removeprefix("0") for number in (row.f1_50, row.f1_low, row.f1_high))
    return f"{value} ({low} to {high})"


def compare(
    sources: Sequence[str],
    training: Manifest,
    held_out: Manifest,
    references: Mapping[str, Alignment],
    teacher: Artifact,
    settings: Settings,
    out: Path,
) -> str:
    """Train and score everything, and return the Markdown table."""
    if {"losspred", "combined"} & set(sources):
        # A missing head is reported before anything is trained.
        MaskedPredictor.load(teacher.path, device="cpu")
    store = WaveformStore(training)
    scores = score_encoder(teacher, held_out, references, settings)
    teacher_row = {f"round 1, {METHODS[method]}": text for method, text in scores.items()}
    rows = [{"first boundaries": "(teacher)", **teacher_row}]
    for source in sources:
        first, students = run_rounds(source, store, teacher, settings, out)
        row = {"first boundaries": source, "itself": score_first(first, references)}
        for number, student in enumerate(students, 1):
            scores = score_encoder(student, held_out, references, settings)
            row |= {f"round {number}, {METHODS[method]}": text for method, text in scores.items()}
        rows.append(row)
    columns = ["first boundaries", "itself"]
    columns += [f"round {number}, {name}" for number in range(1, settings.rounds + 1) for name in METHODS.values()]
    return format_table(rows, columns, style="markdown")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; returns the exit status."""
    default = Settings()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoder", required=True, help="Teacher with its prediction head: folder or hub id.")
    parser.add_argument("--manifest", required=True, help="Manifest or folder of recordings.")
    parser.add_argument("--alignments", required=True, type=Path, help="Reference alignments of these recordings.")
    parser.add_argument("--out", required=True, type=Path, help="Output directory.")
    parser.add_argument("--every", type=int, default=9, help="Train on every Nth recording.")
    parser.add_argument("--sources", default=",".join(SOURCES), help="First boundaries, comma-separated.")
    for name in ("layer", "rate", "gap", "steps", "rounds", "lr", "batch_seconds", "crop_seconds", "seed"):
        value = getattr(default, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--precision", default=default.precision, choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--device", default=default.device)
    options = parser.parse_args(arguments)
    settings = Settings(**{name: getattr(options, name) for name in vars(default) if name != "normalize"})
    sources = options.sources.split(",")
    if options.every < 1 or settings.rounds < 1 or set(sources) - set(SOURCES):
        parser.error(f"--every and --rounds must be at least 1, --sources some of {','.join(SOURCES)}")
    try:
        references = read_alignments(options.alignments)
        training, held_out = split(scan(options.manifest)[0], references, options.every)
        teacher = external_encoder(options.encoder)
        hears = getattr(load_encoder(teacher.path, settings.layer, device="cpu"), "normalize", False)
        settings = replace(settings, normalize=hears)
        table = compare(sources, training, held_out, references, teacher, settings, options.out)
    except SyllableLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Boundary F1 at 50 ms; trained on {len(training)} recordings ({training.total_seconds:.0f} s), ", end="")
    print(f"students scored on {len(held_out)} others ({held_out.total_seconds:.0f} s).\n\n{table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
