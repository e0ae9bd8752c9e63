"""tStoryCloze and sStoryCloze: a story with its ending against the same story with another one (FACTS A9).

The files of TWIST's SpokenStoryCloze are called ``<number>_<story>_correct.wav`` and
``<number>_<story>_incorrect.wav``; re-creations leave the number out. Recordings are paired by that name, never by the
order of the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from syllablelm.evaluate.lm import TieRule
from syllablelm.evaluate.lm.pairs import (
    Item,
    Pair,
    PairsResult,
    accuracy_row,
    list_pair_stems,
    make_pairs,
    refuse,
    rows_by_score,
)
from syllablelm.evaluate.lm.scorer import describe_protocol, score_recordings
from syllablelm.evaluate.lm.zerospeech import list_stems

TIES: dict[TieRule, float] = {"half": 0.5, "wrong": 0.0}
"""Score of a comparison of equal values: half a point, or nothing as in the scaling study's own program (FACTS C4)."""

_MARKS = {"correct": True, "incorrect": False}


class ClozeResult(PairsResult):
    """Accuracy on stories with their own and with another ending."""

    evaluation: ClassVar[str] = "cloze"


def evaluate_cloze(
    folder: str | Path, out: str | Path, *, ties: TieRule = "half", resamples: int = 1000, seed: int = 0, **models: Any
) -> ClozeResult:
    """Measure how often a language model finds a story's own ending likelier than another one.

    Args:
        folder: folder of recordings ``..._STORY_correct`` and ``..._STORY_incorrect``.
        out: folder of the scores ``cloze/FOLDER.txt``, where a stopped run resumes.
        ties: score of a comparison of equal values: "half" a point, or "wrong", none.
        resamples, seed, models: as for `evaluate_lexical`, with the same errors.
    """
    folder = Path(folder)
    pairs = read_cloze(folder)
    path = Path(out) / "cloze" / f"{folder.resolve().name}.txt"
    scores, facts = score_recordings("cloze", folder, path, list_pair_stems(pairs), pairs, **models)
    pairing = "by story in the file names"
    return ClozeResult(
        **facts,
        protocol=describe_protocol(models, ties=ties, pairing=pairing, average="stories"),
        rows=rows_by_score(
            pairs,
            scores,
            lambda _, counts: [accuracy_row("all", "stories", counts, resamples=resamples, seed=seed)],
            ties=TIES[ties],
        ),
    )


def read_cloze(folder: Path) -> list[Pair]:
    """Return the pairs of a folder of stories, by their names.

    The two recordings of a story share what stands before ``_correct`` and ``_incorrect``; where they do not, because
    every file has a number of its own, they share the last field of it.

    Raises:
        FormatError: no recordings, a name without such an end, or recordings without their other; nothing is paired
            by guess.
    """
    return pair_stories(list_stems(folder), folder)


def pair_stories(stems: Iterable[str], source: object) -> list[Pair]:
    """Pair names as ``read_cloze`` does; ``source`` is for messages."""
    names = sorted(stems)
    split = {stem: stem.rpartition("_") for stem in names}
    refuse(
        source, "a name that ends in neither _correct nor _incorrect", [s for s in names if split[s][2] not in _MARKS]
    )
    refuse(source, "a name without a story", [stem for stem in names if not split[stem][0]])

    def by(story: Callable[[str], str]) -> list[Item]:
        return [Item(stem, story(split[stem][0]), _MARKS[split[stem][2]]) for stem in names]

    # If the first way pairs every recording, the second one cannot pair them otherwise: it only joins groups.
    ways = (by(lambda text: text), by(lambda text: text.rpartition("_")[2]))
    return make_pairs(max(ways, key=_count_complete), source)


def _count_complete(items: Sequence[Item]) -> int:
    sides = Counter((item.pair, item.correct) for item in items)
    return sum(sides[pair, True] == sides[pair, False] == 1 for pair in {pair for pair, _ in sides})
