"""tStoryCloze and sStoryCloze: a story with its ending against the same story with another one (FACTS A9).

The files of TWIST's SpokenStoryCloze are called ``<number>_<story>_correct.wav`` and
``<number>_<story>_incorrect.wav``; re-creations leave the number out. Recordings are paired by that name, never by the
order of the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from syllablelm.evaluate.lm.pairs import Item, Pair, PairCounts, accuracy_row, make_pairs, refuse
from syllablelm.evaluate.lm.zerospeech import list_stems

TieRule = Literal["half", "wrong"]
TIES: dict[TieRule, float] = {"half": 0.5, "wrong": 0.0}
"""What equal scores count: half a point, or nothing as in the scaling study's own program (FACTS C4)."""

_MARKS = {"correct": True, "incorrect": False}


def read_cloze(folder: Path) -> list[Pair]:
    """The pairs of a folder of stories, by their names.

    The two recordings of a story share what stands before ``_correct`` and ``_incorrect``; where they do not, because
    every file has a number of its own, they share the last field of it.

    Raises:
        FormatError: no recordings, a name without such an end, or recordings without their other; nothing is paired
            by guess.
    """
    return pair_stories(list_stems(folder), folder)


def pair_stories(stems: Iterable[str], place: object) -> list[Pair]:
    """Pair names as ``read_cloze`` does; ``place`` is for messages."""
    names = sorted(stems)
    split = {stem: stem.rpartition("_") for stem in names}
    refuse(
        place, "a name that ends in neither _correct nor _incorrect", [s for s in names if split[s][2] not in _MARKS]
    )
    refuse(place, "a name without a story", [stem for stem in names if not split[stem][0]])

    def by(story: Callable[[str], str]) -> list[Item]:
        return [Item(stem, story(split[stem][0]), _MARKS[split[stem][2]]) for stem in names]

    # If the first way pairs every recording, the second one cannot pair them otherwise: it only joins groups.
    ways = (by(lambda text: text), by(lambda text: text.rpartition("_")[2]))
    return make_pairs(max(ways, key=_count_complete), place)


def cloze_rows(counts: Sequence[PairCounts], *, resamples: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
    """The accuracy over all stories."""
    return [accuracy_row("all", "stories", counts, resamples=resamples, seed=seed)]


def _count_complete(items: Sequence[Item]) -> int:
    sides = Counter((item.pair, item.correct) for item in items)
    return sum(sides[pair, True] == sides[pair, False] == 1 for pair in {pair for pair, _ in sides})
