"""Scores of segmentations and units: boundaries, purity, bit rates, intervals, tables.

Every metric is a frozen value of plain counts that can be added; ratios are its properties, so a corpus score is the
ratio of sums, never a mean of ratios. The names below are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syllablelm.evaluate.bitrate import RateCounts, rate_counts
    from syllablelm.evaluate.bootstrap import bootstrap_difference, bootstrap_interval
    from syllablelm.evaluate.boundaries import (
        PROTOCOLS,
        BoundaryCounts,
        BoundaryScores,
        Protocol,
        boundary_counts,
        get_protocol,
        score_boundaries,
        search_shift,
    )
    from syllablelm.evaluate.purity import PurityCounts, match_segments, purity_counts, score_purity
    from syllablelm.evaluate.table import format_table

_HOME = {
    "BoundaryCounts": "boundaries",
    "BoundaryScores": "boundaries",
    "PROTOCOLS": "boundaries",
    "Protocol": "boundaries",
    "PurityCounts": "purity",
    "RateCounts": "bitrate",
    "bootstrap_difference": "bootstrap",
    "bootstrap_interval": "bootstrap",
    "boundary_counts": "boundaries",
    "format_table": "table",
    "get_protocol": "boundaries",
    "match_segments": "purity",
    "purity_counts": "purity",
    "rate_counts": "bitrate",
    "score_boundaries": "boundaries",
    "score_purity": "purity",
    "search_shift": "boundaries",
}

__all__ = [
    "PROTOCOLS",
    "BoundaryCounts",
    "BoundaryScores",
    "Protocol",
    "PurityCounts",
    "RateCounts",
    "bootstrap_difference",
    "bootstrap_interval",
    "boundary_counts",
    "format_table",
    "get_protocol",
    "match_segments",
    "purity_counts",
    "rate_counts",
    "score_boundaries",
    "score_purity",
    "search_shift",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
