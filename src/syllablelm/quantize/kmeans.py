"""k-means by scikit-learn or faiss, and the nearest-centre search that every user of centres shares."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from syllablelm.errors import InputError, MissingDependencyError

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


def as_vectors(vectors: npt.ArrayLike, name: str = "vectors") -> FloatArray:
    """Check a matrix of vectors and give it as float32.

    Args:
        vectors: (N, D) real numbers.
        name: how error messages call them.

    Raises:
        InputError: not two-dimensional, no dimensions, not numeric, or not finite.
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
    c32_DK, c_norm32_K = np.ascontiguousarray(c_KD.T), c_norm_K.astype(np.float32)
    index = np.empty(len(x_ND), dtype=np.int32)
    distance = np.empty(len(x_ND), dtype=np.float64)
    block = max(1, BLOCK_NUMBERS // len(c_KD))
    for first in range(0, len(x_ND), block):
        x_BD = x_ND[first : first + block]
        # |x - c|^2 without |x|^2, which does not change the arg-min.
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
    """Say what `method="auto"` means: full Lloyd where that is quick, else faiss if installed, else mini-batches."""
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
    max_iter: int = 100,
    progress: Progress | None = None,
) -> FloatArray:
    """Fit k-means centres; every centre is the nearest one of at least one vector.

    Args:
        vectors: (N, D), N >= num_clusters.
        num_clusters: number of centres.
        method: "lloyd" (scikit-learn, full passes), "minibatch" (scikit-learn, blocks of 10,000 vectors),
            "faiss" (at most 256 vectors per centre, drawn at random), or "auto", see `choose_method`.
            Both scikit-learn methods start from k-means++.
        seed: of every random choice; the same vectors, method and seed give the same centres.
        restarts: whole runs, of which the one with the smallest squared error is kept.
        max_iter: passes over the vectors in each run.
        progress: called as progress(runs done, restarts) after each run.

    Returns:
        (num_clusters, D) float32 centres.

    Raises:
        InputError: too few (distinct) vectors, NaN or infinite values, or an option out of range.
        MissingDependencyError: method "faiss" without faiss installed.
    """
    x_ND = as_vectors(vectors)
    if method not in get_args(Method):
        raise InputError(f"unknown k-means method {method!r}: choose one of {', '.join(get_args(Method))}")
    if num_clusters < 1 or restarts < 1 or max_iter < 1:
        raise InputError("k-means needs num_clusters, restarts and max_iter of at least 1")
    if len(x_ND) < num_clusters:
        raise InputError(
            f"{len(x_ND)} vectors are too few for {num_clusters} clusters: give more speech or ask for fewer clusters"
        )
    if method == "auto":
        method = choose_method(len(x_ND), num_clusters, x_ND.shape[1])
    run = {"lloyd": _lloyd, "minibatch": _minibatch, "faiss": _faiss}[method]
    best: FloatArray | None = None
    best_error = np.inf
    for done in range(restarts):
        centres = run(x_ND, num_clusters, seed + done, max_iter)
        centres, error = _refill_empty(x_ND, np.ascontiguousarray(centres, dtype=np.float32))
        if best is None or error < best_error:
            best, best_error = centres, error
        if progress is not None:
            progress(done + 1, restarts)
    if best is None:
        raise InputError("k-means needs at least one run")
    return best


def _lloyd(x_ND: FloatArray, num_clusters: int, seed: int, max_iter: int) -> npt.NDArray[np.float64]:
    from sklearn.cluster import KMeans

    # The annotations of scikit-learn lag behind its documentation: n_init may be an integer.
    options: dict[str, Any] = {"init": "k-means++", "n_init": 1, "max_iter": max_iter, "random_state": seed}
    model = KMeans(num_clusters, **options)
    # Double precision: threads add their partial sums in any order, which must not show in the float32 centres.
    return _quiet_fit(model, x_ND.astype(np.float64))


def _minibatch(x_ND: FloatArray, num_clusters: int, seed: int, max_iter: int) -> FloatArray:
    from sklearn.cluster import MiniBatchKMeans

    options: dict[str, Any] = {"init": "k-means++", "n_init": 1, "max_iter": max_iter, "random_state": seed}
    # Block size and patience as in SD-HuBERT's clustering.
    # k-means++ draws its starts from a part of the vectors: on all of them it would take most of the time.
    start_size = max(10_000, 3 * num_clusters)
    model = MiniBatchKMeans(num_clusters, batch_size=10_000, max_no_improvement=100, init_size=start_size, **options)
    return _quiet_fit(model, x_ND)


def _quiet_fit(model: Any, vectors: npt.NDArray) -> npt.NDArray:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # "fewer distinct points than clusters": _refill_empty sees the same and raises an error that says what to do.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(vectors).cluster_centers_


def _faiss(x_ND: FloatArray, num_clusters: int, seed: int, max_iter: int) -> FloatArray:
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingDependencyError(
            "k-means method 'faiss' needs faiss: pip install faiss-cpu, or use method 'minibatch'"
        ) from error
    model = faiss.Kmeans(
        x_ND.shape[1], num_clusters, niter=max_iter, nredo=1, seed=seed, min_points_per_centroid=1, verbose=False
    )
    model.train(np.ascontiguousarray(x_ND))
    return np.asarray(model.centroids)


def _refill_empty(x_ND: FloatArray, centres_KD: FloatArray) -> tuple[FloatArray, float]:
    """Move centres that no vector is nearest to onto the worst-served vectors; also give the squared error."""
    centres_KD = centres_KD.copy()
    power_N = np.einsum("nd,nd->n", x_ND, x_ND, dtype=np.float64)
    for _ in range(REFILL_ROUNDS):
        label_N, distance_N = nearest_centre(x_ND, centres_KD)
        count_K = np.bincount(label_N, minlength=len(centres_KD))
        empty = np.flatnonzero(count_K == 0)
        if len(empty) == 0:
            return centres_KD, float(distance_N.sum())
        # A vector that is alone in its cluster or sits on its centre has nothing to give.
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
