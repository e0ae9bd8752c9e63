"""Time MinSum and MinCut, and compare them with the released program and with textbook loops on the same inputs.

Run: python benchmarks/bench_segment.py [--frames 1250] [--clips 4] [--features FILE.npy] [--repeats 5]

First the boundaries are compared. The released program works in float32 and computes squared errors as a difference, so
it can choose other boundaries where two segmentations cost the same to six digits; such a recording is counted and the
two costs are printed. Then both are timed in turns in this process, in wall-clock and CPU time, so that other load
affects both alike. tests/helpers/released_minsum.py holds the released program, written from its description.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import add_json, report

from syllablelm.segment import mincut, minsum, minsum_dynamic, similarity_matrix

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.released_minsum import released_minsum

FRAME_RATE = 50


def plain_cut(cost: Callable[[int, int], float], num_frames: int, num_segments: int, max_length: int) -> list[int]:
    """Return the exact boundaries of num_segments segments by the textbook recursion, in plain loops."""
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


def plain_mincut(matrix: np.ndarray, num_segments: int, max_length: int) -> list[int]:
    """Return the boundaries of MinCut, with the term of every segment as in Eq. 2."""

    def cost(start: int, end: int) -> float:
        lines = matrix[start:end].sum() + matrix[:, start:end].sum()
        within = matrix[start:end, start:end].sum()
        return float((lines - 2 * within) / (lines - within))

    return plain_cut(cost, len(matrix), num_segments, max_length)


def steps(num_frames: int, num_dims: int, seed: int) -> np.ndarray:
    """Return noisy steps of 3 to 12 frames, float32."""
    rng = np.random.default_rng(seed)
    means = np.repeat(rng.standard_normal((num_frames, num_dims)), rng.integers(3, 13, size=num_frames), axis=0)
    return (means[:num_frames] + 0.7 * rng.standard_normal((num_frames, num_dims))).astype(np.float32)


def tiled(features: np.ndarray, num_frames: int, seed: int) -> np.ndarray:
    """Return a recording of a given length from shuffled one-second pieces of real features, float32.

    A little noise, a twentieth of their deviation, keeps repeated pieces from having boundaries of exactly equal cost.
    """
    rng = np.random.default_rng(seed)
    pieces = [features[start : start + FRAME_RATE] for start in range(0, len(features) - FRAME_RATE, FRAME_RATE)]
    whole = np.concatenate([pieces[index] for index in rng.integers(0, len(pieces), num_frames // FRAME_RATE + 1)])
    noise = 0.05 * features.std(axis=0) * rng.standard_normal(whole.shape)
    return (whole + noise)[:num_frames].astype(np.float32)


def threshold(clips: np.ndarray, rate: float) -> float:
    """Return a delta that gives about ``rate`` segments per second on these recordings."""
    count = round(rate * clips.shape[1] / FRAME_RATE)
    means = []
    for clip, cut in zip(clips, minsum(clips, count, min_length=3, max_length=35), strict=True):
        means.append([clip[a:b].var(axis=0).mean() for a, b in itertools.pairwise(cut)])
    return float(np.quantile(np.array(means), 0.75, axis=1).mean())


def in_turns(programs: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return median wall-clock and CPU seconds of each program; the programs run in turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _, (name, program) in itertools.product(range(repeats), programs.items()):
        wall, processor = time.perf_counter(), time.process_time()
        program()
        taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {
        name: (statistics.median(wall for wall, _ in runs), statistics.median(processor for _, processor in runs))
        for name, runs in taken.items()
    }


def peak_mebibytes(program: Callable[[], object]) -> float:
    """Return the peak memory of a program: growth of the process or allocations of NumPy, whichever is larger.

    The first misses memory that the allocator kept from earlier runs, the second that of other libraries. Outside Linux
    only the second is measured.
    """
    tracemalloc.start()
    program()
    traced = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return traced
    ctypes.CDLL(None).malloc_trim(0)
    reset.write_text("5")  # reset the peak

    def read(field: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))

    before = read("VmRSS")
    program()
    return max(traced, (read("VmHWM") - before) / 1024)


def squared_error(features: np.ndarray, edges: list[int]) -> float:
    """Return the cost of Eq. 4 in float64."""
    exact = features.astype(np.float64)
    return sum(float(((exact[a:b] - exact[a:b].mean(axis=0)) ** 2).sum()) for a, b in itertools.pairwise(edges))


def check_released(clips: np.ndarray, deltas: list[float]) -> None:
    """Print the number of recordings with the released program's boundaries."""
    same = total = 0
    for delta in deltas:
        ours = minsum_dynamic(clips, delta)
        for index, clip in enumerate(clips):
            theirs = released_minsum(torch.from_numpy(clip[None]), delta)[0]
            total += 1
            if ours[index].tolist() == theirs:
                same += 1
                continue
            costs = squared_error(clip, ours[index].tolist()), squared_error(clip, theirs)
            print(f"  differs: clip {index}, delta {delta:.3g}, costs {costs[0]:.7g} and {costs[1]:.7g}")
        counts = [len(cut) - 1 for cut in ours]
        print(f"  delta {delta:.3g}: {min(counts)} to {max(counts)} segments")
    print(f"  same boundaries for {same} of {total} (recordings x thresholds)")


