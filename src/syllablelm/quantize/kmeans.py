"""k-means by scikit-learn or faiss, with bounded work, and the shared nearest-centre search."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError, MissingDependencyError, unknown_name

FloatArray = npt.NDArray[np.float32]
Method = Literal["auto", "minibatch", "lloyd", "faiss"]
Progress = Callable[[int, int], None]

# Under "auto": distances (vectors x centres x dims) of one pass above which full Lloyd iterations get slow on a laptop.
LLOYD_LIMIT = 3e9
# Numbers in one block of the distance matrix: 32 MB of float64.
BLOCK_NUMBERS = 4_000_000
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
# Vectors a centre of one mini-batch iteration and of a whole faiss run (its own default); the rest is left out.
VECTORS_PER_CENTRE = 256
# Vectors that starts are drawn from, a centre at least, and the rounds they are drawn in where there are many.
START_VECTORS = 3
START_ROUNDS = 64
# Steps of the progress of one run.
PROGRESS_STEPS = 1000


def as_vectors(vectors: npt.ArrayLike, name: str = "vectors") -> FloatArray:
    """Check a matrix of vectors and return it as float32.

    Args:
        vectors: (N, D) real numbers; called ``name`` in error messages.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be a real matrix (number, dims), not {array.dtype}{array.shape}")
    # Values beyond the float32 range become infinite here and are reported with the others.
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    bad_rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad_rows):
        raise InputError(f"{name} hold NaN or infinite values in {len(bad_rows)} rows, first in row {bad_rows[0]}")
    return array


