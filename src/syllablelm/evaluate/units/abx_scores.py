"""ABX error rates of labelled stretches of frames, as fastabx 0.9 defines them.

A cell compares two phones A and B in one context. It holds all triplets (a, b, x) in which a and x are A, b is B, and x
is another token than a: of the same speaker ("within"), or of another one than a and b ("across"). A triplet is wrong
where x is nearer to b than to a, half wrong for a tie. The error rate is the mean over cells: over contexts, then
speakers, then ordered pairs of phones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import numpy.typing as npt

from syllablelm.data.alignment import TOLERANCE, Alignment
from syllablelm.segment.kernels import compiled

Kind = Literal["triphone", "phoneme"]
Speakers = Literal["within", "across"]
Frames = npt.NDArray[np.generic]
"""(num_frames, dim) floats, or (num_frames, 1) integers."""
FloatMatrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PhoneToken:
    """A phone between two others without a pause, spoken by `speaker` in recording `file`, from onset to offset in s.

    Of a triphone, onset and offset are those of all three phones.
    """

    file: str
    onset: float
    offset: float
    phone: str
    before: str
    after: str
    speaker: str

    def frames(self, rate: float) -> tuple[int, int]:
        """Return the half-open range of frames whose middle lies in the token, as fastabx slices features."""
        # Times are decimals: products such as 0.29 x 50 must not fall below the whole number.
        onset, offset = (round(time * rate - 0.5, 6) for time in (self.onset, self.offset))
        return math.ceil(onset), math.floor(offset) + 1


@dataclass(frozen=True)
class AbxScore:
    """An ABX error rate, NaN without a cell, and the numbers of its cells and triplets."""

    error_rate: float
    cells: int
    triplets: int


def phone_tokens(alignment: Alignment, speaker: str, kind: Kind) -> Iterator[PhoneToken]:
    """Yield the phones of a recording that have phones right before and after them; stress digits are removed."""
    phones = alignment.phones
    for before, phone, after in zip(phones, phones[1:], phones[2:], strict=False):
        if phone.start - before.end > TOLERANCE or after.start - phone.end > TOLERANCE:
            continue
        onset, offset = (before.start, after.end) if kind == "triphone" else (phone.start, phone.end)
        middle, left, right = (one.label.rstrip("012") for one in (phone, before, after))
        yield PhoneToken(alignment.id, onset, offset, middle, left, right, speaker)


def abx_error_rate(tokens: Sequence[PhoneToken], frames: Sequence[Frames], speakers: Speakers) -> AbxScore:
    """Return the ABX error rate of tokens, without subsampling.

    Args:
        tokens: the labels.
        frames: frames of each token, (num_frames, dim) floats, which are compared by angle, or (num_frames, 1)
            integers, which are equal or not; sequences are aligned by dynamic time warping, over the path's length.
        speakers: "within" or "across".
    """
    contexts: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, token in enumerate(tokens):
        contexts[token.before, token.after].append(index)
    errors: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    cells = triplets = 0
    for members in contexts.values():
        classes: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place, index in enumerate(members):
            classes[tokens[index].phone, tokens[index].speaker].append(place)
        compared = [*_cells(classes, speakers)]
        if not compared:
            continue
        distances = _distances([frames[index] for index in members])
        for phone, other, speaker, a, b, x in compared:
            wrong, count = _count_wrong(distances, a, b, x)
            errors[phone, other][speaker].append(wrong / count)
            cells, triplets = cells + 1, triplets + count
    means = [np.mean([np.mean(rates) for rates in by_speaker.values()]) for by_speaker in errors.values()]
    return AbxScore(float(np.mean(means)) if means else math.nan, cells, triplets)


def _cells(
    classes: Mapping[tuple[str, str], list[int]], speakers: Speakers
) -> Iterator[tuple[str, str, str, list[int], list[int], list[int]]]:
    """Yield A, B, the speaker of a and b, and the tokens a, b and x of the cells of one context."""
    for (phone, speaker), (other, same) in permutations(classes, 2):
        if phone == other or speaker != same:
            continue
        a, b = classes[phone, speaker], classes[other, speaker]
        if speakers == "within":
            if len(a) > 1:
                yield phone, other, speaker, a, b, a
            continue
        for (third, another), x in classes.items():
            if third == phone and another != speaker:
                yield phone, other, speaker, a, b, x


def _count_wrong(distances: FloatMatrix, a: list[int], b: list[int], x: list[int]) -> tuple[float, int]:
    """Return the number of wrong triplets, ties half, and that of all."""
    near, far = distances[np.ix_(x, a)], np.sort(distances[np.ix_(x, b)], axis=1)
    wrong = count = 0.0
    for row, (to_a, to_b) in enumerate(zip(near, far, strict=True)):
        others = np.delete(to_a, row) if a is x else to_a
        below, upto = (np.searchsorted(to_b, others, side=side) for side in ("left", "right"))
        wrong += float((below + upto).sum()) / 2
        count += len(others) * len(to_b)
    return wrong, int(count)


def _distances(sequences: Sequence[Frames]) -> FloatMatrix:
    """Return the (n, n) distances from x, the rows, to a or b.

    Of equally cheap paths the one is taken that goes diagonally from the end, else along a or b. Its number of steps,
    and so the distance, may differ from that of the way back: both are needed.
    """
    edges = np.cumsum([0, *map(len, sequences)])
    frames = np.concatenate(sequences)
    if np.issubdtype(frames.dtype, np.integer):
        costs = (frames != frames.T).astype(np.float32)
    else:
        norms = np.linalg.norm(frames.astype(np.float64), axis=1, keepdims=True)
        unit = frames / np.where(norms > 0, norms, 1.0)
        costs = (np.arccos(np.clip(unit @ unit.T, -1.0, 1.0)) / np.pi).astype(np.float32)
    return _warp_all(costs, edges)


@compiled()
def _warp_all(costs: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Cost of the cheapest warping path between every two blocks of a matrix, over its number of steps."""
    num = len(edges) - 1
    result = np.zeros((num, num))
    longest = 0
    for k in range(num):
        longest = max(longest, edges[k + 1] - edges[k])
    total = np.empty((longest, longest), np.float32)
    for one in range(num):
        for other in range(num):
            if one == other:
                continue
            block = costs[edges[one] : edges[one + 1], edges[other] : edges[other + 1]]
            n, m = block.shape
            for i in range(n):
                for j in range(m):
                    best = np.float32(np.inf)
                    if i == 0 and j == 0:
                        best = np.float32(0)
                    if i > 0:
                        best = min(best, total[i - 1, j])
                    if j > 0:
                        best = min(best, total[i, j - 1])
                    if i > 0 and j > 0:
                        best = min(best, total[i - 1, j - 1])
                    total[i, j] = block[i, j] + best
            i, j, steps = n - 1, m - 1, 1
            while i > 0 or j > 0:
                if i > 0 and j > 0 and total[i - 1, j - 1] <= min(total[i - 1, j], total[i, j - 1]):
                    i, j = i - 1, j - 1
                elif i == 0 or (j > 0 and total[i, j - 1] <= total[i - 1, j]):
                    j -= 1
                else:
                    i -= 1
                steps += 1
            result[one, other] = total[n - 1, m - 1] / np.float32(steps)
    return result


def item_lines(tokens: Iterable[PhoneToken]) -> Iterator[str]:
    """Yield the lines of an item file of ABXpy, ZeroSpeech and fastabx."""
    yield "#file onset offset #phone prev-phone next-phone speaker"
    for one in tokens:
        yield f"{one.file} {one.onset:.4f} {one.offset:.4f} {one.phone} {one.before} {one.after} {one.speaker}"