def compare_released(name: str, clips: np.ndarray, repeats: int) -> list[dict[str, Any]]:
    """Print agreement, speed and memory beside the released program, and return a row for each program."""
    num_clips, num_frames, num_dims = clips.shape
    print(f"\n{name}: {num_clips} recordings of {num_frames} frames, {num_dims} dimensions, float32")
    deltas = [threshold(clips, rate) for rate in (8.33, 6.25, 5.0)]
    check_released(clips, deltas)
    programs = {
        "minsum_dynamic": lambda: minsum_dynamic(clips, deltas[0]),
        "released": lambda: released_minsum(torch.from_numpy(clips), deltas[0]),
    }
    memory = {program: peak_mebibytes(run) for program, run in programs.items()}
    times = in_turns(programs, repeats)
    audio = num_clips * num_frames / FRAME_RATE
    ours, theirs = times["minsum_dynamic"], times["released"]
    print(
        f"  ratio: {theirs[0] / ours[0]:.0f} by the clock, {theirs[1] / ours[1]:.0f} by processor time, "
        f"{memory['released'] / memory['minsum_dynamic']:.0f} in memory"
    )
    return [
        {
            "clips": name,
            "program": program,
            "seconds": wall,
            "processor seconds": processor,
            "audio s/s": audio / wall,
            "MiB a recording": memory[program] / num_clips,
        }
        for program, (wall, processor) in times.items()
    ]


def compare_textbook(num_frames: int, num_segments: int, repeats: int) -> list[dict[str, Any]]:
    """Print ratios of MinCut and plain loops, on a symmetric and an asymmetric matrix, and return a row for each."""
    rows: list[dict[str, Any]] = []

    def row(name: str, program: str, taken: tuple[float, float]) -> None:
        rows.append({"clips": name, "program": program, "seconds": taken[0], "processor seconds": taken[1]})

    similarity = similarity_matrix(steps(num_frames, 64, seed=0))
    weights = np.random.default_rng(1).random(similarity.shape)
    print(f"\nMinCut, {num_frames} frames, {num_segments} segments of at most 50 frames")
    for name, matrix in (("symmetric", similarity), ("asymmetric", similarity * weights)):
        if mincut(matrix, num_segments, max_length=50).tolist() != plain_mincut(matrix, num_segments, 50):
            raise SystemExit("MinCut disagrees with the plain loops")
        times = in_turns(
            {
                "ours": lambda matrix=matrix: mincut(matrix, num_segments, max_length=50),
                "plain": lambda matrix=matrix: plain_mincut(matrix, num_segments, 50),
            },
            max(1, repeats // 2),
        )
        ours, plain = times["ours"], times["plain"]
        print(f"  {name}: ratio {plain[0] / ours[0]:.0f} by the clock, {plain[1] / ours[1]:.0f} by processor time")
        row(f"{name} matrix", "mincut", ours)
        row(f"{name} matrix", "plain loops", plain)
    row("no limit", "mincut", in_turns({"free": lambda: mincut(similarity, num_segments)}, repeats)["free"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Time MinSum and MinCut beside other programs.")
    parser.add_argument("--frames", type=int, default=1250, help="Frames per recording; 1250 are 25 s.")
    parser.add_argument(
        "--clips", type=int, default=4, help="Recordings per batch; the released program needs 0.5 GiB each."
    )
    parser.add_argument("--segments", type=int, default=150)
    parser.add_argument("--features", type=Path, help="Real features (T, D), .npy.")
    parser.add_argument("--repeats", type=int, default=5)
    add_json(parser)
    options = parser.parse_args()

    warm = steps(60, 8, seed=0)
    # Compile before anything is timed.
    minsum_dynamic(warm, 0.4)
    minsum([warm, warm], 7)
    mincut(similarity_matrix(warm), 7)
    made = np.stack([steps(options.frames, 768, seed) for seed in range(options.clips)])
    rows = compare_released("noisy steps", made, options.repeats)
    if options.features:
        real = np.load(options.features, allow_pickle=False)
        clips = np.stack([tiled(real, options.frames, seed) for seed in range(options.clips)])
        rows += compare_released(options.features.name, clips, options.repeats)
    wall, processor = in_turns({"minsum": lambda: minsum(made, options.segments)}, options.repeats)["minsum"]
    name = f"noisy steps, {options.segments} segments"
    rows.append({"clips": name, "program": "minsum", "seconds": wall, "processor seconds": processor})
    rows += compare_textbook(options.frames, options.segments, options.repeats)
    report(options, rows, digits=4)


if __name__ == "__main__":
    main()