def nearest_centre(
    vectors: npt.ArrayLike, centres: npt.ArrayLike
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Find the nearest centre of each vector by matrix products over blocks, in bounded memory.

    The answer is that of double precision, so that a vector's centre does not depend on the batch it came in: float32
    products round differently for different block shapes. They only narrow the choice: where the rounding error of
    float32 leaves more than one centre, the distances to those are computed in float64. Of equally near centres the
    first wins.

    Args:
        vectors: (N, D).
        centres: (K, D), at least one.

    Returns:
        (N,) int32 index of the centre and (N,) float64 squared Euclidean distance to it.

    Raises:
        InputError: shapes that do not fit, NaN or infinite values.
    """
    x_ND, c_KD = as_vectors(vectors), as_vectors(centres, "centres")
    if len(c_KD) == 0 or x_ND.shape[1] != c_KD.shape[1]:
        raise InputError(f"vectors {x_ND.shape} and centres {c_KD.shape} do not fit: same dims and a centre are needed")
    c64_KD = c_KD.astype(np.float64)
    c_norm_K = np.einsum("kd,kd->k", c64_KD, c64_KD)
    x_norm_N = np.einsum("nd,nd->n", x_ND, x_ND, dtype=np.float64)
    # Twice a bound of one float32 score's error: D + 4 roundings of terms that add up to |c| (|c| + 2 |x|) at most.
    largest = float(np.sqrt(c_norm_K.max()))
    unit = (x_ND.shape[1] + 4) * float(np.finfo(np.float32).eps)
    margin_N = 2.0 * unit * largest * (largest + 2.0 * np.sqrt(x_norm_N))
    with np.errstate(over="ignore"):
        c32_DK, c_norm32_K = np.ascontiguousarray(c_KD.T), c_norm_K.astype(np.float32)
    index = np.empty(len(x_ND), dtype=np.int32)
    distance = np.empty(len(x_ND), dtype=np.float64)
    block = max(1, BLOCK_NUMBERS // len(c_KD))
    for first in range(0, len(x_ND), block):
        x_BD = x_ND[first : first + block]
        # |x - c|^2 without |x|^2, which does not change the arg-min.
        with np.errstate(over="ignore", invalid="ignore"):
            score_BK = x_BD @ c32_DK
            score_BK *= -2.0
            score_BK += c_norm32_K
        best_B = score_BK.argmin(axis=1)
        limit_B = score_BK[np.arange(len(best_B)), best_B] + margin_N[first : first + block]
        # Where a bound overflows float32 every centre is a candidate.
        near_BK = ~(score_BK > limit_B[:, None])
        for row in np.flatnonzero(near_BK.sum(axis=1) > 1):
            candidates = np.flatnonzero(near_BK[row])
            # Each dot product on its own: a matrix product may round equal rows differently.
            products = np.einsum("kd,d->k", c64_KD[candidates], x_BD[row].astype(np.float64))
            exact = c_norm_K[candidates] - 2.0 * products
            best_B[row] = candidates[exact.argmin()]
        chosen_BD = c64_KD[best_B]
        index[first : first + block] = best_B
        cross_B = np.einsum("bd,bd->b", x_BD.astype(np.float64), chosen_BD)
        nearest_B = c_norm_K[best_B] - 2.0 * cross_B + x_norm_N[first : first + block]
        distance[first : first + block] = np.maximum(nearest_B, 0.0)
    return index, distance


def choose_method(num_vectors: int, num_clusters: int, num_dims: int) -> Literal["minibatch", "lloyd", "faiss"]:
    """Return the method of "auto": full Lloyd where that is quick, else faiss if installed, else mini-batches."""
    if float(num_vectors) * num_clusters * num_dims <= LLOYD_LIMIT:
        return "lloyd"
    return "faiss" if importlib.util.find_spec("faiss") else "minibatch"


def fit_kmeans(
    vectors: npt.ArrayLike,
    num_clusters: int,
    *,
    method: Method = "auto",
    seed: int = 0,
    restarts: int = 1,
    max_iter: int | None = None,
    progress: Progress | None = None,
) -> FloatArray:
    """Fit k-means centres; every centre is the nearest one of at least one vector.

    Work is bounded: a run computes at most ``max_iter * n * num_clusters`` distances, where n is the number of vectors
    of one iteration (all for "lloyd", at most 256 per centre or 10,000 for the others), and
    ``max(10_000, 3 * num_clusters) * num_clusters`` for the starting centres. It ends earlier where an iteration lowers
    the squared error by less than `MIN_GAIN`: mini-batches on 84,000 vectors and 4,096 centres end after three.

    Args:
        vectors: (N, D), N >= num_clusters.
        num_clusters: number of centres.
        method: "lloyd" (scikit-learn, full passes), "minibatch" (scikit-learn, blocks of 10,000 vectors; an iteration
            is one pass, or 256 vectors per centre where that is less), "faiss" (256 vectors per centre, drawn at
            random, in the whole run), or "auto", see `choose_method`. Both scikit-learn methods start from k-means++.
        seed: random seed; the same vectors, method and seed give the same centres.
        restarts: number of runs, of which the one with the smallest squared error is kept.
        max_iter: maximum iterations of each run (default: 100 for "lloyd", 10 for "minibatch", 25 for "faiss").
        progress: called as progress(done, total) during the runs; units of equal work, total being the upper bound.
            The last call has done == total, also where the runs end early.

    Returns:
        (num_clusters, D) float32 centres.

    Raises:
        InputError: too few (distinct) vectors, NaN or infinite values, or an option out of range.
        MissingDependencyError: method "faiss" without faiss installed.
    """
    x_ND = as_vectors(vectors)
    if method not in get_args(Method):
        raise unknown_name("k-means method", method, get_args(Method))
    if num_clusters < 1 or restarts < 1 or (max_iter is not None and max_iter < 1):
        raise InputError("k-means needs num_clusters, restarts and max_iter of at least 1")
    if len(x_ND) < num_clusters:
        raise InputError(
            f"{len(x_ND)} vectors are too few for {num_clusters} clusters: give more speech or ask for fewer clusters"
        )
    if method == "auto":
        method = choose_method(len(x_ND), num_clusters, x_ND.shape[1])
    run = {"lloyd": _lloyd, "minibatch": _minibatch, "faiss": _faiss}[method]
    iterations = MAX_ITER[method] if max_iter is None else max_iter
    best: FloatArray | None = None
    best_error = np.inf
    for number in range(restarts):

        def report(done: int, steps: int, number: int = number) -> None:
            if progress is not None:
                progress(number * PROGRESS_STEPS + done * PROGRESS_STEPS // steps, restarts * PROGRESS_STEPS)

        centres = run(x_ND, num_clusters, seed + number, iterations, report)
        centres, error = _refill_empty(x_ND, np.ascontiguousarray(centres, dtype=np.float32))
        if best is None or error < best_error:
            best, best_error = centres, error
        report(1, 1)
    if best is None:
        raise InputError("k-means needs at least one run")
    return best


def _starts(x_ND: FloatArray, num_clusters: int, rng: np.random.Generator) -> FloatArray:
    """Draw initial centres from a part of the vectors, each with a probability proportional to its squared distance.

    This is k-means++ (Arthur and Vassilvitskii 2007) with several centres drawn between two updates of the distances,
    as in k-means|| (Bahmani et al. 2012), once there are many. scikit-learn's own draws each centre alone from several
    candidates and converts all vectors to double precision for each: 0.15 s of CPU time a centre (12,288 vectors of
    512 dims), ten minutes for 4,096 centres.
    """
    size = min(len(x_ND), max(BATCH, START_VECTORS * num_clusters))
    x_SD = x_ND[np.sort(rng.permutation(len(x_ND))[:size])]
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


def _lloyd(x_ND: FloatArray, num_clusters: int, seed: int, max_iter: int, report: Progress) -> npt.NDArray[np.float64]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    # Double precision: threads add their partial sums in any order, which must not show in the float32 centres.
    x64_ND = x_ND.astype(np.float64)
    centres = _starts(x_ND, num_clusters, np.random.default_rng(seed)).astype(np.float64)
    last_error = np.inf
    # scikit-learn reports no progress, so it runs a few iterations at a time.
    for done in range(0, max_iter, CHUNK["lloyd"]):
        count = min(CHUNK["lloyd"], max_iter - done)
        # The annotations of scikit-learn lag behind its documentation: n_init may be an integer.
        options: dict[str, Any] = {"init": centres, "n_init": 1, "max_iter": count}
        with warnings.catch_warnings():
            # "fewer distinct points than clusters": _refill_empty raises an error for that.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model: Any = KMeans(num_clusters, **options).fit(x64_ND)
        centres = model.cluster_centers_
        report(done + count, max_iter)
        if model.n_iter_ < count or last_error - model.inertia_ <= MIN_GAIN["lloyd"] * last_error < np.inf:
            break
        last_error = model.inertia_
    return centres


def _minibatch(x_ND: FloatArray, num_clusters: int, seed: int, max_iter: int, report: Progress) -> FloatArray:
    from sklearn.cluster import MiniBatchKMeans

    rng = np.random.default_rng(seed)
    # Without reassignment, which moves thousands of centres at a time where there are few vectors a centre.
    options: dict[str, Any] = {"n_init": 1, "reassignment_ratio": 0.0, "compute_labels": False, "random_state": seed}
    options["init"] = _starts(x_ND, num_clusters, rng)
    model: Any = MiniBatchKMeans(num_clusters, batch_size=BATCH, **options)
    check_VD = x_ND[np.sort(rng.permutation(len(x_ND))[:BATCH])]
    size = min(len(x_ND), max(BATCH, VECTORS_PER_CENTRE * num_clusters))
    last_error = np.inf
    waiting = np.zeros(0, dtype=np.int64)
    # scikit-learn wants at least as many vectors as centres in the first batch.
    step = max(BATCH, num_clusters)
    batches = -(-size // step)
    for iteration in range(max_iter):
        for batch in range(batches):
            if len(waiting) == 0:
                waiting = rng.permutation(len(x_ND))
            model.partial_fit(x_ND[waiting[:step]])
            waiting = waiting[step:]
            report(iteration * batches + batch + 1, max_iter * batches)
        # scikit-learn's own sum of squares depends on the order in which its threads finish.
        error = float(nearest_centre(check_VD, model.cluster_centers_)[1].sum())
        if last_error - error <= MIN_GAIN["minibatch"] * last_error < np.inf:
            break
        last_error = error
    return model.cluster_centers_


def _faiss(x_ND: FloatArray, num_clusters: int, seed: int, max_iter: int, report: Progress) -> FloatArray:
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingDependencyError(
            "k-means method 'faiss' needs faiss: pip install faiss-cpu, or use method 'minibatch'"
        ) from error
    rng = np.random.default_rng(seed)
    size = min(len(x_ND), VECTORS_PER_CENTRE * num_clusters)
    x_SD = np.ascontiguousarray(x_ND[np.sort(rng.permutation(len(x_ND))[:size])])
    centres: FloatArray | None = None
    last_error = np.inf
    for done in range(0, max_iter, CHUNK["faiss"]):
        count = min(CHUNK["faiss"], max_iter - done)
        model = faiss.Kmeans(
            x_ND.shape[1], num_clusters, niter=count, nredo=1, seed=seed, min_points_per_centroid=1, verbose=False
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


def _refill_empty(x_ND: FloatArray, centres_KD: FloatArray) -> tuple[FloatArray, float]:
    """Move empty centres onto the most distant vectors; return the centres and the squared error."""
    centres_KD = centres_KD.copy()
    power_N = np.einsum("nd,nd->n", x_ND, x_ND, dtype=np.float64)
    for _ in range(REFILL_ROUNDS):
        label_N, distance_N = nearest_centre(x_ND, centres_KD)
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
        window = order[: max(10_000, 4 * len(empty))]
        _, first = np.unique(x_ND[window], axis=0, return_index=True)
        chosen = window[np.sort(first)][: len(empty)]
        centres_KD[empty[: len(chosen)]] = x_ND[chosen]
    raise InputError(
        f"the {len(x_ND)} vectors hold too few distinct ones for {len(centres_KD)} clusters: "
        "give more speech or ask for fewer clusters"
    )
