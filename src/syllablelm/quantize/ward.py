"""Ward agglomeration of k-means centres into the final units."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError
from syllablelm.quantize.kmeans import as_vectors


def ward_merge(centres: npt.ArrayLike, num_units: int) -> npt.NDArray[np.int32]:
    """Merge centres into units, at each step the two clusters whose union adds the least squared error (Ward).

    The paper does not name its linkage; Ward is that of SD-HuBERT, with which it compares. Centres have equal weights,
    independent of their numbers of vectors. Memory and time grow with K squared: 4,096 centres of 512 dims take 3 s
    and 0.15 GB, 8,192 take 13 s and 0.55 GB, 32,768 would take 4 minutes and 9 GB.

    Args:
        centres: (K, D), K >= num_units.
        num_units: final number of clusters.

    Returns:
        (K,) int32 unit of each centre; units are numbered in the order of their first centre.

    Raises:
        InputError: fewer centres than units, num_units below 1, NaN or infinite values.
    """
    from sklearn.cluster import AgglomerativeClustering

    c_KD = as_vectors(centres, "centres")
    if not 1 <= num_units <= len(c_KD):
        raise InputError(f"{len(c_KD)} centres cannot be merged into {num_units} units: ask for 1 to {len(c_KD)} units")
    if num_units == len(c_KD):
        return np.arange(num_units, dtype=np.int32)
    if num_units == 1:
        return np.zeros(len(c_KD), dtype=np.int32)
    labels = AgglomerativeClustering(n_clusters=num_units, linkage="ward").fit_predict(c_KD.astype(np.float64))
    return _number_by_first_appearance(labels)


def _number_by_first_appearance(labels: npt.NDArray) -> npt.NDArray[np.int32]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse.reshape(-1)]
