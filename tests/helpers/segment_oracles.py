"""Slow, independent versions of the segmenters, written from their definitions."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np

from syllablelm.segment import losspred_matrix


def all_cuts(num_frames, num_segments, min_length=1, max_length=None):
    """Every list of boundaries with segments of allowed lengths."""
    longest = num_frames if max_length is None else max_length
    for inner in itertools.combinations(range(1, num_frames), num_segments - 1):
        edges = [0, *inner, num_frames]
        if all(min_length <= b - a <= longest for a, b in itertools.pairwise(edges)):
            yield edges


def squared_error(features, edges):
    """Eq. 4: distance of every frame to the mean of its segment, squared and summed."""
    return sum(float(((features[a:b] - features[a:b].mean(axis=0)) ** 2).sum()) for a, b in itertools.pairwise(edges))


def cut_value(matrix, edges):
    """Eq. 2 as printed, on an asymmetric matrix."""
    total = 0.0
    for a, b in itertools.pairwise(edges):
        lines = matrix[a:b, :].sum() + matrix[:, a:b].sum()
        within = matrix[a:b, a:b].sum()
        if lines - within > 0:
            total += float((lines - 2 * within) / (lines - within))
    return total


def textbook_mincut(matrix, num_segments, max_length, stops=()):
    """The dynamic program of Eq. 2 in plain loops, every term summed anew; no segment crosses a stop."""
    num_frames = len(matrix)
    best = [[0.0] + [np.inf] * num_frames]
    chosen = []
    for _ in range(num_segments):
        row, starts = [np.inf] * (num_frames + 1), [0] * (num_frames + 1)
        for end in range(1, num_frames + 1):
            for start in range(end - 1, max(0, end - max_length) - 1, -1):
                if best[-1][start] == np.inf or any(start < stop < end for stop in stops):
                    continue
                lines = matrix[start:end].sum() + matrix[:, start:end].sum()
                within = matrix[start:end, start:end].sum()
                value = best[-1][start] + (lines - 2 * within) / (lines - within)
                if value < row[end]:
                    row[end], starts[end] = value, start
        best.append(row)
        chosen.append(starts)
    edges = [num_frames]
    for starts in reversed(chosen):
        edges.insert(0, starts[edges[0]])
    return edges


def losspred_with_pauses(predictor, wave, is_speech, count, max_length, **spans):
    """LossPred of the speech alone, frame by frame: boundaries of the recording, of which pauses have the fewest."""
    hop, num_frames = predictor.encoder.hop, len(is_speech)
    runs = [(value, len(list(group))) for value, group in itertools.groupby(is_speech.tolist())]
    in_pauses = sum(math.ceil(length / max_length) for value, length in runs if not value)
    kept = [frame for frame in range(num_frames) if is_speech[frame]]
    # Ten a second at most, where the whole recording has no more.
    most = round(len(kept) * max(10 * hop / 16_000, count / num_frames))
    in_pauses = max(in_pauses, count - most)
    samples = [wave[frame * hop : (frame + 1) * hop] for frame in kept]
    end = (kept[-1] + 1) * hop
    matrix = losspred_matrix(predictor, np.concatenate([*samples, wave[end : end + 80]]), **spans)
    stops = [index for index in range(1, len(kept)) if kept[index] > kept[index - 1] + 1]
    edges = [kept[index] for index in textbook_mincut(matrix, count - in_pauses, max_length, stops)[:-1]]
    frame, pauses = 0, []
    for value, length in runs:
        if not value:
            pauses.append((frame, length))
        frame += length
    pieces = {pause: math.ceil(pause[1] / max_length) for pause in pauses}
    while sum(pieces.values()) < in_pauses:
        pieces[max(pauses, key=lambda pause: pause[1] / pieces[pause])] += 1
    for (start, length), number in pieces.items():
        edges += [start + index * length // number for index in range(number)]
    return [*sorted(edges), num_frames]


def released_rule(features, delta, quantile=0.75, max_rate=0.2, min_length=3, max_length=35):
    """The released dynamic rule in plain loops: (boundaries, probes [(count, quantile value), ...])."""
    num_frames = len(features)
    most = int(max_rate * num_frames)
    longest = min(num_frames, max_length)

    @functools.cache
    def cost(start, end):
        block = features[start:end]
        return float(((block**2).sum(axis=0) - block.sum(axis=0) ** 2 / (end - start)).mean())

    table = [[0.0] + [np.inf] * num_frames]
    chosen = [[0] * (num_frames + 1)]
    for _ in range(most):
        row, lengths = [0.0] + [np.inf] * num_frames, [0] * (num_frames + 1)
        for end in range(1, num_frames + 1):
            for length in range(min_length, min(longest, end) + 1):
                value = table[-1][end - length] + cost(end - length, end)
                if value < row[end]:
                    row[end], lengths[end] = value, length
        table.append(row)
        chosen.append(lengths)

    def boundaries(count):
        edges = [num_frames]
        while edges[0] > 0:
            edges.insert(0, edges[0] - chosen[count][edges[0]])
            count -= 1
        return edges

    low, high = most // 3, most
    best, probes = low, []
    while low <= high:
        middle = (low + high) // 2
        errors = [cost(a, b) / (b - a) for a, b in itertools.pairwise(boundaries(middle))]
        value = float(np.quantile(errors, quantile))
        probes.append((middle, value))
        if value > delta:
            low, best = middle + 1, middle
        else:
            high = middle - 1
    return boundaries(best), probes
