"""Features, similarities or waveforms to boundaries: pure functions, no models held.

Boundaries are int32 arrays [0, ..., num_frames]: `num_segments + 1` frame indices, strictly increasing.
Importing this package loads neither torch nor numba; they come with the first call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

# Bound here and now, not on demand: these functions share their names with the modules that hold them, and the
# import system would put the module in the function's place whenever the module happened to be imported first.
from syllablelm.segment.mincut import merge_similar, mincut, similarity_matrix
from syllablelm.segment.minsum import feasible_count, minsum, minsum_dynamic, segment_costs

if TYPE_CHECKING:
    from syllablelm.segment.baselines import boundary_strength, envelope, envelope_valleys, even_boundaries
    from syllablelm.segment.losspred import losspred_matrix
    from syllablelm.segment.mel import log_mel, mfcc
    from syllablelm.segment.rivals import (
        greedy_cosine_merge,
        norm_peaks,
        norm_threshold_mincut,
        relative_threshold,
        similarity_merge,
    )

__all__ = [
    "boundary_strength",
    "envelope",
    "envelope_valleys",
    "even_boundaries",
    "feasible_count",
    "greedy_cosine_merge",
    "log_mel",
    "losspred_matrix",
    "merge_similar",
    "mfcc",
    "mincut",
    "minsum",
    "minsum_dynamic",
    "norm_peaks",
    "norm_threshold_mincut",
    "relative_threshold",
    "segment_costs",
    "similarity_matrix",
    "similarity_merge",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "baselines": ["boundary_strength", "envelope", "envelope_valleys", "even_boundaries"],
        "losspred": ["losspred_matrix"],
        "mel": ["log_mel", "mfcc"],
        "rivals": [
            "greedy_cosine_merge",
            "norm_peaks",
            "norm_threshold_mincut",
            "relative_threshold",
            "similarity_merge",
        ],
    },
)
