"""Segmentation: features, similarities or waveforms to boundaries, as pure functions, and the registry of methods.

Boundaries are int32 arrays [0, ..., num_frames]: `num_segments + 1` frame indices, strictly increasing. The names below
are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

if TYPE_CHECKING:
    from syllablelm.segment.baselines import boundary_strength, envelope, envelope_valleys, even_boundaries
    from syllablelm.segment.graph_cut import merge_similar, mincut, similarity_matrix
    from syllablelm.segment.least_squares import (
        feasible_count,
        minsum,
        minsum_dynamic,
        minsum_penalty,
        segment_costs,
    )
    from syllablelm.segment.losspred import losspred_matrix
    from syllablelm.segment.mel import log_mel, mfcc
    from syllablelm.segment.registry import METHODS, Method, get_method
    from syllablelm.segment.rivals import (
        greedy_cosine_merge,
        norm_peaks,
        norm_threshold_mincut,
        relative_threshold,
        similarity_merge,
    )
    from syllablelm.segment.segmenter import FrameGrid, Segmenter, make_segmenter

__all__ = [
    "METHODS",
    "FrameGrid",
    "Method",
    "Segmenter",
    "boundary_strength",
    "envelope",
    "envelope_valleys",
    "even_boundaries",
    "feasible_count",
    "get_method",
    "greedy_cosine_merge",
    "log_mel",
    "losspred_matrix",
    "make_segmenter",
    "merge_similar",
    "mfcc",
    "mincut",
    "minsum",
    "minsum_dynamic",
    "minsum_penalty",
    "norm_peaks",
    "norm_threshold_mincut",
    "relative_threshold",
    "segment_costs",
    "similarity_matrix",
    "similarity_merge",
]

# No module here may bear the name of a function: importing it would put the module in the function's place.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "baselines": ["boundary_strength", "envelope", "envelope_valleys", "even_boundaries"],
        "graph_cut": ["merge_similar", "mincut", "similarity_matrix"],
        "least_squares": ["feasible_count", "minsum", "minsum_dynamic", "minsum_penalty", "segment_costs"],
        "losspred": ["losspred_matrix"],
        "mel": ["log_mel", "mfcc"],
        "registry": ["METHODS", "Method", "get_method"],
        "rivals": [
            "greedy_cosine_merge",
            "norm_peaks",
            "norm_threshold_mincut",
            "relative_threshold",
            "similarity_merge",
        ],
        "segmenter": ["FrameGrid", "Segmenter", "make_segmenter"],
    },
)
