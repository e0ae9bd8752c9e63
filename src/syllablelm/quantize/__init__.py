"""From segment vectors to discrete units: pooling, k-means, Ward agglomeration, codebook."""

from __future__ import annotations

from syllablelm.quantize.codebook import Codebook, fit_codebook, pool_segments, standardize_vectors, ward_merge
from syllablelm.quantize.kmeans import fit_kmeans
from syllablelm.quantize.nearest import nearest_centre
from syllablelm.quantize.vectors import Vectors, VectorWriter, open_vectors

__all__ = [
    "Codebook",
    "VectorWriter",
    "Vectors",
    "fit_codebook",
    "fit_kmeans",
    "nearest_centre",
    "open_vectors",
    "pool_segments",
    "standardize_vectors",
    "ward_merge",
]
