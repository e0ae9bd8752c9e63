"""Features, similarities or waveforms to boundaries: pure functions, no models held.

Boundaries are int32 arrays [0, ..., num_frames]: `num_segments + 1` frame indices, strictly increasing.
Importing this package loads neither torch nor numba; they come with the first call that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_ON_DEMAND = {
    "boundary_strength": "baselines",
    "envelope": "baselines",
    "envelope_valleys": "baselines",
    "even_boundaries": "baselines",
    "greedy_cosine_merge": "rivals",
    "log_mel": "mel",
    "losspred_matrix": "losspred",
    "mfcc": "mel",
    "norm_peaks": "rivals",
    "norm_threshold_mincut": "rivals",
    "relative_threshold": "rivals",
    "similarity_merge": "rivals",
}

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


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
