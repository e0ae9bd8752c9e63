"""Scores of segmentations and units: boundaries, purity, bit rates, intervals, tables.

Every metric is a frozen value of plain counts that can be added; ratios are its properties, so a corpus score is the
ratio of sums, never a mean of ratios. The names below are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syllablelm.core.lazy import lazy_names

if TYPE_CHECKING:
    from syllablelm.evaluate.bootstrap import bootstrap_difference, bootstrap_interval
    from syllablelm.evaluate.boundaries.matching import BoundaryCounts, boundary_counts
    from syllablelm.evaluate.boundaries.protocols import PROTOCOLS, Protocol, get_protocol
    from syllablelm.evaluate.boundaries.run import BoundaryResult, evaluate_boundaries
    from syllablelm.evaluate.boundaries.scores import BoundaryScores, score_boundaries, search_shift
    from syllablelm.evaluate.units.bitrate import RateCounts, rate_counts
    from syllablelm.evaluate.units.purity import PurityCounts, match_segments, purity_counts, score_purity

__all__ = [
    "PROTOCOLS",
    "BoundaryCounts",
    "BoundaryResult",
    "BoundaryScores",
    "Protocol",
    "PurityCounts",
    "RateCounts",
    "bootstrap_difference",
    "bootstrap_interval",
    "boundary_counts",
    "evaluate_boundaries",
    "get_protocol",
    "match_segments",
    "purity_counts",
    "rate_counts",
    "score_boundaries",
    "score_purity",
    "search_shift",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "bootstrap": ["bootstrap_difference", "bootstrap_interval"],
        "boundaries.protocols": ["PROTOCOLS", "Protocol", "get_protocol"],
        "boundaries.run": ["BoundaryResult", "evaluate_boundaries"],
        "boundaries.matching": ["BoundaryCounts", "boundary_counts"],
        "boundaries.scores": ["BoundaryScores", "score_boundaries", "search_shift"],
        "units.bitrate": ["RateCounts", "rate_counts"],
        "units.purity": ["PurityCounts", "match_segments", "purity_counts", "score_purity"],
    },
)
