"""SALMon: acoustic consistency and alignment (Maimon, Roth and Adi 2024, arXiv 2409.07437).

    FOLDER/speaker_consistency/sample_0_0.wav   FOLDER/speaker_consistency/sample_0_1.wav   FOLDER/bg_alignment/...

Each of the eight parts holds pairs sample_NUMBER_0, the right recording, and sample_NUMBER_1, the wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from syllablelm.core.errors import FormatError
from syllablelm.core.progress import note
from syllablelm.evaluate.lm.pairs import (
    AccuracyRow,
    Item,
    Pair,
    PairCounts,
    PairsResult,
    label_rows,
    list_pair_stems,
    make_pairs,
    refuse,
    rows_by_score,
)
from syllablelm.evaluate.lm.scorer import describe_protocol, score_recordings
from syllablelm.evaluate.lm.zerospeech import list_stems

PARTS = (
    "bg_alignment",
    "bg_all_consistency",
    "bg_domain_consistency",
    "gender_consistency",
    "rir_consistency",
    "sentiment_alignment",
    "sentiment_consistency",
    "speaker_consistency",
)
"""Folders of the benchmark."""


class SalmonResult(PairsResult):
    """Accuracy of each part of SALMon; the benchmark has no average over parts."""

    evaluation: ClassVar[str] = "salmon"


def evaluate_salmon(
    folder: str | Path, out: str | Path, *, resamples: int = 1000, seed: int = 0, **models: Any
) -> SalmonResult:
    """Measure how often a language model finds acoustically consistent or matching speech likelier (SALMon).

    Args:
        folder: folder of the benchmark's parts, or of one of them; parts that are not there are left out.
        out: folder of the scores ``salmon/FOLDER.txt``, where a stopped run resumes.
        resamples, seed, models: as for `evaluate_lexical`, with the same errors.
    """
    folder = Path(folder)
    pairs, files = read_salmon(folder)
    path = Path(out) / "salmon" / f"{folder.resolve().name}.txt"
    scores, facts = score_recordings("salmon", folder, path, list_pair_stems(pairs), pairs, files=files, **models)
    return SalmonResult(
        **facts,
        protocol=describe_protocol(models, ties="half", average="pairs of a part"),
        rows=rows_by_score(pairs, scores, partial(_part_rows, resamples=resamples, seed=seed)),
    )


def read_salmon(folder: Path) -> tuple[list[Pair], dict[str, Path]]:
    """Return the pairs of a folder in SALMon's layout, labelled by "part", and their files by "PART/NAME".

    Raises:
        FormatError: no part in the folder, names of another form, or recordings without their other.
    """
    parts = [folder] if folder.resolve().name in PARTS else [folder / part for part in PARTS]
    found = [part for part in parts if part.is_dir()]
    if not found:
        raise FormatError(f"{folder}: no part of SALMon in it; give the folder that holds {', '.join(PARTS[:2])}, ...")
    if missing := [part.name for part in parts if part not in found]:
        note(f"{folder}: without {', '.join(missing)}")
    pairs: list[Pair] = []
    files: dict[str, Path] = {}
    for part in found:
        name, stems = part.resolve().name, list_stems(part)
        fields = {stem: stem.split("_") for stem in stems}
        odd = [stem for stem, (_, *more) in fields.items() if len(more) != 2 or not all(map(str.isdecimal, more))]
        refuse(part, "a name that is not sample_NUMBER_OPTION", odd)
        pairs += make_pairs(
            [
                Item(f"{name}/{stem}", f"{name}/{number}", option == "0", labels={"part": name})
                for stem, (_, number, option) in fields.items()
            ],
            part,
        )
        files |= {f"{name}/{stem}": file for stem, file in stems.items()}
    return pairs, files


def _part_rows(pairs: Sequence[Pair], counts: Sequence[PairCounts], **options: int) -> list[AccuracyRow]:
    return label_rows("part", pairs, counts, PARTS, **options)
