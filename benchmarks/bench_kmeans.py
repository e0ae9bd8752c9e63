"""Time k-means of vectors in a file: CPU seconds of an iteration, and memory of the process, beside the same in memory.

Run: python benchmarks/bench_kmeans.py [--vectors 50000] [--dims 64] [--centres 256] [--iterations 2] [--device cpu]
    [--file-only] [--others] [--folder DIR]
The paper's scale: --vectors 10000000 --dims 768 --centres 16384 --file-only (15 GB in DIR). The centres must be the
same bits from the file and from memory, and the nearest centres those of a plain search in double precision.
`--others` times faiss and fastkmeans, too, where they are installed, on as many iterations over all vectors.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from results import add_json, report

from syllablelm.quantize import fit_kmeans, kmeans, nearest_centre, open_vectors
from syllablelm.quantize.vectors import BLOCK_ROWS

TOPICS = 1000


def write_vectors(path: Path, count: int, dims: int, dtype: str) -> None:
    """Write vectors around a thousand points, each as far from its point as points are from each other."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((TOPICS, dims)).astype(np.float32)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=(count, dims))
    for first in range(0, count, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, count - first)
        noise = rng.standard_normal((rows, dims), dtype=np.float32)
        file[first : first + rows] = points[rng.integers(0, TOPICS, rows)] + noise
    file.flush()


class Memory:
    """Peak of the memory that the process holds by itself, pages of files not counted, in a block of code."""

    def __enter__(self) -> Memory:
        self.peak, self._ended = self._now(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = max(self.peak, self._now())

    def _now(self) -> float:
        held = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
        return int(held[1]) / 1024 if held else float("nan")


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result, seconds of the processor, and the peak of memory in MiB."""
    with Memory() as memory:
        start = time.process_time()
        result = work()
        seconds = time.process_time() - start
    return result, seconds, memory.peak


def check(path: Path, centres: int, options: dict[str, Any]) -> None:
    """Compare file and memory, and the search with a plain one, on the first vectors."""
    some = np.load(path, mmap_mode="r")[:20_000]
    some_centres = min(centres, 200)
    held = np.asarray(some, dtype=np.float32)
    for method in ("lloyd", "minibatch"):
        chosen = {**options, "method": method}
        if not np.array_equal(fit_kmeans(some, some_centres, **chosen), fit_kmeans(held, some_centres, **chosen)):
            raise SystemExit(f"{method}: the centres of the file are not those of memory")
    x, c = held[:2000].astype(np.float64), held[-some_centres:].astype(np.float64)
    plain = ((x**2).sum(1)[:, None] - 2.0 * x @ c.T + (c**2).sum(1)).argmin(1)
    if not np.array_equal(nearest_centre(x, c, device=options["device"])[0], plain):
        raise SystemExit("the nearest centres are not those of a plain search")


def others(vectors: np.ndarray, centres: int, iterations: int, row: Callable[..., dict[str, Any]]) -> list[Any]:
    rows = []
    if importlib.util.find_spec("faiss"):
        import faiss

        model = faiss.Kmeans(vectors.shape[1], centres, niter=iterations, max_points_per_centroid=10**9)
        _, seconds, memory = timed(lambda: model.train(vectors))
        rows.append(row("faiss, all vectors", np.asarray(model.centroids), seconds / iterations, memory))
    if importlib.util.find_spec("fastkmeans"):
        from fastkmeans import FastKMeans  # type: ignore[import-not-found]

        fast = FastKMeans(vectors.shape[1], centres, niter=iterations)
        _, seconds, memory = timed(lambda: fast.train(vectors))
        rows.append(row("fastkmeans", np.asarray(fast.centroids), seconds / iterations, memory))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=50_000)
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--centres", type=int, nargs="+", default=[256])
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=["lloyd", "minibatch"])
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--file-only", action="store_true", help="Do not load the vectors to compare.")
    parser.add_argument("--others", action="store_true", help="Time faiss and fastkmeans, too.")
    parser.add_argument("--folder", type=Path, help="Folder for the file of vectors.")
    add_json(parser)
    options = parser.parse_args()
    # As many iterations as asked for.
    kmeans.MIN_GAIN.update(dict.fromkeys(kmeans.MIN_GAIN, -1.0))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path = Path(name) / "vectors.npy"
        write_vectors(path, options.vectors, options.dims, options.dtype)
        given: dict[str, Any] = {"max_iter": options.iterations, "device": options.device}
        check(path, max(options.centres), given)
        sample = np.asarray(np.load(path, mmap_mode="r")[:: max(1, options.vectors // 20_000)], dtype=np.float32)
        rows: list[dict[str, Any]] = []

        def row(way: str, found: np.ndarray, seconds: float, memory: float) -> dict[str, Any]:
            error = float(nearest_centre(sample, found)[1].mean())
            return {"way": way, "centres": len(found), "s/iteration": seconds, "peak MiB": memory, "error": error}

        def fit_timed(way: str, held: Any, centres: int, method: str) -> dict[str, Any]:
            stamps: list[float] = []
            fit = {**given, "method": method, "progress": lambda *_: stamps.append(time.process_time())}
            found, total, memory = timed(lambda: fit_kmeans(held, centres, **fit))
            # The first call comes after the first step, the last one after the pass over all at the end.
            steps, last = len(stamps) - 1, stamps[-1] - stamps[-2]
            one = (stamps[-2] - stamps[0]) / max(1, steps - 1) * steps / options.iterations
            return row(f"{method}, {way}", found, one, memory) | {"last pass s": last, "all s": total}

        _, seconds, memory = timed(lambda: open_vectors(path))
        print(f"{options.vectors} x {options.dims} {options.dtype}: checked in {seconds:.1f} s, {memory:.0f} MiB")
        for centres in options.centres:
            for method in options.methods:
                rows.append(fit_timed("file", open_vectors(path), centres, method))
                if not options.file_only:
                    rows.append(fit_timed("memory", np.load(path), centres, method))
            if options.others:
                rows += others(np.load(path).astype(np.float32), centres, options.iterations, row)
    print(f"load {os.getloadavg()[0]:.1f}; CPU seconds; an iteration without the starts, of other programs with them")
    report(options, rows, options.device, digits=2)


if __name__ == "__main__":
    main()
