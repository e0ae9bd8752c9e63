"""Word identity across voices: whether a spoken word lies nearer to itself in another voice than to a non-word.

An item compares a word in one voice with the same word and with its non-word in another voice. It is right where the
word is nearer; ties count one half. Distances come in two kinds: dynamic time warping over segment vectors, and edit
distance of units. Non-words are those of the set: `prepare wordlist` changes about a third of a word's phones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, plural
from syllablelm.data.audio import load_audio
from syllablelm.evaluate.edit_distance import edit_distance
from syllablelm.evaluate.lm.pairs import Item, PairCounts, accuracy_row, make_pairs
from syllablelm.evaluate.lm.zerospeech import check_stems, find_split, list_stems, read_gold

if TYPE_CHECKING:
    from syllablelm.tokenizer.tokenizer import Tokenizer

Vectors = npt.NDArray[np.floating]
COLUMNS = ("id", "filename", "voice", "correct", "phones")
# Recordings that are encoded together.
_GROUP = 64


@dataclass(frozen=True)
class SpokenWord:
    """A word and its non-word in several voices.

    Args:
        name: unique in its set.
        stems: (word, non-word) names of recordings by voice.
        changed: phones in which the non-word differs (edit distance).
    """

    name: str
    stems: Mapping[str, tuple[str, str]]
    changed: int = 0

    def comparisons(self) -> Iterator[tuple[tuple[str, str], tuple[str, str, str]]]:
        """Ordered pairs of voices, and the recordings compared: word in one, same word and non-word in the other."""
        for one, other in permutations(sorted(self.stems), 2):
            yield (one, other), (self.stems[one][0], *self.stems[other])


@dataclass(frozen=True)
class IdentityCounts:
    """Decisions of one kind of distance.

    Args:
        words: counts of each word, over all ordered pairs of voices.
        directions: the same of each ordered pair of voices apart.
    """

    words: tuple[PairCounts, ...]
    directions: Mapping[tuple[str, str], tuple[PairCounts, ...]]

    @property
    def total(self) -> PairCounts:
        """Counts of all words."""
        return PairCounts.merge(self.words)

    @property
    def accuracy(self) -> float:
        """Share of comparisons in which the same word is nearer, ties counting one half."""
        return self.total.accuracy


@dataclass(frozen=True)
class IdentityResult:
    """Word identity of a tokenizer.

    Args:
        vectors: by time warping over segment vectors.
        units: by edit distance of units; None without a codebook.
        voices: voices of the set.
        words: number of words.
        recordings: number of recordings.
        changed_phones: mean number of phones in which a non-word differs from its word.
    """

    vectors: IdentityCounts
    units: IdentityCounts | None
    voices: tuple[str, ...]
    words: int
    recordings: int
    changed_phones: float

    def rows(self, *, resamples: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
        """Accuracies with 95 % bootstrap intervals over words: all voices, then each ordered pair of voices."""
        rows = []
        for kind, counts in (("vectors", self.vectors), ("units", self.units)):
            if counts is not None:
                rows.append(accuracy_row(kind, "all", counts.words, resamples=resamples, seed=seed))
                rows += [
                    accuracy_row(kind, f"{one} to {other}", items, resamples=resamples, seed=seed)
                    for (one, other), items in counts.directions.items()
                ]
        return rows

    def to_dict(self, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
        """Accuracies of all voices, facts about the set, and `rows`."""
        rows = self.rows(resamples=resamples, seed=seed)
        facts = asdict(self) | {"voices": list(self.voices)}
        del facts["vectors"], facts["units"]
        return {
            "vector_accuracy": self.vectors.accuracy,
            "unit_accuracy": None if self.units is None else self.units.accuracy,
            **facts,
            "rows": rows,
        }


def word_identity(
    folder: Path,
    tokenizer: Tokenizer,
    *,
    split: str = "dev",
    progress: Callable[[int], None] = lambda count: None,
) -> IdentityResult:
    """Measure the word identity of a tokenizer on a set of spoken words and non-words.

    Args:
        folder: set in the layout that `prepare wordlist` writes, FOLDER/lexical/dev with gold.csv, of two or more
            voices; recordings hold one word each.
        tokenizer: its boundaries and pooling give the vectors, its codebook the units, deduplicated where its rule
            deduplicates.
        split: folder below FOLDER/lexical.
        progress: called with the number of recordings encoded, after each group.

    Raises:
        FormatError: a folder of another layout, or recordings that are not in its list.
        AudioError: a recording that cannot be read.
        InputError: no word in two voices, or recordings without a segment; names the first and gives their number.
    """
    place = find_split(folder, "lexical", split)
    words, files = read_words(place), list_stems(place)
    wanted = word_stems(words)
    check_stems(wanted, files.keys() & set(wanted), place)
    vectors: dict[str, Vectors] = {}
    units: dict[str, list[int]] = {}
    for first in range(0, len(wanted), _GROUP):
        group = wanted[first : first + _GROUP]
        features = tokenizer.features([load_audio(files[stem]) for stem in group])
        for stem, frames in zip(group, features, strict=True):
            vectors[stem] = tokenizer.pool(frames, tokenizer.boundaries(frames))
            unit = tokenizer.segment(frames).unit
            if unit is not None:
                units[stem] = unit.tolist()
        progress(len(group))
    empty = [stem for stem in wanted if not len(vectors[stem])]
    if empty:
        raise InputError(f"{place}: {plural(len(empty), 'recording')} without a segment, such as {empty[0]!r}")
    return IdentityResult(
        vectors=score_words(words, lambda a, b: dtw_distance(vectors[a], vectors[b])),
        units=score_words(words, lambda a, b: unit_distance(units[a], units[b])) if units else None,
        voices=tuple(sorted({voice for word in words for voice in word.stems})),
        words=len(words),
        recordings=len(wanted),
        changed_phones=float(np.mean([word.changed for word in words])),
    )


def word_stems(words: Iterable[SpokenWord]) -> list[str]:
    """Return the sorted names of the recordings of words and non-words."""
    return sorted({stem for word in words for couple in word.stems.values() for stem in couple})


def read_words(place: Path) -> list[SpokenWord]:
    """Read the words of a folder such as `lexical/dev` by its gold.csv, those that at least two voices speak.

    Raises:
        FormatError: no readable gold.csv, or one whose rows are not pairs of a word and a non-word.
        InputError: no word in two voices.
    """
    gold = read_gold(place, COLUMNS)
    pairs = make_pairs([Item(row["filename"], row["id"], row.correct, row["voice"]) for row in gold], place)
    rows = {row["filename"]: row for row in gold}
    words = []
    for pair in pairs:
        stems = {rows[right]["voice"]: (right, wrong) for right, wrong in pair.stems}
        right, wrong = pair.stems[0]
        changed = edit_distance(rows[right]["phones"].split(), rows[wrong]["phones"].split())
        if len(stems) > 1:
            words.append(SpokenWord(pair.name, stems, changed))
    if not words:
        raise InputError(f"{place}: no word in two voices; make the set with --voices A,B")
    return words


def score_words(words: Sequence[SpokenWord], distance: Callable[[str, str], float]) -> IdentityCounts:
    """Decide every comparison.

    Args:
        words: what to compare.
        distance: distance of two recordings, given their names.
    """
    counts: list[PairCounts] = []
    directions: dict[tuple[str, str], list[PairCounts]] = {}
    for word in words:
        scores = []
        for direction, (anchor, same, other) in word.comparisons():
            near, far = distance(anchor, same), distance(anchor, other)
            score = 0.5 if near == far else float(near < far)
            directions.setdefault(direction, []).append(PairCounts(score, 1, 1, int(near == far)))
            scores.append((score, near == far))
        points, ties = sum(score for score, _ in scores), sum(tie for _, tie in scores)
        counts.append(PairCounts(points / len(scores), 1, len(scores), ties))
    return IdentityCounts(tuple(counts), {key: tuple(value) for key, value in sorted(directions.items())})


def dtw_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the cost of the cheapest warping path between two sequences of vectors, over the sum of their lengths.

    A step costs 1 - cosine similarity of the vectors that it pairs; steps go forward in one sequence or in both.

    Args:
        a: (n, dim) vectors, n > 0.
        b: (m, dim) vectors, m > 0.

    Raises:
        InputError: another shape.
    """
    ours, theirs = _unit_length(a), _unit_length(b)
    if ours.shape[1] != theirs.shape[1]:
        raise InputError(f"vectors of {ours.shape[1]} and {theirs.shape[1]} dims cannot be compared")
    costs = 1.0 - ours @ theirs.T
    n, m = costs.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0.0
    # Along anti-diagonals i + j = k, whose entries depend on the two before only.
    for k in range(2, n + m + 1):
        i = np.arange(max(1, k - m), min(n, k - 1) + 1)
        j = k - i
        before = np.minimum(np.minimum(total[i - 1, j], total[i, j - 1]), total[i - 1, j - 1])
        total[i, j] = costs[i - 1, j - 1] + before
    return float(total[n, m]) / (n + m)


def unit_distance(a: Sequence[int], b: Sequence[int]) -> float:
    """Return the edit distance of two sequences of units over the sum of their lengths; 0.0 if both are empty."""
    return edit_distance(a, b) / (len(a) + len(b)) if len(a) or len(b) else 0.0


def _unit_length(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    vectors = np.asarray(values, dtype=np.float64)
    if vectors.ndim != 2 or not len(vectors):
        raise InputError(f"a sequence of vectors must have the shape (n, dim) with n > 0, not {vectors.shape}")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1.0)
