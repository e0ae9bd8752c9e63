"""From segment vectors to discrete units: pooling, k-means, Ward agglomeration, codebook."""

from __future__ import annotations

from syllablelm.quantize.codebook import Codebook, fit_codebook, pool_segments, standardize_vectors, ward_merge
from syllablelm.quantize.kmeans import fit_kmeans, nearest_centre

__all__ = [
    "Codebook",
    "fit_codebook",
    "fit_kmeans",
    "nearest_centre",
    "pool_segments",
    "standardize_vectors",
    "ward_merge",
]
