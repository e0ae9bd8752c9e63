"""Scores of segmentations, units, language models and speech: one function ``evaluate_...`` for each evaluation.

Every metric is a frozen value of plain counts that can be added; ratios are its properties, so a corpus score is the
ratio of sums, never a mean of ratios. The names below are loaded on first use.

Arguments that several evaluations share:
    recordings: files, folders, patterns or one manifest, or the recordings themselves.
    source: recordings; or one file of units, or segmentations by recording id.
    units: file of units, scored instead of recordings.
    alignments: reference alignments: a file or a folder of them, or alignments by recording id.
    model: tokenizer, loaded or by its bundled name, folder, hub id or checkpoint file; where a language model or a
        vocoder is needed, a bundled name or a folder that holds them too.
    rate: units per second instead of the tokenizer's own.
    partial: whether a file of units may be of other recordings than the alignments; those that they share are scored.
    limit: maximum number of recordings.
    recognizer: name in `RECOGNIZERS`, or a model, see `load_recognizer`. workers: number of its processes.
    resamples: number of bootstrap resamples of the 95 % intervals.
    seed: random seed of the resamples, and of whatever else is drawn.
    device: "auto", "cpu" or "cuda".

An InputError about a list names the first recording at fault and gives their number.
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
    from syllablelm.evaluate.lm.cloze import evaluate_cloze
    from syllablelm.evaluate.lm.salmon import evaluate_salmon
    from syllablelm.evaluate.lm.study_scores import read_suites, score_study
    from syllablelm.evaluate.lm.suites import evaluate_lexical, evaluate_syntactic
    from syllablelm.evaluate.speech.continuation import evaluate_continuation
    from syllablelm.evaluate.speech.quality import evaluate_quality
    from syllablelm.evaluate.speech.resynthesis import evaluate_resynthesis
    from syllablelm.evaluate.speed import evaluate_speed
    from syllablelm.evaluate.system_speed import evaluate_system_speed
    from syllablelm.evaluate.units.abx import evaluate_abx
    from syllablelm.evaluate.units.bitrate import RateCounts, evaluate_bitrate, rate_counts
    from syllablelm.evaluate.units.phone_probe import evaluate_phones
    from syllablelm.evaluate.units.purity import PurityCounts, evaluate_purity, purity_counts, score_purity
    from syllablelm.evaluate.units.segment_matching import match_segments
    from syllablelm.evaluate.units.stability import evaluate_stability
    from syllablelm.evaluate.units.word_identity import evaluate_identity

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
    "evaluate_abx",
    "evaluate_bitrate",
    "evaluate_boundaries",
    "evaluate_cloze",
    "evaluate_continuation",
    "evaluate_identity",
    "evaluate_lexical",
    "evaluate_phones",
    "evaluate_purity",
    "evaluate_quality",
    "evaluate_resynthesis",
    "evaluate_salmon",
    "evaluate_speed",
    "evaluate_stability",
    "evaluate_syntactic",
    "evaluate_system_speed",
    "get_protocol",
    "match_segments",
    "purity_counts",
    "rate_counts",
    "read_suites",
    "score_boundaries",
    "score_purity",
    "score_study",
    "search_shift",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "bootstrap": ["bootstrap_difference", "bootstrap_interval"],
        "boundaries.matching": ["BoundaryCounts", "boundary_counts"],
        "boundaries.protocols": ["PROTOCOLS", "Protocol", "get_protocol"],
        "boundaries.run": ["BoundaryResult", "evaluate_boundaries"],
        "boundaries.scores": ["BoundaryScores", "score_boundaries", "search_shift"],
        "lm.cloze": ["evaluate_cloze"],
        "lm.salmon": ["evaluate_salmon"],
        "lm.study_scores": ["read_suites", "score_study"],
        "lm.suites": ["evaluate_lexical", "evaluate_syntactic"],
        "speech.continuation": ["evaluate_continuation"],
        "speech.quality": ["evaluate_quality"],
        "speech.resynthesis": ["evaluate_resynthesis"],
        "speed": ["evaluate_speed"],
        "system_speed": ["evaluate_system_speed"],
        "units.abx": ["evaluate_abx"],
        "units.bitrate": ["RateCounts", "evaluate_bitrate", "rate_counts"],
        "units.phone_probe": ["evaluate_phones"],
        "units.purity": ["PurityCounts", "evaluate_purity", "purity_counts", "score_purity"],
        "units.segment_matching": ["match_segments"],
        "units.stability": ["evaluate_stability"],
        "units.word_identity": ["evaluate_identity"],
    },
)
