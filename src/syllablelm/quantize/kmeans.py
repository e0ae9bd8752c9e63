"""k-means with bounded work and memory, on a processor or a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, MissingDependencyError, unknown_name
from syllablelm.quantize.nearest import CentreSearch
from syllablelm.quantize.vectors import FloatArray, Vectors, VectorSource, open_vectors

if TYPE_CHECKING:
    import torch

Method = Literal["auto", "minibatch", "lloyd", "faiss"]
Progress = Callable[[int, int], None]

# Under "auto": distances (vectors x centres x dims) of one pass above which full Lloyd iterations get slow on a laptop,
# and bytes of the vectors that faiss holds in memory.
LLOYD_LIMIT, FAISS_LIMIT = 3e9, 4e9
# Vectors closer than this to their centre, relative to their own length, are the same point up to float32 rounding.
SAME_POINT = 1e-10
REFILL_ROUNDS = 20
# Maximum iterations of a run unless max_iter is given.
MAX_ITER = {"lloyd": 100, "minibatch": 10, "faiss": 25}
# Iterations between two looks at the squared error, and the relative gain over them below which a run ends.
CHUNK = {"lloyd": 5, "minibatch": 1, "faiss": 5}
MIN_GAIN = {"lloyd": 1e-4, "minibatch": 2e-3, "faiss": 1e-3}
# Block size as in SD-HuBERT's clustering.
BATCH = 10_000
# Mini-batches are drawn from this many vectors at a time (600 MB of 768 dims), read in runs of neighbours: a file is
# read from many places, but not row by row.
POOL, RUN = 200_000, 1000
# Vectors a centre of one mini-batch iteration and of a whole faiss run (its own default); the rest is left out.
VECTORS_PER_CENTRE = 256
# Vectors that starts are drawn from, a centre at least, and the rounds they are drawn in where there are many.
START_VECTORS = 3
START_ROUNDS = 64
# Steps of the progress of one run.
PROGRESS_STEPS = 1000


def choose_method(
    num_vectors: int, num_clusters: int, num_dims: int, device: str = "cpu"
) -> Literal["minibatch", "lloyd", "faiss"]:
    """Return the method of "auto": full Lloyd where that is quick, else faiss if it helps, else mini-batches.

    faiss works on the processor and holds its vectors in memory, so it is taken where both are right and it is there.
    """
    if float(num_vectors) * num_clusters * num_dims <= LLOYD_LIMIT:
        return "lloyd"
    held = 4.0 * num_dims * min(num_vectors, VECTORS_PER_CENTRE * num_clusters)
    return "faiss" if device == "cpu" and held <= FAISS_LIMIT and importlib.util.find_spec("faiss") else "minibatch"


def fit_kmeans(
    vectors: VectorSource,
    num_clusters: int,
    *,
    method: Method = "auto",
    seed: int = 0,
    restarts: int = 1,
    max_iter: int | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> FloatArray:
    """Fit k-means centres; every centre is the nearest one of at least one vector.

    Work is bounded: a run computes at most ``max_iter * n * num_clusters`` distances, where n is the number of vectors
    of one iteration (all for "lloyd", at most 256 per centre or 10,000 for the others), ``N * num_clusters`` at its
    end, and ``max(10_000, 3 * num_clusters) * num_clusters`` for the starting centres. It ends earlier where an
    iteration lowers the squared error by less than `MIN_GAIN`: mini-batches on 84,000 vectors and 4,096 centres end
    after three.

    Memory is bounded, too, where the vectors lie in files: "lloyd" and "minibatch" hold at most 200,000 of them, and 40
    bytes for each. The centres are the same, bit for bit, as those of an array of the same vectors, and on every
    device, which changes only the time (and the method that "auto" chooses).

    Args:
        vectors: (N, D), N >= num_clusters: an array, memory-mapped or not, the names of .npy files, or `Vectors`; see
            `open_vectors`.
        num_clusters: number of centres.
        method: "lloyd" (full passes), "minibatch" (Sculley 2010; blocks of 10,000 vectors or of as many as centres; an
            iteration is one pass, or 256 vectors per centre where that is less), "faiss" (256 vectors per centre, drawn
            at random and held in memory, in the whole run), or "auto", see `choose_method`. The first two start from
            k-means++.
        seed: random seed; the same vectors, method and seed give the same centres.
        restarts: number of runs, of which the one with the smallest squared error is kept.
        max_iter: maximum iterations of each run (default: 100 for "lloyd", 10 for "minibatch", 25 for "faiss").
        device: "cpu" or "cuda", where distances are computed; of no use to "faiss" but for the last pass.
        progress: called as progress(done, total) during the runs; units of equal work, total being the upper bound.
            The last call has done == total, also where the runs end early.

    Returns:
        (num_clusters, D) float32 centres.

    Raises:
        InputError: too few (distinct) vectors, NaN or infinite values, or an option out of range.
        FormatError: a file of vectors that is missing or damaged.
        MissingDependencyError: method "faiss" without faiss installed.
    """
    if method not in get_args(Method):
        raise unknown_name("k-means method", method, get_args(Method))
    if num_clusters < 1 or restarts < 1 or (max_iter is not None and max_iter < 1):
        raise InputError("k-means needs num_clusters, restarts and max_iter of at least 1")
    held = open_vectors(vectors)
    if len(held) < num_clusters:
        raise InputError(
            f"{len(held)} vectors are too few for {num_clusters} clusters: give more speech or ask for fewer clusters"
        )
    if method == "auto":
        method = choose_method(len(held), num_clusters, held.dim, str(device))
    run = {"lloyd": _lloyd, "minibatch": _minibatch, "faiss": _faiss}[method]
    iterations = MAX_ITER[method] if max_iter is None else max_iter
    size = len(held) if method == "lloyd" else _sample_size(len(held), num_clusters)
    # Of a run; the rest of the work is the pass at its end.
    share = iterations * size / (iterations * size + len(held))
    best: FloatArray | None = None
    best_error = np.inf
    for number in range(restarts):

        def report(done: float, number: int = number) -> None:
            if progress is not None:
                progress(int((number + done) * PROGRESS_STEPS), restarts * PROGRESS_STEPS)

        def report_run(done: int, total: int) -> None:
            report(share * done / total)

        centres = run(held, num_clusters, seed + number, iterations, device, report_run)
        centres, error = _refill_empty(held, np.ascontiguousarray(centres, dtype=np.float32), device)
        if best is None or error < best_error:
            best, best_error = centres, error
        report(1.0)
    if best is None:
        raise InputError("k-means needs at least one run")
    return best


def _sample_size(num_vectors: int, num_clusters: int) -> int:
    return min(num_vectors, max(BATCH, VECTORS_PER_CENTRE * num_clusters))


def _starts(vectors: Vectors, num_clusters: int, rng: np.random.Generator) -> FloatArray:
    """Draw initial centres from a part of the vectors, each with a probability proportional to its squared distance.

    This is k-means++ (Arthur and Vassilvitskii 2007) with several centres drawn between two updates of the distances,
    as in k-means|| (Bahmani et al. 2012), once there are many. scikit-learn's own draws each centre alone from several
    candidates and converts all vectors to double precision for each: 0.15 s of CPU time a centre (12,288 vectors of
    512 dims), ten minutes for 4,096 centres.
    """
    size = min(len(vectors), max(BATCH, START_VECTORS * num_clusters))
    x_SD = vectors.rows(np.sort(rng.permutation(len(vectors))[:size]))
    block = max(1, num_clusters // START_ROUNDS)
    x64_SD = x_SD.astype(np.float64)
    power_S = np.einsum("sd,sd->s", x64_SD, x64_SD)
    chosen = [int(rng.integers(size))]
    nearest_S = np.full(size, np.inf)
    new = chosen
    while True:
        distance_SC = power_S[:, None] + power_S[new] - 2.0 * (x64_SD @ x64_SD[new].T)
        nearest_S = np.minimum(nearest_S, distance_SC.min(axis=1))
        # Below this a difference of such sums is rounding: a copy of a vector that is chosen already.
        nearest_S[nearest_S <= SAME_POINT * power_S] = 0.0
        count = min(block, num_clusters - len(chosen), len(chosen), int(np.count_nonzero(nearest_S)))
        if count == 0:
            break
        new = rng.choice(size, count, replace=False, p=nearest_S / nearest_S.sum()).tolist()
        chosen += new
    # Fewer distinct vectors than centres: copies, which `_refill_empty` moves or reports.
    missing = num_clusters - len(chosen)
    return x_SD[chosen + [chosen[0]] * missing]


def _lloyd(
    vectors: Vectors, num_clusters: int, seed: int, max_iter: int, device: str | torch.device, report: Progress
) -> FloatArray:
    centres = _starts(vectors, num_clusters, np.random.default_rng(seed))
    last_error = np.inf
    for iteration in range(max_iter):
        search, sums = CentreSearch(centres, device), _Sums(num_clusters, vectors.dim)
        for x_BD in vectors.blocks():
            sums.add(x_BD, search.nearest(x_BD))
        # An empty cluster stays where it is; `_refill_empty` moves it.
        means = np.where(sums.count_K[:, None] > 0, sums.sum_KD / np.maximum(sums.count_K, 1)[:, None], search.c64_KD)
        # |x - c|^2 over all vectors, without another look at them; of the centres before the step.
        cross_K = np.einsum("kd,kd->k", sums.sum_KD, search.c64_KD)
        error = float(sums.power + (sums.count_K * search.norm_K - 2.0 * cross_K).sum())
        last, centres = centres, means.astype(np.float32)
        report(iteration + 1, max_iter)
        if np.array_equal(last, centres):
            break
        if iteration % CHUNK["lloyd"] == 0:
            if last_error - error <= MIN_GAIN["lloyd"] * last_error < np.inf:
                break
            last_error = error
    return centres


def _minibatch(
    vectors: Vectors, num_clusters: int, seed: int, max_iter: int, device: str | torch.device, report: Progress
) -> FloatArray:
    rng = np.random.default_rng(seed)
    centres_KD = _starts(vectors, num_clusters, rng).astype(np.float64)
    weight_K = np.zeros(num_clusters)
    check_VD = vectors.rows(np.sort(rng.permutation(len(vectors))[:BATCH]))
    step = max(BATCH, num_clusters)
    batches = -(-_sample_size(len(vectors), num_clusters) // step)
    coming = _shuffled(vectors, step, rng)
    last_error = np.inf
    for iteration in range(max_iter):
        for batch in range(batches):
            x_BD = next(coming)
            sums = _Sums(num_clusters, vectors.dim)
            sums.add(x_BD, CentreSearch(centres_KD.astype(np.float32), device).nearest(x_BD))
            # Each centre is the mean of all vectors that were ever nearest to it (Sculley 2010, Algorithm 1).
            some = np.flatnonzero(sums.count_K)
            total = weight_K[some] + sums.count_K[some]
            centres_KD[some] = (centres_KD[some] * weight_K[some, None] + sums.sum_KD[some]) / total[:, None]
            weight_K[some] = total
            report(iteration * batches + batch + 1, max_iter * batches)
        search = CentreSearch(centres_KD.astype(np.float32), device)
        error = float(search.distance(check_VD, search.nearest(check_VD)).sum())
        if last_error - error <= MIN_GAIN["minibatch"] * last_error < np.inf:
            break
        last_error = error
    return centres_KD.astype(np.float32)


def _shuffled(vectors: Vectors, size: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """Yield blocks of `size` vectors (the last of a pool may be smaller) in random order, all before any comes again.

    The order does not depend on where the vectors lie. Up to `POOL` vectors it is uniform; more are shuffled in pools
    of runs of `RUN` neighbours.
    """
    runs = -(-len(vectors) // RUN)
    in_pool = max(1, max(POOL, size) // RUN)
    while True:
        order = rng.permutation(runs)
        for first in range(0, runs, in_pool):
            begins = np.sort(order[first : first + in_pool]) * RUN
            held = vectors.rows(
                np.concatenate([np.arange(begin, min(begin + RUN, len(vectors))) for begin in begins.tolist()])
            )
            mixed = rng.permutation(len(held))
            for begin in range(0, len(held), size):
                yield held[mixed[begin : begin + size]]
            del held  # before the next pool is read


class _Sums:
    """Sums (K, D) in float64 and numbers (K,) of the vectors of each cluster, and the sum of squares of all."""

    def __init__(self, num_clusters: int, num_dims: int) -> None:
        self.sum_KD = np.zeros((num_clusters, num_dims))
        self.count_K = np.zeros(num_clusters, dtype=np.int64)
        self.power = 0.0

    def add(self, x_BD: FloatArray, index_B: npt.NDArray[np.int32]) -> None:
        order = np.argsort(index_B, kind="stable")
        labels, first = np.unique(index_B[order], return_index=True)
        x64_BD = x_BD[order].astype(np.float64)
        # On the processor whatever the device: a GPU adds in any order.
        self.sum_KD[labels] += np.add.reduceat(x64_BD, first, axis=0)
        self.count_K += np.bincount(index_B, minlength=len(self.count_K))
        self.power += float(np.einsum("bd,bd->", x64_BD, x64_BD))


def _faiss(
    vectors: Vectors, num_clusters: int, seed: int, max_iter: int, device: str | torch.device, report: Progress
) -> FloatArray:
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingDependencyError(
            "k-means method 'faiss' needs faiss: pip install 'syllablelm[faiss]', or use method 'minibatch'"
        ) from error
    rng = np.random.default_rng(seed)
    size = min(len(vectors), VECTORS_PER_CENTRE * num_clusters)
    x_SD = vectors.rows(np.sort(rng.permutation(len(vectors))[:size]))
    centres: FloatArray | None = None
    last_error = np.inf
    for done in range(0, max_iter, CHUNK["faiss"]):
        count = min(CHUNK["faiss"], max_iter - done)
        model = faiss.Kmeans(
            vectors.dim, num_clusters, niter=count, nredo=1, seed=seed, min_points_per_centroid=1, verbose=False
        )
        error = model.train(x_SD, init_centroids=centres)
        centres = np.asarray(model.centroids)
        report(done + count, max_iter)
        if last_error - error <= MIN_GAIN["faiss"] * last_error < np.inf:
            break
        last_error = error
    if centres is None:
        raise InputError("k-means needs max_iter of at least 1")
    return centres


def _refill_empty(vectors: Vectors, centres_KD: FloatArray, device: str | torch.device) -> tuple[FloatArray, float]:
    """Move empty centres onto the most distant vectors; return the centres and the squared error."""
    centres_KD = centres_KD.copy()
    label_N = np.empty(len(vectors), dtype=np.int32)
    distance_N, power_N = np.empty(len(vectors)), np.empty(len(vectors))
    for _ in range(REFILL_ROUNDS):
        search, first = CentreSearch(centres_KD, device), 0
        for x_BD in vectors.blocks():
            rows = slice(first, first + len(x_BD))
            label_N[rows] = search.nearest(x_BD)
            distance_N[rows] = search.distance(x_BD, label_N[rows])
            power_N[rows] = np.einsum("bd,bd->b", x_BD, x_BD, dtype=np.float64)
            first = rows.stop
        count_K = np.bincount(label_N, minlength=len(centres_KD))
        empty = np.flatnonzero(count_K == 0)
        if len(empty) == 0:
            return centres_KD, float(distance_N.sum())
        # A vector alone in its cluster, or equal to its centre, cannot become another centre.
        spare = (distance_N > SAME_POINT * power_N) & (count_K[label_N] > 1)
        order = np.argsort(-distance_N, kind="stable")
        order = order[spare[order]]
        if len(order) == 0:
            break
        # Of equal vectors only one can win a centre, so a window with repeats is thinned before it is used.
        window = vectors.rows(order[: max(10_000, 4 * len(empty))])
        _, first_of = np.unique(window, axis=0, return_index=True)
        chosen = np.sort(first_of)[: len(empty)]
        centres_KD[empty[: len(chosen)]] = window[chosen]
    raise InputError(
        f"the {len(vectors)} vectors hold too few distinct ones for {len(centres_KD)} clusters: "
        "give more speech or ask for fewer clusters"
    )
