"""Time MinSum and MinCut against the same dynamic programs in plain NumPy.

Run: python benchmarks/bench_segment.py [--frames 1250] [--segments 150] [--repeats 5]
First the two must agree on a short recording; then a table of seconds per recording and the ratio is printed.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from syllablelm.segment import mincut, minsum, minsum_dynamic, similarity_matrix


def plain_cut(cost: Callable[[int, int], float], num_frames: int, num_segments: int, max_length: int) -> list[int]:
    """Exact cut into num_segments by the textbook recursion, vectorised over nothing but the cost."""
    costs = np.full((num_frames + 1, max_length + 1), np.inf)
    for end in range(1, num_frames + 1):
        for length in range(1, min(max_length, end) + 1):
            costs[end, length] = cost(end - length, end)
    best = np.full(num_frames + 1, np.inf)
    best[0] = 0.0
    lengths = []
    for _ in range(num_segments):
        now, chosen = np.full(num_frames + 1, np.inf), np.zeros(num_frames + 1, dtype=int)
        for end in range(1, num_frames + 1):
            longest = min(max_length, end)
            sums = best[end - longest : end][::-1] + costs[end, 1 : longest + 1]
            chosen[end] = int(np.argmin(sums)) + 1
            now[end] = sums[chosen[end] - 1]
        best = now
        lengths.append(chosen)
    edges = [num_frames]
    for chosen in reversed(lengths):
        edges.append(edges[-1] - int(chosen[edges[-1]]))
    return edges[::-1]


def plain_minsum(features: np.ndarray, num_segments: int, max_length: int) -> list[int]:
    """MinSum with the cost of every segment taken from its definition."""

    def cost(start: int, end: int) -> float:
        block = features[start:end]
        return float(((block - block.mean(axis=0)) ** 2).sum())

    return plain_cut(cost, len(features), num_segments, max_length)


def plain_mincut(matrix: np.ndarray, num_segments: int, max_length: int) -> list[int]:
    """MinCut with the term of every segment taken from Eq. 2."""

    def cost(start: int, end: int) -> float:
        lines = matrix[start:end].sum() + matrix[:, start:end].sum()
        within = matrix[start:end, start:end].sum()
        return float((lines - 2 * within) / (lines - within))

    return plain_cut(cost, len(matrix), num_segments, max_length)


def speech_like(num_frames: int, num_dims: int, seed: int) -> np.ndarray:
    """Noisy steps of 3 to 12 frames, float32."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 13, size=num_frames)
    means = rng.standard_normal((num_frames, num_dims))
    steps = np.repeat(means, lengths, axis=0)[:num_frames]
    return (steps + 0.7 * rng.standard_normal(steps.shape)).astype(np.float32)


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Least wall-clock time of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_mebibytes(function: Callable[[], object]) -> float:
    """Largest memory that one run allocates through NumPy and Python (compiled scratch arrays are not seen)."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1250, help="frames of the recording; 1250 are 25 s")
    parser.add_argument("--segments", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    small = speech_like(120, 16, seed=1)
    if minsum(small, 17).tolist() != plain_minsum(small.astype(np.float64), 17, 50):
        raise SystemExit("MinSum disagrees with the plain loops")
    if mincut(similarity_matrix(small), 17, max_length=50).tolist() != plain_mincut(similarity_matrix(small), 17, 50):
        raise SystemExit("MinCut disagrees with the plain loops")
    print("agreement with plain loops: MinSum and MinCut, 120 frames, 17 segments")

    print(f"\n{options.frames} frames, {options.segments} segments of at most 50 frames")
    print(f"{'':34}{'seconds':>9}{'plain':>9}{'ratio':>8}{'MiB':>7}")
    for num_dims in (256, 768):
        measure(speech_like(options.frames, num_dims, seed=0), options.segments, options.repeats)


def measure(features: np.ndarray, num_segments: int, repeats: int) -> None:
    """Print one row per cut of these features."""
    exact, matrix = features.astype(np.float64), similarity_matrix(features)
    rows: list[tuple[str, Callable[[], object], Callable[[], object] | None]] = [
        ("minsum", lambda: minsum(features, num_segments), lambda: plain_minsum(exact, num_segments, 50)),
        ("minsum_dynamic", lambda: minsum_dynamic(features, 0.4), None),
        (
            "mincut",
            lambda: mincut(matrix, num_segments, max_length=50),
            lambda: plain_mincut(matrix, num_segments, 50),
        ),
        ("mincut, no limit", lambda: mincut(matrix, num_segments), None),
    ]
    for name, fast, plain in rows:
        taken, memory = seconds(fast, repeats), peak_mebibytes(fast)
        slow = seconds(plain, 1) if plain else None
        reference = f"{slow:9.2f}{slow / taken:7.0f}x" if slow else f"{'':17}"
        print(f"{name + f', {features.shape[1]} dimensions':34}{taken:9.4f}{reference}{memory:7.1f}", flush=True)


if __name__ == "__main__":
    main()
