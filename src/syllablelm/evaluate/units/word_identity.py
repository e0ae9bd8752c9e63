"""Word identity across voices: whether a spoken word is nearer to itself in another voice than to a non-word.

An item compares a word in one voice with the same word and with its non-word in another voice. It is right where the
word is nearer; ties count one half. There are two distances: dynamic time warping over segment vectors, and edit
distance of units. Non-words are those of the set: `prepare wordlist` changes about a third of a word's phones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.core.progress import ProgressBar
from syllablelm.core.results import Result
from syllablelm.data.audio import load_audio
from syllablelm.evaluate.edit_distance import edit_distance
from syllablelm.evaluate.lists import Model, open_model, refuse_recordings
from syllablelm.evaluate.lm.pairs import AccuracyRow, Item, PairCounts, PairsData, accuracy_row, make_pairs
from syllablelm.evaluate.lm.zerospeech import check_stems, find_split, is_correct, list_stems, open_set_name, read_gold

Vectors = npt.NDArray[np.floating]
COLUMNS = ("id", "filename", "voice", "correct", "phones")
# Number of recordings encoded together.
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
class IdentityResult(Result):
    """Word identity of a tokenizer.

    Args:
        model, data: the tokenizer, and the set of spoken words.
        vector_accuracy: share of comparisons in which the same word is nearer, by time warping over segment vectors.
        unit_accuracy: the same by edit distance of units; None without a codebook.
        voices, words, recordings: voices of the set, and numbers of words and recordings.
        changed_phones: mean number of phones in which a non-word differs from its word.
        rows: accuracies with 95 % bootstrap intervals over words, of group "vectors" and "units": all voices, then
            each ordered pair of voices.
    """

    evaluation: ClassVar[str] = "identity"

    model: str
    data: PairsData
    vector_accuracy: float
    unit_accuracy: float | None
    voices: tuple[str, ...]
    words: int
    recordings: int
    changed_phones: float
    rows: tuple[AccuracyRow, ...]


def evaluate_identity(
    folder: str | os.PathLike[str],
    model: Model = "small",
    *,
    rate: float | None = None,
    split: str = "dev",
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> IdentityResult:
    """Measure the word identity of a tokenizer on a set of spoken words and non-words.

    Args:
        folder: set in the layout that `prepare wordlist` writes, FOLDER/lexical/dev with gold.csv, of two or more
            voices; recordings hold one word each.
        model, rate, resamples, seed, device: see `syllablelm.evaluate`. The tokenizer's segments and pooling give the
            vectors, its codebook the units, deduplicated where its rule deduplicates.
        split: folder below FOLDER/lexical.

    Raises:
        FormatError: a folder of another layout, or recordings that are not in its list.
        AudioError: a recording that cannot be read.
        InputError: no word in two voices, or recordings without a segment.
    """
    directory = find_split(Path(folder), "lexical", split)
    words, files = read_words(directory), list_stems(directory)
    wanted = word_stems(words)
    check_stems(wanted, files.keys() & set(wanted), directory)
    name, tokenizer = open_model(model, rate=rate, device=device)
    vectors: dict[str, Vectors] = {}
    units: dict[str, list[int]] = {}
    with ProgressBar("identity", len(wanted), closing_line=False) as bar:
        for first in range(0, len(wanted), _GROUP):
            group = wanted[first : first + _GROUP]
            features = tokenizer.features([load_audio(files[stem]) for stem in group])
            for stem, frames in zip(group, features, strict=True):
                spans = tokenizer.spans(frames)
                vectors[stem] = tokenizer.pool(frames, spans)
                unit = tokenizer.segment(frames, spans).unit
                if unit is not None:
                    units[stem] = unit.tolist()
            bar.advance(len(group))
    refuse_recordings(f"{directory}:", [stem for stem in wanted if not len(vectors[stem])], " without a segment")
    kinds = {"vectors": score_words(words, lambda a, b: dtw_distance(vectors[a], vectors[b]))}
    if units:
        kinds["units"] = score_words(words, lambda a, b: unit_distance(units[a], units[b]))
    rows = {
        (kind, voices): accuracy_row(kind, voices, counts, resamples=resamples, seed=seed)
        for kind, decided in kinds.items()
        for voices, counts in decided.items()
    }
    return IdentityResult(
        model=name,
        data=PairsData(os.fspath(folder), open_set_name(directory), len(wanted)),
        vector_accuracy=rows["vectors", "all"].accuracy,
        unit_accuracy=rows["units", "all"].accuracy if units else None,
        voices=tuple(sorted({voice for word in words for voice in word.stems})),
        words=len(words),
        recordings=len(wanted),
        changed_phones=float(np.mean([word.changed for word in words])),
        rows=tuple(rows.values()),
    )


def word_stems(words: Iterable[SpokenWord]) -> list[str]:
    """Return the sorted names of the recordings of words and non-words."""
    return sorted({stem for word in words for couple in word.stems.values() for stem in couple})


def read_words(directory: Path) -> list[SpokenWord]:
    """Read the words of a folder such as `lexical/dev` by its gold.csv, those that at least two voices speak.

    Raises:
        FormatError: no readable gold.csv, or one whose rows are not pairs of a word and a non-word.
        InputError: no word in two voices.
    """
    gold = read_gold(directory, COLUMNS)
    pairs = make_pairs([Item(row["filename"], row["id"], is_correct(row), row["voice"]) for row in gold], directory)
    rows = {row["filename"]: row for row in gold}
    words = []
    for pair in pairs:
        stems = {rows[right]["voice"]: (right, wrong) for right, wrong in pair.stems}
        right, wrong = pair.stems[0]
        changed = edit_distance(rows[right]["phones"].split(), rows[wrong]["phones"].split())
        if len(stems) > 1:
            words.append(SpokenWord(pair.name, stems, changed))
    if not words:
        raise InputError(f"{directory}: no word in two voices; make the set with --voices A,B")
    return words


def score_words(
    words: Sequence[SpokenWord], distance: Callable[[str, str], float]
) -> dict[str, tuple[PairCounts, ...]]:
    """Decide every comparison by the distance of two recordings, given by their names.

    Returns:
        Counts of each word: "all" over all ordered pairs of voices, then those of each pair, such as "A to B".
    """
    all_voices: list[PairCounts] = []
    directions: dict[str, list[PairCounts]] = {}
    for word in words:
        counts = []
        for (one, other), (anchor, same, changed) in word.comparisons():
            near, far = distance(anchor, same), distance(anchor, changed)
            counts.append(PairCounts(0.5 if near == far else float(near < far), 1, 1, int(near == far)))
            directions.setdefault(f"{one} to {other}", []).append(counts[-1])
        total = PairCounts.merge(counts)
        all_voices.append(PairCounts(total.accuracy, 1, total.comparisons, total.ties))
    return {"all": tuple(all_voices)} | {key: tuple(value) for key, value in sorted(directions.items())}


def dtw_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the cost of the cheapest warping path between two sequences of vectors, over the sum of their lengths.

    A step costs 1 - cosine similarity of the vectors that it pairs; steps go forward in one sequence or in both.

    Args:
        a, b: (n, dim) and (m, dim) vectors, n and m > 0; InputError for another shape.
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
